// Softmax, by the lines of rows.h: rows are read once and stay on the chip up to 12,000 floats, or 6,000 for backward.
#include "core/softmax.h"

#include <cmath>

#include "cuda/math.h"
#include "cuda/rows.h"

namespace fastdl::cuda::gpu {

namespace {

// y = exp(x - max) / sum, or x - max - log(sum) with kLog.
template <class T, bool kLog>
struct Forward {
  using Element = T;
  static constexpr int kArrays = 1;
  static constexpr bool kOnce = false;
  const T* x;
  T* y;

  FASTDL_DEVICE_ONLY Arrays<T, 1> arrays() const { return {{x}}; }
  template <class Row>
  FASTDL_DEVICE_ONLY void operator()(const Row& row, int64_t, int64_t start) const {
    const T top = row.top();
    const T sum = row.sum_of_values([&](T u) { return Math<T>::exp_share(u - top); });  // 1 and more
    const T factor = kLog ? std::log(sum) : 1 / sum;
    T* const to = y + start;
    row.each([&](int64_t i, T u) { to[i] = kLog ? (u - top) - factor : Math<T>::exp_negative(u - top) * factor; });
  }
};

// dx = y (dy - sum(dy y)), or dy - exp(y) sum(dy) with kLog.
template <class T, bool kLog>
struct Backward {
  using Element = T;
  static constexpr int kArrays = 2;
  static constexpr bool kOnce = false;
  const T *dy, *y;
  T* dx;

  FASTDL_DEVICE_ONLY Arrays<T, 2> arrays() const { return {{dy, y}}; }
  template <class Row>
  FASTDL_DEVICE_ONLY void operator()(const Row& row, int64_t, int64_t start) const {
    const T sum = row.sum_of_values([](T g, T v) { return kLog ? g : g * v; });
    T* const to = dx + start;
    row.each([&](int64_t i, T g, T v) { to[i] = kLog ? g - std::exp(v) * sum : v * (g - sum); });
  }
};

template <bool kLog>
void forward(View x, const SoftmaxDims& d, View y) {
  with_float(x.dtype, [&](auto type) {
    using T = decltype(type);
    for_lines(d.outer, d.n, d.inner, Forward<T, kLog>{x.as<T>(), y.as<T>()});
  });
}

template <bool kLog>
void backward(View dy, View y, const SoftmaxDims& d, View dx) {
  with_float(y.dtype, [&](auto type) {
    using T = decltype(type);
    for_lines(d.outer, d.n, d.inner, Backward<T, kLog>{dy.as<T>(), y.as<T>(), dx.as<T>()});
  });
}

}  // namespace

void softmax_forward(View x, SoftmaxDims d, Out y) { forward<false>(x, d, y); }
void log_softmax_forward(View x, SoftmaxDims d, Out y) { forward<true>(x, d, y); }
void softmax_backward(View dy, View y, SoftmaxDims d, Out dx) { backward<false>(dy, y, d, dx); }
void log_softmax_backward(View dy, View y, SoftmaxDims d, Out dx) { backward<true>(dy, y, d, dx); }

FASTDL_REGISTER(softmax_forward)
FASTDL_REGISTER(log_softmax_forward)
FASTDL_REGISTER(softmax_backward)
FASTDL_REGISTER(log_softmax_backward)

}  // namespace fastdl::cuda::gpu
