// Element-wise losses: one pass over flat memory. Sums are taken in double, a block of threads for each kBlock
// elements, and the blocks' sums by the last of them, in a fixed order. The formulas are the CPU's (core/loss_math.h).
#include "core/loss.h"

#include "core/loss_math.h"
#include "cuda/launch.h"
#include "cuda/math.h"

namespace fastdl::cuda::gpu {

namespace {

constexpr int64_t kBlock = 16384;

// An operand of the loss, or ones where it is absent.
template <class T>
struct Operand {
  const T* data;

  explicit Operand(const View& x) : data(x ? x.as<T>() : nullptr) {}
  FASTDL_DEVICE_ONLY T at(int64_t i) const { return data != nullptr ? data[i] : T(1); }
};

template <class T>
struct Mse {
  const T *x, *target;
  FASTDL_DEVICE_ONLY T term(int64_t i) const { return loss::mse(x[i], target[i]); }
  FASTDL_DEVICE_ONLY T slope(int64_t i) const { return loss::mse_slope(x[i], target[i]); }
};
template <class T>
struct L1 {
  const T *x, *target;
  FASTDL_DEVICE_ONLY T term(int64_t i) const { return loss::l1(x[i], target[i]); }
  FASTDL_DEVICE_ONLY T slope(int64_t i) const { return loss::l1_slope(x[i], target[i]); }
};
template <class T>
struct Bce {
  const T *x, *target;
  Operand<T> weight, pos_weight;
  FASTDL_DEVICE_ONLY T term(int64_t i) const {
    return weight.at(i) * loss::bce<Math<T>>(x[i], target[i], pos_weight.at(i));
  }
  FASTDL_DEVICE_ONLY T slope(int64_t i) const {
    return weight.at(i) * loss::bce_slope<Math<T>>(x[i], target[i], pos_weight.at(i));
  }
};

template <class T, class F>
struct Terms {
  F f;
  T* loss;
  FASTDL_DEVICE_ONLY void operator()(int64_t i) const { loss[i] = f.term(i); }
};

template <class T, class F>
struct SumTerms : Unprepared {
  static constexpr int kBlocks = 4;  // for 64 registers
  F f;
  int64_t n;
  double* sums;
  double divisor;
  T* loss;

  FASTDL_DEVICE_ONLY void operator()(const Block& block, int) const {
    const int64_t begin = block.task * kBlock, end = min_of(n, begin + kBlock);
    const double sum = block.sum_of(begin, end, [&](int64_t i) { return f.term(i); });
    if (block.thread == 0) sums[block.task] = sum;
  }
  FASTDL_DEVICE_ONLY void finish(const Block& block) const {
    const double sum = block.sum_of(0, ceil_div(n, kBlock), [&](int64_t b) { return sums[b]; });
    if (block.thread == 0) *loss = static_cast<T>(sum / divisor);
  }
};

// dx = slope times the gradient of the loss.
template <class T, class F>
struct Slopes {
  F f;
  const T* dloss;
  bool each;
  double divisor;
  T* dx;
  FASTDL_DEVICE_ONLY void operator()(int64_t i) const {
    dx[i] = f.slope(i) * (each ? dloss[i] : static_cast<T>(static_cast<double>(*dloss) / divisor));
  }
};

double divisor_of(Reduction reduction, int64_t n) { return reduction == Reduction::mean ? static_cast<double>(n) : 1; }

// loss = the terms, their sum or their mean.
template <class T, class F>
void reduce(int64_t n, Reduction reduction, T* loss, const F& f) {
  if (reduction == Reduction::none) return for_each(n, Terms<T, F>{f, loss});
  const int64_t blocks = ceil_div(n, kBlock);
  for_tasks_finished(blocks, SumTerms<T, F>{{}, f, n, workspace<double>(blocks), divisor_of(reduction, n), loss});
}

template <class T, class F>
void scale_slopes(int64_t n, Reduction reduction, const T* dloss, T* dx, const F& f) {
  for_each(n, Slopes<T, F>{f, dloss, reduction == Reduction::none, divisor_of(reduction, n), dx});
}

}  // namespace

void mse_forward(View x, View target, Reduction reduction, Out loss) {
  with_float(x.dtype, [&](auto type) {
    using T = decltype(type);
    reduce(x.size(), reduction, loss.as<T>(), Mse<T>{x.as<T>(), target.as<T>()});
  });
}

void l1_forward(View x, View target, Reduction reduction, Out loss) {
  with_float(x.dtype, [&](auto type) {
    using T = decltype(type);
    reduce(x.size(), reduction, loss.as<T>(), L1<T>{x.as<T>(), target.as<T>()});
  });
}

void bce_with_logits_forward(View x, View target, View weight, View pos_weight, Reduction reduction, Out loss) {
  with_float(x.dtype, [&](auto type) {
    using T = decltype(type);
    reduce(x.size(), reduction, loss.as<T>(),
           Bce<T>{x.as<T>(), target.as<T>(), Operand<T>(weight), Operand<T>(pos_weight)});
  });
}

void mse_backward(View dloss, View x, View target, Reduction reduction, Out dx) {
  with_float(x.dtype, [&](auto type) {
    using T = decltype(type);
    scale_slopes(x.size(), reduction, dloss.as<T>(), dx.as<T>(), Mse<T>{x.as<T>(), target.as<T>()});
  });
}

void l1_backward(View dloss, View x, View target, Reduction reduction, Out dx) {
  with_float(x.dtype, [&](auto type) {
    using T = decltype(type);
    scale_slopes(x.size(), reduction, dloss.as<T>(), dx.as<T>(), L1<T>{x.as<T>(), target.as<T>()});
  });
}

void bce_with_logits_backward(View dloss, View x, View target, View weight, View pos_weight, Reduction reduction,
                              Out dx) {
  with_float(x.dtype, [&](auto type) {
    using T = decltype(type);
    scale_slopes(x.size(), reduction, dloss.as<T>(), dx.as<T>(),
                 Bce<T>{x.as<T>(), target.as<T>(), Operand<T>(weight), Operand<T>(pos_weight)});
  });
}

FASTDL_REGISTER(mse_forward)
FASTDL_REGISTER(mse_backward)
FASTDL_REGISTER(l1_forward)
FASTDL_REGISTER(l1_backward)
FASTDL_REGISTER(bce_with_logits_forward)
FASTDL_REGISTER(bce_with_logits_backward)

}  // namespace fastdl::cuda::gpu
