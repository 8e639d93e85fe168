#include "core/activation.h"

#include "bindings/array.h"
#include "bindings/families.h"

namespace fastdl::bind {

namespace {

// Results keep the memory order of x (or y), so that channels-last stays channels-last.
template <class Call, class... Values>
Array forward(const Call& call, const Input& x, Values... values) {
  Output y = empty_like(x.view);
  run(x.view.size(), [&] { call(x, values..., y.view); });
  return y.array;
}

template <class Call, class... Values>
Array backward(const Call& call, const char* kernel, const py::handle& dy_, const char* name, const Input& x,
               Values... values) {
  const Input strided_dy = strided(kernel, "dy", dy_, Floats::any);
  check_activation_backward(kernel, strided_dy, name, x);
  const Input dy = reordered(strided_dy, x);
  Output dx = empty_like(x.view);
  run(x.view.size(), [&] { call(dy, x, values..., dx.view); });
  return dx.array;
}

// relu, sigmoid, tanh: no parameters, backward takes y.
template <class Forward, class Backward>
void add_plain(py::module_& m, const char* forward_name, const Forward& forward_call, const char* backward_name,
               const Backward& backward_call) {
  m.def(
      forward_name,
      [forward_name, &forward_call](const py::handle& x) {
        return forward(forward_call, dense(forward_name, "x", x, Floats::any));
      },
      py::arg("x"));
  m.def(
      backward_name,
      [backward_name, &backward_call](const py::handle& dy, const py::handle& y) {
        return backward(backward_call, backward_name, dy, "y", dense(backward_name, "y", y, Floats::any));
      },
      py::arg("dy"), py::arg("y"));
}

// leaky_relu, elu: one number, backward takes x.
template <class Forward, class Backward>
void add_with_number(py::module_& m, const char* number, const char* forward_name, const Forward& forward_call,
                     const char* backward_name, const Backward& backward_call) {
  m.def(
      forward_name,
      [=, &forward_call](const py::handle& x_, double value) {
        const Input x = dense(forward_name, "x", x_, Floats::any);
        check::number(forward_name, number, value);
        return forward(forward_call, x, value);
      },
      py::arg("x"), py::arg(number));
  m.def(
      backward_name,
      [=, &backward_call](const py::handle& dy, const py::handle& x_, double value) {
        const Input x = dense(backward_name, "x", x_, Floats::any);
        check::number(backward_name, number, value);
        return backward(backward_call, backward_name, dy, "x", x, value);
      },
      py::arg("dy"), py::arg("x"), py::arg(number));
}

Array softplus_forward(const py::handle& x_, double beta, double threshold) {
  const Input x = dense("softplus_forward", "x", x_, Floats::any);
  check_softplus("softplus_forward", beta, threshold);
  return forward(device::softplus_forward, x, beta, threshold);
}

Array softplus_backward(const py::handle& dy, const py::handle& x_, double beta, double threshold) {
  const Input x = dense("softplus_backward", "x", x_, Floats::any);
  check_softplus("softplus_backward", beta, threshold);
  return backward(device::softplus_backward, "softplus_backward", dy, "x", x, beta, threshold);
}

Array gelu_forward(const py::handle& x_, const std::string& approximate) {
  const Input x = dense("gelu_forward", "x", x_, Floats::any);
  return forward(device::gelu_forward, x, check_gelu("gelu_forward", approximate));
}

Array gelu_backward(const py::handle& dy, const py::handle& x_, const std::string& approximate) {
  const Input x = dense("gelu_backward", "x", x_, Floats::any);
  const bool tanh_form = check_gelu("gelu_backward", approximate);
  return backward(device::gelu_backward, "gelu_backward", dy, "x", x, tanh_form);
}

}  // namespace

void add_activation(py::module_& m) {
  add_plain(m, "relu_forward", device::relu_forward, "relu_backward", device::relu_backward);
  add_plain(m, "sigmoid_forward", device::sigmoid_forward, "sigmoid_backward", device::sigmoid_backward);
  add_plain(m, "tanh_forward", device::tanh_forward, "tanh_backward", device::tanh_backward);
  add_with_number(m, "negative_slope", "leaky_relu_forward", device::leaky_relu_forward, "leaky_relu_backward",
                  device::leaky_relu_backward);
  add_with_number(m, "alpha", "elu_forward", device::elu_forward, "elu_backward", device::elu_backward);
  m.def("softplus_forward", &softplus_forward, py::arg("x"), py::arg("beta"), py::arg("threshold"));
  m.def("softplus_backward", &softplus_backward, py::arg("dy"), py::arg("x"), py::arg("beta"), py::arg("threshold"));
  m.def("gelu_forward", &gelu_forward, py::arg("x"), py::arg("approximate"));
  m.def("gelu_backward", &gelu_backward, py::arg("dy"), py::arg("x"), py::arg("approximate"));
}

}  // namespace fastdl::bind
