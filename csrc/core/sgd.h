// Stochastic gradient descent with momentum on flat arrays, updated in place; nothing else is saved.
// param [n]   grad [n]   buf [n], may be absent when momentum is 0   all contiguous, none may overlap another
// rounded [n] of bfloat16, or absent: becomes param
#pragma once
#include "core/check.h"
#include "core/kernel.h"

namespace fastdl {

struct SgdHyper {
  Number<double> lr;
  double momentum, dampening, weight_decay;
  bool nesterov;
  Number<std::int64_t> step;  // from 1; the first starts the buffer
};

inline void visit_argument(ArgumentVisitor& visitor, SgdHyper& hyper) {
  visit_argument(visitor, hyper.lr);
  visit_argument(visitor, hyper.step);
}

void check_sgd_step(const View& param, const View& grad, const View& buf, const SgdHyper& hyper);

// The factors of one step in the arrays' dtype.
template <class T>
struct SgdFactors {
  T lr, momentum, share, weight_decay;

  FASTDL_BOTH explicit SgdFactors(const SgdHyper& h)
      : lr(static_cast<T>(h.lr)),
        momentum(static_cast<T>(h.momentum)),
        share(static_cast<T>(1 - h.dampening)),
        weight_decay(static_cast<T>(h.weight_decay)) {}
};

// What a step does besides param -= lr * grad; kFirst starts the buffer instead of reading it.
enum class SgdKind { kPlain, kFirst, kMomentum };

// One element, or one vector of them: V is T or a vector of T.
template <SgdKind kind, bool nesterov, bool decay, class V, class T>
FASTDL_BOTH void sgd_element(V& param, V grad, V& buf, const SgdFactors<T>& f) {
  if constexpr (decay) grad = grad + f.weight_decay * param;
  if constexpr (kind != SgdKind::kPlain) {
    if constexpr (kind == SgdKind::kFirst)
      buf = grad;
    else
      buf = f.momentum * buf + f.share * grad;
    if constexpr (nesterov)
      grad = grad + f.momentum * buf;
    else
      grad = buf;
  }
  param = param - f.lr * grad;
}

namespace FASTDL_DEVICE {
inline Kernel<void(InOut param, View grad, InOut buf, Out rounded, const SgdHyper& hyper)> sgd_step;
}  // namespace FASTDL_DEVICE

}  // namespace fastdl
