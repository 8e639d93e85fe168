// Pooling over windows of x [n,c,h,w], y [n,c,oh,ow], both channels-last in memory. Outputs are overwritten and may not
// alias inputs. Scratch: the tables below, O(h + w + oh + ow), and backward per thread the windows that hold one pixel.
//
// All kernels see windows through one table per axis, which the check fills: where each window starts, which of its
// taps lie inside the image, and which windows a pixel can lie in. Average and adaptive average differ in their tables
// only.
#pragma once
#include <memory>

#include "core/check.h"
#include "core/kernel.h"

namespace fastdl {

struct PoolAxis {
  std::int64_t size, windows;  // h and oh, or w and ow
  std::int64_t taps, dilation;
  bool disjoint;                   // no pixel lies in two windows, and dilation is 1
  const std::int64_t* start;       // [windows] pixel of the first tap; below 0 in the padding
  const std::int64_t* tap_first;   // [windows] taps [tap_first, tap_last) lie inside the image
  const std::int64_t* tap_last;    // [windows]
  const std::int64_t* over_first;  // [size] a pixel lies in windows of [over_first, over_last) only
  const std::int64_t* over_last;   // [size]
  const double* share;             // [windows] averages: 1 / this axis' part of the divisor
};

struct Pool2dDims {
  PoolAxis rows, columns;
  bool owned = false;  // by a recorded program, no longer by a Pool2dTables
};

struct Window;

// The tables behind a Pool2dDims.
class Pool2dTables {
 public:
  Pool2dTables(check::Pair input_size, check::Pair output_size, const Window& window);  // maximum
  Pool2dTables(check::Pair input_size, check::Pair output_size, const Window& window, bool count_include_pad,
               const double* divisor_override);                   // average; the divisor may be null
  Pool2dTables(check::Pair input_size, check::Pair output_size);  // adaptive average
  ~Pool2dTables();
  Pool2dTables(const Pool2dTables&) = delete;
  Pool2dTables& operator=(const Pool2dTables&) = delete;
  const Pool2dDims& dims() const { return dims_; }

 private:
  void* memory_ = nullptr;
  Pool2dDims dims_{};
};

DType offset_dtype(check::Pair kernel_size);  // uint8 if a byte can number the taps, else int32

// Rank 4, and for x a height and width of at least 1.
void check_pool_image(const char* kernel, const char* name, const View& x);
void check_pool_sides(const char* kernel, const char* name, const View& x);
void check_pool_window(const char* kernel, const Window& window);
void check_max_pool_window(const char* kernel, const Window& window);
// offsets [n,c,oh,ow] could come from max_pool2d_forward of this geometry, with or without ceil_mode.
void check_offsets(const char* kernel, const View& offsets, check::Pair input_size, const Window& window);

// Copies the tables that d points to into memory of their own.
std::shared_ptr<void> own_tables(Pool2dDims& d);
inline void visit_argument(ArgumentVisitor& visitor, Pool2dDims& d) {
  if (!d.owned) visitor.keep(own_tables(d));
}

namespace FASTDL_DEVICE {
// offsets [n,c,oh,ow], uint8 or int32: the winner's tap, i * kw + j. The first of equal maxima, the last NaN; a window
// without a tap in the image gives -inf and 0.
inline Kernel<void(View x, Out y, Out offsets, const Pool2dDims& d)> max_pool2d_forward;
// y, as forward gave it, may be absent; where it is there, x was the result of a ReLU, and dx has the bits that the
// ReLU's backward makes of it.
inline Kernel<void(View dy, View offsets, View y, Out dx, const Pool2dDims& d)> max_pool2d_backward;
// indices [n,c,oh,ow] int64: the winner's h * w_size + w, or -1 in the padding.
inline Kernel<void(View offsets, Out indices, const Pool2dDims& d)> max_pool2d_indices;
inline Kernel<void(View x, Out y, const Pool2dDims& d)> avg_pool2d_forward;
inline Kernel<void(View dy, Out dx, const Pool2dDims& d)> avg_pool2d_backward;
}  // namespace FASTDL_DEVICE

}  // namespace fastdl
