// Dense layer y = x weight^T + bias, with `relu` max(y, 0) as relu_forward has it.  Overwrites its outputs, which may
// not alias its inputs.  Saves nothing.
// Arrays of one dtype; beside bfloat16, which the GPU takes, dweight and dbias are float32.
// x [r, i]   weight [o, i]   bias [o] or absent   y [r, o]   all contiguous (leading dimensions of x folded into r)
// Scratch: see csrc/cpu/gemm/engine.h; for dbias at most 16 sums.
#pragma once
#include "core/check.h"
#include "core/kernel.h"

namespace fastdl {

void check_linear_forward(const View& x, const View& weight, const View& bias);
void check_linear_backward(const View& dy, const View& x, const View& weight);

namespace FASTDL_DEVICE {
inline Kernel<void(View x, View weight, View bias, bool relu, Out y)> linear_forward;
// dx [r, i], dweight [o, i], dbias [o]: each overwritten where present. gate [r, i], contiguous, may be absent: dx is 0
// where gate, which a ReLU made, is not positive (relu_backward).
inline Kernel<void(View dy, View x, View weight, View gate, Out dx, Out dweight, Out dbias)> linear_backward;
}  // namespace FASTDL_DEVICE

}  // namespace fastdl
