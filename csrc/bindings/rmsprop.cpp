#include "core/rmsprop.h"

#include "bindings/array.h"
#include "bindings/families.h"

namespace fastdl::bind {

namespace {

void rmsprop_step(const py::handle& param_, const py::handle& grad_, const py::handle& square_avg_,
                  const py::handle& grad_avg_, const py::handle& buf_, const py::handle& lr_, double alpha, double eps,
                  double weight_decay, double momentum, const py::handle& rounded_) {
  const char* kernel = "rmsprop_step";
  const RmspropHyper hyper{number<double>(kernel, "lr", lr_), alpha, eps, weight_decay, momentum};
  const Input param = flat(kernel, "param", param_, {}), grad = flat(kernel, "grad", grad_, param),
              square_avg = flat(kernel, "square_avg", square_avg_, param);
  Input grad_avg, buf;
  if (!grad_avg_.is_none()) grad_avg = flat(kernel, "grad_avg", grad_avg_, param);
  if (!buf_.is_none() || momentum != 0) buf = flat(kernel, "buf", buf_, param);
  const Input rounded = rounded_copy(kernel, rounded_, param);
  check_rmsprop_step(param, grad, square_avg, grad_avg, buf, hyper);
  run(param.view.size(), [&] { device::rmsprop_step(param, grad, square_avg, grad_avg, buf, rounded, hyper); });
}

}  // namespace

void add_rmsprop(py::module_& m) {
  m.def("rmsprop_step", &rmsprop_step, py::arg("param"), py::arg("grad"), py::arg("square_avg"), py::arg("grad_avg"),
        py::arg("buf"), py::arg("lr"), py::arg("alpha"), py::arg("eps"), py::arg("weight_decay"), py::arg("momentum"),
        py::arg("rounded") = py::none());
}

}  // namespace fastdl::bind
