#include "core/adam.h"

#include "bindings/array.h"
#include "bindings/families.h"

namespace fastdl::bind {

namespace {

void adam_step(const py::handle& param_, const py::handle& grad_, const py::handle& exp_avg_,
               const py::handle& exp_avg_sq_, const py::handle& max_exp_avg_sq_, const py::handle& lr_, double beta1,
               double beta2, double eps, double weight_decay, const py::handle& step_, bool decoupled,
               const py::handle& rounded_) {
  const char* kernel = "adam_step";
  const AdamHyper hyper{number<double>(kernel, "lr", lr_),           beta1,    beta2, eps, weight_decay,
                        number<std::int64_t>(kernel, "step", step_), decoupled};
  const Input param = flat(kernel, "param", param_, {}), grad = flat(kernel, "grad", grad_, param),
              exp_avg = flat(kernel, "exp_avg", exp_avg_, param),
              exp_avg_sq = flat(kernel, "exp_avg_sq", exp_avg_sq_, param);
  Input max_exp_avg_sq;
  if (!max_exp_avg_sq_.is_none()) max_exp_avg_sq = flat(kernel, "max_exp_avg_sq", max_exp_avg_sq_, param);
  const Input rounded = rounded_copy(kernel, rounded_, param);
  check_adam_step(param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq, hyper);
  run(param.view.size(), [&] { device::adam_step(param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq, rounded, hyper); });
}

}  // namespace

void add_adam(py::module_& m) {
  m.def("adam_step", &adam_step, py::arg("param"), py::arg("grad"), py::arg("exp_avg"), py::arg("exp_avg_sq"),
        py::arg("max_exp_avg_sq"), py::arg("lr"), py::arg("beta1"), py::arg("beta2"), py::arg("eps"),
        py::arg("weight_decay"), py::arg("step"), py::arg("decoupled"), py::arg("rounded") = py::none());
}

}  // namespace fastdl::bind
