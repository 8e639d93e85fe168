#include "core/softmax.h"

#include "bindings/array.h"
#include "bindings/families.h"

namespace fastdl::bind {

namespace {

template <class Call>
void add_forward(py::module_& m, const char* kernel, const Call& call) {
  m.def(
      kernel,
      [kernel, &call](const py::handle& x_, std::int64_t axis) {
        const Input x = dense(kernel, "x", x_);
        const SoftmaxDims d = check_softmax(kernel, "x", x, axis, View{});
        Output y = empty_like(x.view);
        run(x.view.size(), [&] { call(x, d, y.view); });
        return y.array;
      },
      py::arg("x"), py::arg("axis"));
}

template <class Call>
void add_backward(py::module_& m, const char* kernel, const Call& call) {
  m.def(
      kernel,
      [kernel, &call](const py::handle& dy_, const py::handle& y_, std::int64_t axis) {
        const Input y = dense(kernel, "y", y_), strided_dy = strided(kernel, "dy", dy_);
        const SoftmaxDims d = check_softmax(kernel, "y", y, axis, strided_dy);
        const Input dy = reordered(strided_dy, y);
        Output dx = empty_like(y.view);
        run(y.view.size(), [&] { call(dy, y, d, dx.view); });
        return dx.array;
      },
      py::arg("dy"), py::arg("y"), py::arg("axis"));
}

}  // namespace

void add_softmax(py::module_& m) {
  add_forward(m, "softmax_forward", device::softmax_forward);
  add_forward(m, "log_softmax_forward", device::log_softmax_forward);
  add_backward(m, "softmax_backward", device::softmax_backward);
  add_backward(m, "log_softmax_backward", device::log_softmax_backward);
}

}  // namespace fastdl::bind
