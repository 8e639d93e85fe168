// Batch norm over the rows of x [m,c], contiguous: the bindings bring (N, C, H, W) and (N, C, L) channels-last, so that
// m = n * h * w. Outputs are overwritten and may not alias inputs. weight [c] and bias [c] may be absent (1 and 0).
// Scratch: O(c) for the factors and, for sums over rows, at most 128 blocks of 2 c doubles.
#pragma once
#include "core/check.h"
#include "core/kernel.h"

namespace fastdl {

void check_batch_norm_input(const char* kernel, const char* name, const View& x);
// An array [c] of that dtype; an absent one passes.
void check_per_channel(const char* kernel, const char* name, const View& value, const View& x);
// All but eps and the per-channel arrays of the backward kernels.
void check_batch_norm_gradient(const char* kernel, const View& dy, const View& x);
// An array of the dtype and shape of x; an absent one passes.
void check_like_input(const char* kernel, const char* name, const View& value, const View& x);

struct BatchNormRunning {
  InOut mean, var;  // [c] of any stride, updated in place where present
  double momentum;
  InOut count;  // [] of int64, one more where present
};
inline void visit_argument(ArgumentVisitor& visitor, BatchNormRunning& running) {
  visit_argument(visitor, running.mean);
  visit_argument(visitor, running.var);
  visit_argument(visitor, running.count);
}

// Moments of x [m,c] by blocks of rows, which an earlier kernel may take while it makes x: at most so many blocks of
// whole runs of so many rows, some rows taken as one where channels are few.
constexpr std::int64_t kMomentBlocks = 128, kMomentRows = 64, kMomentColumns = 64;
constexpr std::int64_t moments_size(std::int64_t rows, std::int64_t channels) {  // in doubles, at most
  const std::int64_t blocks = (rows + kMomentRows - 1) / kMomentRows;
  return (blocks < kMomentBlocks ? blocks : kMomentBlocks) * 2 * (channels + kMomentColumns);
}

namespace FASTDL_DEVICE {
// mean [c] and invstd [c] are saved for backward. residual [m,c] or absent: is added to y. relu: y =
// max(that, 0). The same bits as a sum and a ReLU afterwards. moments: what conv2d_forward saved while it made x, or
// absent.
inline Kernel<void(View x, View weight, View bias, double eps, Out y, Out mean, Out invstd,
                   const BatchNormRunning& running, bool relu, View residual, View moments)>
    batch_norm_forward;
inline Kernel<void(View x, View weight, View bias, View running_mean, View running_var, double eps, Out y)>
    batch_norm_inference;
// dx [m,c], dweight [c], dbias [c]: each overwritten where present. bias matters only with relu.
inline Kernel<void(View dy, View x, View weight, View bias, View mean, View invstd, bool relu, Out dx, Out dweight,
                   Out dbias)>
    batch_norm_backward;
// The same behind a residual sum and the ReLU of it, which gave y: dy, and more of it or an absent array, is first let
// through where y is positive (relu_backward), which is dresidual [m,c]. The same bits as kernels one after the other.
inline Kernel<void(View dy, View more, View y, View x, View weight, View mean, View invstd, Out dx, Out dweight,
                   Out dbias, Out dresidual)>
    batch_norm_residual_backward;
inline Kernel<void(View dy, View x, View weight, View running_mean, View running_var, double eps, Out dx, Out dweight,
                   Out dbias)>
    batch_norm_inference_backward;
}  // namespace FASTDL_DEVICE

}  // namespace fastdl
