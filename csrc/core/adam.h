// Adam and AdamW on flat arrays, updated in place; nothing else is saved.
// param, grad, exp_avg, exp_avg_sq [n]   max_exp_avg_sq [n] or absent   all contiguous, none may overlap another
// rounded [n] of bfloat16, or absent: becomes param
#pragma once
#include <cmath>

#include "core/check.h"
#include "core/kernel.h"

namespace fastdl {

struct AdamHyper {
  Number<double> lr;
  double beta1, beta2, eps, weight_decay;
  Number<std::int64_t> step;  // from 1
  bool decoupled;
};

inline void visit_argument(ArgumentVisitor& visitor, AdamHyper& hyper) {
  visit_argument(visitor, hyper.lr);
  visit_argument(visitor, hyper.step);
}

void check_adam_step(const View& param, const View& grad, const View& exp_avg, const View& exp_avg_sq,
                     const View& max_exp_avg_sq, const AdamHyper& hyper);

// The factors of one step, computed in double and rounded once to the arrays' dtype. The correction c of the second
// moment is moved out of the denominator, which saves a division per element:
//   lr / c1 * m / (sqrt(v) / c + eps) = (lr / c1 * c) * m / (sqrt(v) + eps * c)
template <class T>
struct AdamFactors {
  T weight_decay, keep, share1, beta2, share2, step_size, eps;

  FASTDL_BOTH explicit AdamFactors(const AdamHyper& h)
      : weight_decay(static_cast<T>(h.weight_decay)),
        keep(static_cast<T>(1 - h.lr * h.weight_decay)),
        share1(static_cast<T>(1 - h.beta1)),
        beta2(static_cast<T>(h.beta2)),
        share2(static_cast<T>(1 - h.beta2)) {
    const double steps = static_cast<double>(h.step), c = std::sqrt(1 - std::pow(h.beta2, steps));
    step_size = static_cast<T>(h.lr / (1 - std::pow(h.beta1, steps)) * c);
    eps = static_cast<T>(h.eps * c);
  }
};

enum class AdamDecay { kNone, kGradient, kDecoupled };

// One element, or one vector of them: V is T or a vector of T; root is the square root of a V.
template <AdamDecay decay, bool amsgrad, class V, class T, class Root>
FASTDL_BOTH void adam_element(V& param, V grad, V& exp_avg, V& exp_avg_sq, V& max_exp_avg_sq, const AdamFactors<T>& f,
                              const Root& root) {
  if constexpr (decay == AdamDecay::kDecoupled) param = param * f.keep;
  if constexpr (decay == AdamDecay::kGradient) grad = grad + f.weight_decay * param;
  exp_avg = exp_avg + f.share1 * (grad - exp_avg);
  exp_avg_sq = f.beta2 * exp_avg_sq + f.share2 * grad * grad;
  V v = exp_avg_sq;
  if constexpr (amsgrad) v = max_exp_avg_sq = ((v > max_exp_avg_sq) | (v != v)) ? v : max_exp_avg_sq;  // NaN wins
  param = param - f.step_size * exp_avg / (root(v) + f.eps);
}

namespace FASTDL_DEVICE {
inline Kernel<void(InOut param, View grad, InOut exp_avg, InOut exp_avg_sq, InOut max_exp_avg_sq, Out rounded,
                   const AdamHyper& hyper)>
    adam_step;
}  // namespace FASTDL_DEVICE

}  // namespace fastdl
