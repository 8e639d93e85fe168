// Sums and extrema along axes.  Each call overwrites its outputs, which may not alias its inputs; saves nothing.
//
// Sums are accumulated in double and rounded once. A sum over many elements is cut into blocks whose borders depend on
// the shape alone; the partial sums are added in their order (scratch: at most kSumBlocks doubles per element of y).
#pragma once
#include "core/check.h"
#include "core/kernel.h"

namespace fastdl {

constexpr std::int64_t kSumBlocks = 64;

// Which axes of x are reduced.
struct Axes {
  bool reduced[kMaxDims] = {};
};

Axes check_axes(const char* kernel, const std::int64_t* axes, int count, const View& x);
Axes check_sum_to(const View& x, const std::int64_t* shape, int ndim);
// An axis in [0, ndim), or -1 for all (has_axis false); there must be something to find.
int check_extremum(const char* kernel, const View& x, bool has_axis, std::int64_t axis);

// x as [outer, n, inner]: n elements along the axis (all of them for axis -1).
struct AxisSplit {
  std::int64_t outer = 1, n = 1, inner = 1;
};
AxisSplit split_axis(const std::int64_t* shape, int ndim, int axis);
// Checks dy, index (C-contiguous) and shape; returns the axis as check_extremum.
int check_max_backward(const View& dy, const View& index, const std::int64_t* shape, int ndim, bool has_axis,
                       std::int64_t axis);

// The loops of a sum: x's dimensions by falling stride, neighbours of one kind that x walks through evenly merged, size
// 1 dropped. A kept dimension has its stride in y. Strides of x are not negative: such dimensions run backwards.
struct SumDim {
  std::int64_t size, x_stride, y_stride;
  bool reduced;
};
struct SumPlan {
  int ndim = 0;
  SumDim dims[kMaxDims];
  std::int64_t x_start = 0, y_start = 0;
};
// y has x's rank, with size 1 where reduced.
SumPlan plan_sum(const View& x, const View& y, const Axes& axes);

template <>
inline constexpr bool kAttributes<SumPlan> = true;
template <>
inline constexpr bool kAttributes<AxisSplit> = true;

namespace FASTDL_DEVICE {
// y = sum over the reduced dimensions of x (or x * x) / divisor. y has x's dtype, for squares float64.
inline Kernel<void(const SumPlan& plan, View x, Out y, bool squares, double divisor)> sum;
// The largest (smallest) elements of x [outer, n, inner] along n and their positions, the first of equals; NaN wins.
// values [outer, inner]   index [outer, inner] int64   all contiguous
inline Kernel<void(View x, Out values, Out index, const AxisSplit& split, bool smallest)> extremum;
// dx [outer, n, inner] = 0 but dx[o, index[o, i], i] = dy[o, i]   all contiguous, index int32 or int64
inline Kernel<void(View dy, View index, Out dx, const AxisSplit& split)> max_backward;
}  // namespace FASTDL_DEVICE

}  // namespace fastdl
