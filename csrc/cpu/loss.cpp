// Element-wise losses: one pass over flat memory. Sums are taken block by block in T and over blocks in double, in
// order, so that threads change nothing.
#include "core/loss.h"

#include "core/loss_math.h"
#include "cpu/flat.h"
#include "cpu/rows.h"

namespace fastdl::cpu::FASTDL_ISA {

namespace {

constexpr double kCheap = 2, kDear = 8;  // ns per vector

// An operand of the loss, or ones where it is absent.
template <class T>
struct Operand {
  const T* data;
  FASTDL_INLINE explicit Operand(const View& x) : data(x ? x.as<T>() : nullptr) {}
  FASTDL_INLINE Vec<T> at(int64_t i, int64_t count) const { return data ? load_up_to(data + i, count) : splat(T{1}); }
};

// loss = the terms, their sum or their mean; term(i, count) gives a vector of them.
template <class T, class F>
FASTDL_INLINE void reduce(int64_t n, double cost, Reduction reduction, T* loss, const F& term) {
  const int64_t blocks = ceil_div(n, kFlatBlock);
  const bool none = reduction == Reduction::none;
  Scratch<double> scratch(none ? 0 : blocks);
  double* sums = scratch;
  parallel_for(blocks, cost / kLanes<T> * static_cast<double>(min_of(n, kFlatBlock)), [&](int64_t b) {
    const int64_t begin = b * kFlatBlock, end = min_of(n, begin + kFlatBlock);
    if (none)
      for_vectors<T>(begin, end, [&](int64_t i, int64_t count) __attribute__((always_inline)) {
        store_up_to(loss + i, term(i, count), count);
      });
    else
      sums[b] = sum_of<T>(begin, end, term);
  });
  if (none) return;
  double sum = 0;
  for (int64_t b = 0; b < blocks; ++b) sum += sums[b];
  *loss = static_cast<T>(reduction == Reduction::mean ? sum / static_cast<double>(n) : sum);
}

// dx = slope(i, count) times the gradient of the loss.
template <class T, class F>
FASTDL_INLINE void scale_slopes(int64_t n, double cost, Reduction reduction, const T* dloss, T* dx, const F& slope) {
  const bool each = reduction == Reduction::none;
  const T g = each                           ? T{0}
              : reduction == Reduction::mean ? static_cast<T>(static_cast<double>(*dloss) / static_cast<double>(n))
                                             : *dloss;
  parallel_for(ceil_div(n, kFlatBlock), cost / kLanes<T> * static_cast<double>(min_of(n, kFlatBlock)), [&](int64_t b) {
    const int64_t begin = b * kFlatBlock, end = min_of(n, begin + kFlatBlock);
    for_vectors<T>(begin, end, [&](int64_t i, int64_t count) __attribute__((always_inline)) {
      const Vec<T> by = each ? load_up_to(dloss + i, count) : splat(g);
      store_up_to(dx + i, slope(i, count) * by, count);
    });
  });
}

template <class T>
struct VectorMath {
  static FASTDL_INLINE Vec<T> softplus(Vec<T> x) { return vmath::softplus<T>(x); }
  static FASTDL_INLINE Vec<T> sigmoid(Vec<T> x) { return vmath::sigmoid<T>(x); }
};

}  // namespace

void mse_forward(View x_, View target, Reduction reduction, Out loss_) {
  with_float(x_.dtype, [&](auto type) {
    using T = decltype(type);
    const T *x = x_.as<T>(), *t = target.as<T>();
    reduce<T>(x_.size(), kCheap, reduction, loss_.as<T>(),
              [=](int64_t i, int64_t count) __attribute__((always_inline)) {
                return loss::mse(load_up_to(x + i, count), load_up_to(t + i, count));
              });
  });
}

void l1_forward(View x_, View target, Reduction reduction, Out loss_) {
  with_float(x_.dtype, [&](auto type) {
    using T = decltype(type);
    const T *x = x_.as<T>(), *t = target.as<T>();
    reduce<T>(x_.size(), kCheap, reduction, loss_.as<T>(),
              [=](int64_t i, int64_t count) __attribute__((always_inline)) {
                return loss::l1(load_up_to(x + i, count), load_up_to(t + i, count));
              });
  });
}

void mse_backward(View dloss, View x_, View target, Reduction reduction, Out dx) {
  with_float(x_.dtype, [&](auto type) {
    using T = decltype(type);
    const T *x = x_.as<T>(), *t = target.as<T>();
    scale_slopes<T>(x_.size(), kCheap, reduction, dloss.as<T>(), dx.as<T>(),
                    [=](int64_t i, int64_t count) __attribute__((always_inline)) {
                      return loss::mse_slope(load_up_to(x + i, count), load_up_to(t + i, count));
                    });
  });
}

void l1_backward(View dloss, View x_, View target, Reduction reduction, Out dx) {
  with_float(x_.dtype, [&](auto type) {
    using T = decltype(type);
    const T *x = x_.as<T>(), *t = target.as<T>();
    scale_slopes<T>(x_.size(), kCheap, reduction, dloss.as<T>(), dx.as<T>(),
                    [=](int64_t i, int64_t count) __attribute__((always_inline)) {
                      return loss::l1_slope(load_up_to(x + i, count), load_up_to(t + i, count));
                    });
  });
}

void bce_with_logits_forward(View x_, View target, View weight, View pos_weight, Reduction reduction, Out loss_) {
  with_float(x_.dtype, [&](auto type) {
    using T = decltype(type);
    const T *x = x_.as<T>(), *t = target.as<T>();
    const Operand<T> w(weight), p(pos_weight);
    reduce<T>(x_.size(), kDear, reduction, loss_.as<T>(), [=](int64_t i, int64_t count) __attribute__((always_inline)) {
      return w.at(i, count) *
             loss::bce<VectorMath<T>>(load_up_to(x + i, count), load_up_to(t + i, count), p.at(i, count));
    });
  });
}

void bce_with_logits_backward(View dloss, View x_, View target, View weight, View pos_weight, Reduction reduction,
                              Out dx) {
  with_float(x_.dtype, [&](auto type) {
    using T = decltype(type);
    const T *x = x_.as<T>(), *t = target.as<T>();
    const Operand<T> w(weight), p(pos_weight);
    scale_slopes<T>(x_.size(), kDear, reduction, dloss.as<T>(), dx.as<T>(),
                    [=](int64_t i, int64_t count) __attribute__((always_inline)) {
                      return w.at(i, count) * loss::bce_slope<VectorMath<T>>(load_up_to(x + i, count),
                                                                             load_up_to(t + i, count), p.at(i, count));
                    });
  });
}

FASTDL_REGISTER(mse_forward)
FASTDL_REGISTER(mse_backward)
FASTDL_REGISTER(l1_forward)
FASTDL_REGISTER(l1_backward)
FASTDL_REGISTER(bce_with_logits_forward)
FASTDL_REGISTER(bce_with_logits_backward)

}  // namespace fastdl::cpu::FASTDL_ISA
