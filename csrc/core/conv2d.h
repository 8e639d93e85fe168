// 2-D convolution y = conv(x, weight) + bias (cross-correlation, as in PyTorch), with `relu` max(y, 0) as relu_forward
// has it.  Overwrites its outputs, which may not alias its inputs.  Saves nothing for backward.
// Arrays of one dtype; beside bfloat16, which the GPU takes, dweight and dbias are float32.
// x [n,c,h,w]   weight [o,c/groups,kh,kw]   bias [o] or absent   y [n,o,oh,ow];  x, y and their gradients channels-last
// in memory, weight and bias contiguous; on the GPU weight and dweight contiguous or channels-last, each as it comes.
// Scratch: the weight once, its columns rounded up to a vector pair; with padding or few channels per thread a
// zero-padded block of rows (conv/taps.h, conv/planes.h) or, with many images and zeros, a copy of rows of a group of
// images, about 128 K elements (conv/positions.h); for dweight up to 16 partial sums of its size, 8 M elements
// in all or one sum, and per thread the block's pixels of dy and of one tile of x; for dx towards few channels per
// thread about 128 K elements.
#pragma once
#include "core/kernel.h"
#include "core/window.h"

namespace fastdl {

struct Conv2dDims {
  std::int64_t n, c, h, w, o, oh, ow;
  std::int64_t groups;
  Window window;  // kernel_size is the weight's
};

// Do the channels of a weight's tap lie side by side in memory, where else its taps do? No matter with one of either.
inline bool has_channels_last(const View& weight) {
  return weight.shape[1] > 1 && weight.shape[2] * weight.shape[3] > 1 && weight.strides[1] == 1;
}

// The only checks; `attrs` brings stride, padding and dilation, its kernel_size is ignored;
// groups is at least 1.
Conv2dDims check_conv2d_forward(const View& x, const View& weight, const View& bias, const Window& attrs,
                                std::int64_t groups);
Conv2dDims check_conv2d_backward(const View& dy, const View& x, const View& weight, const Window& attrs,
                                 std::int64_t groups);

template <>
inline constexpr bool kAttributes<Conv2dDims> = true;

namespace FASTDL_DEVICE {
// moments: those of y as rows of channels, which a batch norm of y takes (batch_norm.h), or absent.
inline Kernel<void(View x, View weight, View bias, bool relu, Out y, const Conv2dDims& d, Out moments)> conv2d_forward;
// dx [n,c,h,w], dweight [o,c/groups,kh,kw], dbias [o]: each overwritten where present. addend and gate, laid out like
// dx, may be absent: addend, which may be dx itself, is added to dx, then dx is 0 where gate, which a ReLU made, is not
// positive (relu_backward).
inline Kernel<void(View dy, View x, View weight, View addend, View gate, Out dx, Out dweight, Out dbias,
                   const Conv2dDims& d)>
    conv2d_backward;
}  // namespace FASTDL_DEVICE

}  // namespace fastdl
