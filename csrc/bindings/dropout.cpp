#include "core/dropout.h"

#include "bindings/array.h"
#include "bindings/families.h"
#include "bindings/stream.h"

namespace fastdl::bind {

namespace {

Array dropout(const py::handle& x_, double p, const py::handle& seed, const py::handle& counter) {
  const char* kernel = "dropout";
  const Input x = activation(kernel, "x", x_, Floats::any);
  check::number(kernel, "p", p, 0, 1);
  const PhiloxStream words = stream(kernel, seed, counter);
  Output y = empty_activation(x.view.dtype, x.view.shape, x.view.ndim);
  run(x.view.size(), [&] { device::dropout(x, p, words, y.view); });
  return y.array;
}

}  // namespace

void add_dropout(py::module_& m) {
  m.def("dropout", &dropout, py::arg("x"), py::arg("p"), py::arg("seed"), py::arg("counter"));
}

}  // namespace fastdl::bind
