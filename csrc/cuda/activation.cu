// Activations: one pass over flat memory each; the formulas are the CPU's (core/activation_math.h).
#include "core/activation.h"

#include "core/activation_math.h"
#include "core/bfloat16.h"
#include "cuda/map.h"
#include "cuda/math.h"

namespace fastdl::cuda::gpu {

namespace {

// Functors instead of lambdas: one works for both types.
struct Relu {
  template <class T>
  FASTDL_BOTH T operator()(T x) const {
    return activation::relu(x);
  }
  template <class T>
  FASTDL_BOTH T operator()(T dy, T y) const {
    return activation::relu_backward(dy, y);
  }
};
struct Sigmoid {
  template <class T>
  FASTDL_BOTH T operator()(T x) const {
    return Math<T>::sigmoid(x);
  }
  template <class T>
  FASTDL_BOTH T operator()(T dy, T y) const {
    return activation::sigmoid_backward(dy, y);
  }
};
struct Tanh {
  template <class T>
  FASTDL_BOTH T operator()(T x) const {
    return Math<T>::tanh(x);
  }
  template <class T>
  FASTDL_BOTH T operator()(T dy, T y) const {
    return activation::tanh_backward(dy, y);
  }
};
struct LeakyRelu {
  double slope;
  template <class T>
  FASTDL_BOTH T operator()(T x) const {
    return activation::leaky_relu(x, static_cast<T>(slope));
  }
  template <class T>
  FASTDL_BOTH T operator()(T dy, T x) const {
    return activation::leaky_relu_backward(dy, x, static_cast<T>(slope));
  }
};
struct Elu {
  double alpha;
  template <class T>
  FASTDL_BOTH T operator()(T x) const {
    return activation::elu<Math<T>>(x, static_cast<T>(alpha));
  }
  template <class T>
  FASTDL_BOTH T operator()(T dy, T x) const {
    return activation::elu_backward<Math<T>>(dy, x, static_cast<T>(alpha));
  }
};
struct Softplus {
  double beta, inverse_beta, threshold;
  template <class T>
  FASTDL_BOTH activation::Softplus<T> parameters() const {
    return {static_cast<T>(beta), static_cast<T>(inverse_beta), static_cast<T>(threshold)};
  }
  template <class T>
  FASTDL_BOTH T operator()(T x) const {
    return activation::softplus<Math<T>>(x, parameters<T>());
  }
  template <class T>
  FASTDL_BOTH T operator()(T dy, T x) const {
    return activation::softplus_backward<Math<T>>(dy, x, parameters<T>());
  }
};
struct Gelu {
  template <class T>
  FASTDL_BOTH T operator()(T x) const {
    return activation::gelu<Math<T>>(x);
  }
  template <class T>
  FASTDL_BOTH T operator()(T dy, T x) const {
    return activation::gelu_backward<Math<T>, T>(dy, x);
  }
};
struct GeluTanh {
  template <class T>
  FASTDL_BOTH T operator()(T x) const {
    return activation::gelu_tanh<Math<T>, T>(x);
  }
  template <class T>
  FASTDL_BOTH T operator()(T dy, T x) const {
    return activation::gelu_tanh_backward<Math<T>, T>(dy, x);
  }
};

template <class F>
void forward(View x, Out y, const F& f) {
  with_any_float(x.dtype, [&](auto type) {
    using T = decltype(type);
    map(x.size(), y.as<T>(), f, static_cast<const T*>(x.as<T>()));
  });
}
template <class F>
void backward(View dy, View x, Out dx, const F& f) {
  with_any_float(x.dtype, [&](auto type) {
    using T = decltype(type);
    map(x.size(), dx.as<T>(), f, static_cast<const T*>(dy.as<T>()), static_cast<const T*>(x.as<T>()));
  });
}

}  // namespace

void relu_forward(View x, Out y) { forward(x, y, Relu{}); }
void relu_backward(View dy, View y, Out dx) { backward(dy, y, dx, Relu{}); }
void sigmoid_forward(View x, Out y) { forward(x, y, Sigmoid{}); }
void sigmoid_backward(View dy, View y, Out dx) { backward(dy, y, dx, Sigmoid{}); }
void tanh_forward(View x, Out y) { forward(x, y, Tanh{}); }
void tanh_backward(View dy, View y, Out dx) { backward(dy, y, dx, Tanh{}); }
void leaky_relu_forward(View x, double slope, Out y) { forward(x, y, LeakyRelu{slope}); }
void leaky_relu_backward(View dy, View x, double slope, Out dx) { backward(dy, x, dx, LeakyRelu{slope}); }
void elu_forward(View x, double alpha, Out y) { forward(x, y, Elu{alpha}); }
void elu_backward(View dy, View x, double alpha, Out dx) { backward(dy, x, dx, Elu{alpha}); }
void softplus_forward(View x, double beta, double threshold, Out y) {
  forward(x, y, Softplus{beta, 1 / beta, threshold});
}
void softplus_backward(View dy, View x, double beta, double threshold, Out dx) {
  backward(dy, x, dx, Softplus{beta, 1 / beta, threshold});
}
void gelu_forward(View x, bool tanh_form, Out y) { tanh_form ? forward(x, y, GeluTanh{}) : forward(x, y, Gelu{}); }
void gelu_backward(View dy, View x, bool tanh_form, Out dx) {
  tanh_form ? backward(dy, x, dx, GeluTanh{}) : backward(dy, x, dx, Gelu{});
}

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

}  // namespace fastdl::cuda::gpu
