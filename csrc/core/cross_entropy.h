// Cross-entropy of logits with class numbers.  Overwrite their outputs, which may not alias inputs; forward saves lse.
// logits [n, c]   target [n]   weight [c] or absent   lse [n]   loss, dloss [] or, for Reduction::none, [n]
// dlogits [n, c], forward for a dloss of ones, or absent   all contiguous.   Scratch: n doubles.
// Beside logits of bfloat16 all but dlogits are float.
#pragma once
#include "core/check.h"
#include "core/kernel.h"
#include "core/reduction.h"

namespace fastdl {

struct CrossEntropyAttrs {
  std::int64_t ignore_index;
  double label_smoothing;
  Reduction reduction;
};

template <>
inline constexpr bool kAttributes<CrossEntropyAttrs> = true;

void check_cross_entropy(const char* kernel, const View& logits, const View& target, const View& weight,
                         const CrossEntropyAttrs& attrs);
void check_cross_entropy_backward(const char* kernel, const View& dloss, const View& logits, const View& lse,
                                  Reduction reduction);

namespace FASTDL_DEVICE {
inline Kernel<void(View logits, View target, View weight, CrossEntropyAttrs attrs, Out loss, Out lse, Out dlogits)>
    cross_entropy_forward;
inline Kernel<void(View dloss, View logits, View target, View lse, View weight, CrossEntropyAttrs attrs, Out dlogits)>
    cross_entropy_backward;
}  // namespace FASTDL_DEVICE

}  // namespace fastdl
