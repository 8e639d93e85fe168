// Element-wise losses, reduced or not.  Overwrite their outputs; dx may be x.  Save nothing.
// All views but loss and dloss have one shape and one memory order, dense; loss and dloss are [] or, for
// Reduction::none, like the others. weight and pos_weight may be absent.   Scratch: a double for each 16384 elements.
#pragma once
#include "core/check.h"
#include "core/kernel.h"
#include "core/reduction.h"

namespace fastdl {

void check_loss(const char* kernel, const View& x, const View& target);
void check_loss_gradient(const char* kernel, const View& dloss, const View& x, Reduction reduction);
void check_bce_weights(const char* kernel, const View& x, const View& weight, const View& pos_weight);

namespace FASTDL_DEVICE {
inline Kernel<void(View x, View target, Reduction reduction, Out loss)> mse_forward, l1_forward;
inline Kernel<void(View dloss, View x, View target, Reduction reduction, Out dx)> mse_backward, l1_backward;
inline Kernel<void(View x, View target, View weight, View pos_weight, Reduction reduction, Out loss)>
    bce_with_logits_forward;
inline Kernel<void(View dloss, View x, View target, View weight, View pos_weight, Reduction reduction, Out dx)>
    bce_with_logits_backward;
}  // namespace FASTDL_DEVICE

}  // namespace fastdl
