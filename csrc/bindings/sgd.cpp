#include "core/sgd.h"

#include "bindings/array.h"
#include "bindings/families.h"

namespace fastdl::bind {

namespace {

void sgd_step(const py::handle& param_, const py::handle& grad_, const py::handle& buf_, const py::handle& lr_,
              double momentum, double dampening, double weight_decay, bool nesterov, const py::handle& step_,
              const py::handle& rounded_) {
  const char* kernel = "sgd_step";
  const SgdHyper hyper{number<double>(kernel, "lr", lr_),          momentum, dampening, weight_decay, nesterov,
                       number<std::int64_t>(kernel, "step", step_)};
  const Input param = flat(kernel, "param", param_, {}), grad = flat(kernel, "grad", grad_, param);
  Input buf;
  if (!buf_.is_none() || momentum != 0) buf = flat(kernel, "buf", buf_, param);
  const Input rounded = rounded_copy(kernel, rounded_, param);
  check_sgd_step(param, grad, buf, hyper);
  run(param.view.size(), [&] { device::sgd_step(param, grad, buf, rounded, hyper); });
}

}  // namespace

void add_sgd(py::module_& m) {
  m.def("sgd_step", &sgd_step, py::arg("param"), py::arg("grad"), py::arg("buf"), py::arg("lr"), py::arg("momentum"),
        py::arg("dampening"), py::arg("weight_decay"), py::arg("nesterov"), py::arg("step"),
        py::arg("rounded") = py::none());
}

}  // namespace fastdl::bind
