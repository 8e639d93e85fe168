// Softmax. A contiguous axis is done row by row: maximum, exp and sum, scale, each pass while the row is in cache. Any
// other axis is done for one vector of neighbours at a time, walking down the axis.
#include "core/softmax.h"

#include "cpu/rows.h"

namespace fastdl::cpu::FASTDL_ISA {

namespace {

// y = exp(x - max) / sum, or x - max - log(sum) with kLog.
template <class T, bool kLog>
FASTDL_INLINE void forward_row(const T* x, int64_t n, T* y) {
  const T top = max_of_row(x, n);
  const T sum = sum_of<T>(0, n, [&](int64_t i, int64_t count) __attribute__((always_inline)) {
    const Vec<T> e = vmath::exp_negative<T>(load_up_to(x + i, count) - top);
    if (!kLog) store_up_to(y + i, e, count);
    return e;
  });
  const T factor = kLog ? log_of(sum) : 1 / sum;
  for_vectors<T>(0, n, [&](int64_t i, int64_t count) __attribute__((always_inline)) {
    if (kLog)
      store_up_to(y + i, (load_up_to(x + i, count) - top) - factor, count);
    else
      store_up_to(y + i, load_up_to(y + i, count) * factor, count);
  });
}

// dx = y (dy - sum(dy y)), or dy - exp(y) sum(dy) with kLog.
template <class T, bool kLog>
FASTDL_INLINE void backward_row(const T* dy, const T* y, int64_t n, T* dx) {
  const T sum = sum_of<T>(0, n, [&](int64_t i, int64_t count) __attribute__((always_inline)) {
    return kLog ? load_up_to(dy + i, count) : load_up_to(dy + i, count) * load_up_to(y + i, count);
  });
  for_vectors<T>(0, n, [&](int64_t i, int64_t count) __attribute__((always_inline)) {
    const Vec<T> g = load_up_to(dy + i, count), v = load_up_to(y + i, count);
    store_up_to(dx + i, kLog ? g - vmath::exp<T>(v) * sum : v * (g - sum), count);
  });
}

// The same for `count` neighbouring lines whose elements lie `step` apart.
template <class T, bool kLog>
FASTDL_INLINE void forward_lines(const T* x, int64_t n, int64_t step, int64_t count, T* y) {
  Vec<T> top = splat(static_cast<T>(-__builtin_inf())), sum{};
  for (int64_t k = 0; k < n; ++k) top = maximum<T>(load_up_to(x + k * step, count), top);
  for (int64_t k = 0; k < n; ++k) {
    const Vec<T> e = vmath::exp_negative<T>(load_up_to(x + k * step, count) - top);
    if (!kLog) store_up_to(y + k * step, e, count);
    sum += e;
  }
  const Vec<T> factor = kLog ? vmath::log<T>(sum) : 1 / sum;
  for (int64_t k = 0; k < n; ++k) {
    if (kLog)
      store_up_to(y + k * step, (load_up_to(x + k * step, count) - top) - factor, count);
    else
      store_up_to(y + k * step, load_up_to(y + k * step, count) * factor, count);
  }
}

template <class T, bool kLog>
FASTDL_INLINE void backward_lines(const T* dy, const T* y, int64_t n, int64_t step, int64_t count, T* dx) {
  Vec<T> sum{};
  for (int64_t k = 0; k < n; ++k) {
    const Vec<T> g = load_up_to(dy + k * step, count);
    sum += kLog ? g : g * load_up_to(y + k * step, count);
  }
  for (int64_t k = 0; k < n; ++k) {
    const Vec<T> g = load_up_to(dy + k * step, count), v = load_up_to(y + k * step, count);
    store_up_to(dx + k * step, kLog ? g - vmath::exp<T>(v) * sum : v * (g - sum), count);
  }
}

// row(offset) for every row, or lines(offset, count) for every vector of lines.
template <class T, class Row, class Lines>
FASTDL_INLINE void for_lines(const SoftmaxDims& d, const Row& row, const Lines& lines) {
  constexpr double kCost = 12.0 / kLanes<T>;  // ns per element
  if (d.inner == 1) {
    const int64_t group = rows_per_task(d.n);
    parallel_for(ceil_div(d.outer, group), kCost * static_cast<double>(group * d.n), [&](int64_t task) {
      for (int64_t r = task * group; r < min_of(d.outer, (task + 1) * group); ++r) row(r * d.n);
    });
    return;
  }
  constexpr int64_t W = kLanes<T>;
  const int64_t across = ceil_div(d.inner, W), group = rows_per_task(d.n * W), total = d.outer * across;
  parallel_for(ceil_div(total, group), kCost * static_cast<double>(group * d.n * W), [&](int64_t task) {
    for (int64_t v = task * group; v < min_of(total, (task + 1) * group); ++v) {
      const int64_t outer = v / across, first = v % across * W, count = min_of(W, d.inner - first);
      const int64_t offset = outer * d.n * d.inner + first;
      if (count == W)
        lines(offset, W);
      else
        lines(offset, count);
    }
  });
}

template <bool kLog>
void forward(View x_, const SoftmaxDims& d, View y_) {
  with_float(x_.dtype, [&](auto type) {
    using T = decltype(type);
    const T* x = x_.as<T>();
    T* y = y_.as<T>();
    for_lines<T>(
        d, [&](int64_t at) __attribute__((always_inline)) { forward_row<T, kLog>(x + at, d.n, y + at); },
        [&](int64_t at, int64_t count)
            __attribute__((always_inline)) { forward_lines<T, kLog>(x + at, d.n, d.inner, count, y + at); });
  });
}

template <bool kLog>
void backward(View dy_, View y_, const SoftmaxDims& d, View dx_) {
  with_float(y_.dtype, [&](auto type) {
    using T = decltype(type);
    const T *dy = dy_.as<T>(), *y = y_.as<T>();
    T* dx = dx_.as<T>();
    for_lines<T>(
        d, [&](int64_t at) __attribute__((always_inline)) { backward_row<T, kLog>(dy + at, y + at, d.n, dx + at); },
        [&](int64_t at, int64_t count)
            __attribute__((always_inline)) { backward_lines<T, kLog>(dy + at, y + at, d.n, d.inner, count, dx + at); });
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

}  // namespace fastdl::cpu::FASTDL_ISA
