// Softmax and log-softmax along one axis, and their gradients.  Overwrite y or dx, which may be one of the inputs. Save
// nothing: backward takes y.  No scratch.
// All views of one call are dense and of one memory order, seen as [outer, n, inner] with n the axis.
#pragma once
#include "core/check.h"
#include "core/kernel.h"

namespace fastdl {

struct SoftmaxDims {
  std::int64_t outer, n, inner;
};
// x is dense; `name` is what the kernel calls it. dy may be absent.
SoftmaxDims check_softmax(const char* kernel, const char* name, const View& x, std::int64_t axis, const View& dy);

template <>
inline constexpr bool kAttributes<SoftmaxDims> = true;

namespace FASTDL_DEVICE {
inline Kernel<void(View x, SoftmaxDims d, Out y)> softmax_forward, log_softmax_forward;
inline Kernel<void(View dy, View y, SoftmaxDims d, Out dx)> softmax_backward, log_softmax_backward;
}  // namespace FASTDL_DEVICE

}  // namespace fastdl
