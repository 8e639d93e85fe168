// Activations and their slopes, one element or one vector V of them; T is the element type of V and M its elementary
// functions. Backward forms give dx from dy and x, or from dy and y = f(x) where that is enough.
#pragma once
#include "core/view.h"

namespace fastdl::activation {

template <class V>
FASTDL_BOTH V relu(V x) {
  return x < 0 ? V{} : x;
}
template <class V>
FASTDL_BOTH V relu_backward(V dy, V y) {
  return y <= 0 ? V{} : dy;
}

template <class T, class V>
FASTDL_BOTH V leaky_relu(V x, T slope) {
  return x > 0 ? x : x * slope;
}
template <class T, class V>
FASTDL_BOTH V leaky_relu_backward(V dy, V x, T slope) {
  return x > 0 ? dy : dy * slope;
}

template <class V>
FASTDL_BOTH V sigmoid_backward(V dy, V y) {
  return dy * ((1 - y) * y);
}
template <class V>
FASTDL_BOTH V tanh_backward(V dy, V y) {
  return dy * (1 - y * y);
}

template <class T>
struct Softplus {
  T beta, inverse_beta, threshold;
};
template <class M, class T, class V>
FASTDL_BOTH V softplus(V x, Softplus<T> p) {
  const V z = x * p.beta;
  return z > p.threshold ? x : M::softplus(z) * p.inverse_beta;
}
template <class M, class T, class V>
FASTDL_BOTH V softplus_backward(V dy, V x, Softplus<T> p) {
  const V z = x * p.beta;
  return z > p.threshold ? dy : dy * M::sigmoid(z);
}

template <class M, class T, class V>
FASTDL_BOTH V elu(V x, T alpha) {
  return x > 0 ? x : M::expm1_negative(x) * alpha;
}
template <class M, class T, class V>
FASTDL_BOTH V elu_backward(V dy, V x, T alpha) {
  return x > 0 ? dy : dy * (M::exp_negative(x) * alpha);
}

template <class M, class V>
FASTDL_BOTH V gelu(V x) {
  V bell;
  return x * M::normal_cdf(x, bell);
}
// P(x) + x P'(x), P' = exp(-x^2 / 2) / sqrt(2 pi)
template <class M, class T, class V>
FASTDL_BOTH V gelu_backward(V dy, V x) {
  V bell;
  const V cdf = M::normal_cdf(x, bell);
  return dy * (cdf + x * (bell * static_cast<T>(0.3989422804014327)));
}

// 2 z with z = sqrt(2 / pi) (x + 0.044715 x^3): (1 + tanh(z)) / 2 = sigmoid(2 z), which keeps its digits where tanh
// nears -1.
template <class T, class V>
FASTDL_BOTH V gelu_inner(V x) {
  return (x + static_cast<T>(0.044715) * x * x * x) * static_cast<T>(1.5957691216057308);
}
template <class M, class T, class V>
FASTDL_BOTH V gelu_tanh(V x) {
  return x * M::sigmoid(gelu_inner<T>(x));
}
template <class M, class T, class V>
FASTDL_BOTH V gelu_tanh_backward(V dy, V x) {
  const V z = gelu_inner<T>(x), cdf = M::sigmoid(z);
  const V slope = cdf * M::sigmoid(-z) * (static_cast<T>(1.5957691216057308) * (1 + static_cast<T>(0.134145) * x * x));
  return dy * (cdf + x * slope);
}

}  // namespace fastdl::activation
