// RMSProp on flat arrays, updated in place; nothing else is saved.
// param, grad, square_avg [n]   grad_avg [n] or absent   buf [n], may be absent when momentum is 0
// rounded [n] of bfloat16, or absent: becomes param
// All contiguous, none may overlap another.
#pragma once
#include "core/check.h"
#include "core/kernel.h"

namespace fastdl {

struct RmspropHyper {
  Number<double> lr;
  double alpha, eps, weight_decay, momentum;
};

inline void visit_argument(ArgumentVisitor& visitor, RmspropHyper& hyper) { visit_argument(visitor, hyper.lr); }

void check_rmsprop_step(const View& param, const View& grad, const View& square_avg, const View& grad_avg,
                        const View& buf, const RmspropHyper& hyper);

// The factors of one step in the arrays' dtype.
template <class T>
struct RmspropFactors {
  T lr, alpha, share, eps, weight_decay, momentum;

  FASTDL_BOTH explicit RmspropFactors(const RmspropHyper& h)
      : lr(static_cast<T>(h.lr)),
        alpha(static_cast<T>(h.alpha)),
        share(static_cast<T>(1 - h.alpha)),
        eps(static_cast<T>(h.eps)),
        weight_decay(static_cast<T>(h.weight_decay)),
        momentum(static_cast<T>(h.momentum)) {}
};

// One element, or one vector of them: V is T or a vector of T; root is the square root of a V.
template <bool centered, bool momentum, bool decay, class V, class T, class Root>
FASTDL_BOTH void rmsprop_element(V& param, V grad, V& square_avg, V& grad_avg, V& buf, const RmspropFactors<T>& f,
                                 const Root& root) {
  if constexpr (decay) grad = grad + f.weight_decay * param;
  square_avg = f.alpha * square_avg + f.share * grad * grad;
  V variance = square_avg;
  if constexpr (centered) {
    grad_avg = grad_avg + f.share * (grad - grad_avg);
    variance = square_avg - grad_avg * grad_avg;
    variance = variance < T(0) ? V{} : variance;  // rounding; NaN stays
  }
  V move = grad / (root(variance) + f.eps);
  if constexpr (momentum) move = buf = f.momentum * buf + move;
  param = param - f.lr * move;
}

namespace FASTDL_DEVICE {
inline Kernel<void(InOut param, View grad, InOut square_avg, InOut grad_avg, InOut buf, Out rounded,
                   const RmspropHyper& hyper)>
    rmsprop_step;
}  // namespace FASTDL_DEVICE

}  // namespace fastdl
