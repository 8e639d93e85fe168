// Softmax: a block of threads for each row of a contiguous axis, a thread for each line of any other, which
// neighbouring threads walk down side by side. Rows are read three times, from the second on out of the caches.
#include "core/softmax.h"

#include <cmath>

#include "cuda/math.h"
#include "cuda/rows.h"

namespace fastdl::cuda::gpu {

namespace {

// y = exp(x - max) / sum, or x - max - log(sum) with kLog.
template <class T, bool kLog>
struct Forward {
  const T* x;
  T* y;

  FASTDL_DEVICE_ONLY void operator()(const Line& line) const {
    const T* const from = x + line.start;
    T* const to = y + line.start;
    const T top = line.top(from);
    const T sum = line.sum([&](int64_t i) {
      const T e = Math<T>::exp_negative(from[i] - top);
      if (!kLog) to[i] = e;
      return e;
    });
    const T factor = kLog ? std::log(sum) : 1 / sum;
    line.each([&](int64_t i) { to[i] = kLog ? (from[i] - top) - factor : to[i] * factor; });
  }
};

// dx = y (dy - sum(dy y)), or dy - exp(y) sum(dy) with kLog.
template <class T, bool kLog>
struct Backward {
  const T *dy, *y;
  T* dx;

  FASTDL_DEVICE_ONLY void operator()(const Line& line) const {
    const T *const g = dy + line.start, *const v = y + line.start;
    T* const to = dx + line.start;
    const T sum = line.sum([&](int64_t i) { return kLog ? g[i] : g[i] * v[i]; });
    line.each([&](int64_t i) { to[i] = kLog ? g[i] - std::exp(v[i]) * sum : v[i] * (g[i] - sum); });
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
