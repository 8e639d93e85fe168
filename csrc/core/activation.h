// Activations, element by element; the formulas stand in core/activation_math.h.  Overwrite y or dx, which may be one
// of the inputs.  Save nothing: backward takes x or y as its name says.  No scratch. All views of one call have the
// same shape and strides, dense in some order of dimensions.
#pragma once
#include <string>

#include "core/check.h"
#include "core/kernel.h"

namespace fastdl {

void check_activation_backward(const char* kernel, const View& dy, const char* name, const View& x);
void check_softplus(const char* kernel, double beta, double threshold);
bool check_gelu(const char* kernel, const std::string& approximate);  // is it the tanh form?

namespace FASTDL_DEVICE {
inline Elementwise<void(View x, Out y)> relu_forward, sigmoid_forward, tanh_forward;
inline Elementwise<void(View dy, View y, Out dx)> relu_backward, sigmoid_backward, tanh_backward;
inline Elementwise<void(View x, double negative_slope, Out y)> leaky_relu_forward;
inline Elementwise<void(View dy, View x, double negative_slope, Out dx)> leaky_relu_backward;
inline Elementwise<void(View x, double beta, double threshold, Out y)> softplus_forward;
inline Elementwise<void(View dy, View x, double beta, double threshold, Out dx)> softplus_backward;
inline Elementwise<void(View x, double alpha, Out y)> elu_forward;
inline Elementwise<void(View dy, View x, double alpha, Out dx)> elu_backward;
inline Elementwise<void(View x, bool tanh_form, Out y)> gelu_forward;
inline Elementwise<void(View dy, View x, bool tanh_form, Out dx)> gelu_backward;
}  // namespace FASTDL_DEVICE

}  // namespace fastdl
