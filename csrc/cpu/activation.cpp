// Activations: one pass over flat memory each. Those without exp run at the speed of memory, the others take 0.3 to
// 1 ns an element (float, AVX-512).
#include "core/activation.h"

#include "core/activation_math.h"
#include "cpu/flat.h"
#include "cpu/vmath.h"

namespace fastdl::cpu::FASTDL_ISA {

namespace {

constexpr double kCheap = 2, kDear = 6;  // ns per vector

template <class T>
struct VectorMath {
  typedef Vec<T> V;
  static FASTDL_INLINE V exp_negative(V x) { return vmath::exp_negative<T>(x); }
  static FASTDL_INLINE V expm1_negative(V x) { return vmath::expm1_negative<T>(x); }
  static FASTDL_INLINE V tanh(V x) { return vmath::tanh<T>(x); }
  static FASTDL_INLINE V sigmoid(V x) { return vmath::sigmoid<T>(x); }
  static FASTDL_INLINE V softplus(V x) { return vmath::softplus<T>(x); }
  static FASTDL_INLINE V normal_cdf(V x, V& bell) { return vmath::normal_cdf<T>(x, bell); }
};

// y = f(x) for every element; f(type) gives the function on vectors of that type.
template <class F>
FASTDL_INLINE void map(View x, View y, double cost, const F& f) {
  with_float(x.dtype, [&](auto type) {
    using T = decltype(type);
    map_flat<T>(x.size(), cost / kLanes<T>, y.as<T>(), f(type), static_cast<const T*>(x.as<T>()));
  });
}

template <class F>
FASTDL_INLINE void map(View dy, View x, View dx, double cost, const F& f) {
  with_float(x.dtype, [&](auto type) {
    using T = decltype(type);
    map_flat<T>(x.size(), cost / kLanes<T>, dx.as<T>(), f(type), static_cast<const T*>(dy.as<T>()),
                static_cast<const T*>(x.as<T>()));
  });
}

template <class T>
FASTDL_INLINE activation::Softplus<T> softplus_of(double beta, double threshold) {
  return {static_cast<T>(beta), static_cast<T>(1 / beta), static_cast<T>(threshold)};
}

}  // namespace

#define FASTDL_FORWARD(cost, expression)                                        \
  map(x, y, cost, [=](auto type) {                                              \
    using T [[maybe_unused]] = decltype(type);                                  \
    using M [[maybe_unused]] = VectorMath<T>;                                   \
    return [=](Vec<T> x) __attribute__((always_inline)) { return expression; }; \
  })
#define FASTDL_BACKWARD(cost, expression)                                                  \
  map(dy, x, dx, cost, [=](auto type) {                                                    \
    using T [[maybe_unused]] = decltype(type);                                             \
    using M [[maybe_unused]] = VectorMath<T>;                                              \
    return [=](Vec<T> dy, Vec<T> x) __attribute__((always_inline)) { return expression; }; \
  })

void relu_forward(View x, Out y) { FASTDL_FORWARD(kCheap, activation::relu(x)); }
void relu_backward(View dy, View x, Out dx) { FASTDL_BACKWARD(kCheap, activation::relu_backward(dy, x)); }

void leaky_relu_forward(View x, double slope, Out y) {
  FASTDL_FORWARD(kCheap, activation::leaky_relu(x, static_cast<T>(slope)));
}
void leaky_relu_backward(View dy, View x, double slope, Out dx) {
  FASTDL_BACKWARD(kCheap, activation::leaky_relu_backward(dy, x, static_cast<T>(slope)));
}

void sigmoid_forward(View x, Out y) { FASTDL_FORWARD(kDear, M::sigmoid(x)); }
void sigmoid_backward(View dy, View x, Out dx) { FASTDL_BACKWARD(kCheap, activation::sigmoid_backward(dy, x)); }

void tanh_forward(View x, Out y) { FASTDL_FORWARD(kDear, M::tanh(x)); }
void tanh_backward(View dy, View x, Out dx) { FASTDL_BACKWARD(kCheap, activation::tanh_backward(dy, x)); }

void softplus_forward(View x, double beta, double threshold, Out y) {
  FASTDL_FORWARD(kDear, activation::softplus<M>(x, softplus_of<T>(beta, threshold)));
}
void softplus_backward(View dy, View x, double beta, double threshold, Out dx) {
  FASTDL_BACKWARD(kDear, activation::softplus_backward<M>(dy, x, softplus_of<T>(beta, threshold)));
}

void elu_forward(View x, double alpha, Out y) { FASTDL_FORWARD(kDear, activation::elu<M>(x, static_cast<T>(alpha))); }
void elu_backward(View dy, View x, double alpha, Out dx) {
  FASTDL_BACKWARD(kDear, activation::elu_backward<M>(dy, x, static_cast<T>(alpha)));
}

void gelu_forward(View x, bool tanh_form, Out y) {
  if (tanh_form)
    FASTDL_FORWARD(kDear, (activation::gelu_tanh<M, T>(x)));
  else
    FASTDL_FORWARD(kDear, activation::gelu<M>(x));
}
void gelu_backward(View dy, View x, bool tanh_form, Out dx) {
  if (tanh_form)
    FASTDL_BACKWARD(kDear, (activation::gelu_tanh_backward<M, T>(dy, x)));
  else
    FASTDL_BACKWARD(kDear, (activation::gelu_backward<M, T>(dy, x)));
}

#undef FASTDL_FORWARD
#undef FASTDL_BACKWARD

FASTDL_REGISTER(relu_forward)
FASTDL_REGISTER(relu_backward)
FASTDL_REGISTER(leaky_relu_forward)
FASTDL_REGISTER(leaky_relu_backward)
FASTDL_REGISTER(sigmoid_forward)
FASTDL_REGISTER(sigmoid_backward)
FASTDL_REGISTER(tanh_forward)
FASTDL_REGISTER(tanh_backward)
FASTDL_REGISTER(softplus_forward)
FASTDL_REGISTER(softplus_backward)
FASTDL_REGISTER(elu_forward)
FASTDL_REGISTER(elu_backward)
FASTDL_REGISTER(gelu_forward)
FASTDL_REGISTER(gelu_backward)

}  // namespace fastdl::cpu::FASTDL_ISA
