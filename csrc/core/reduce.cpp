#include "core/reduce.h"

namespace fastdl {

using namespace check;

Axes check_axes(const char* kernel, const std::int64_t* axes, int count, const View& x) {
  Axes found;
  bool repeated = false;
  for (int i = 0; i < count; ++i) {
    bool& reduced = found.reduced[axis(kernel, "axes", axes[i], x.ndim)];
    repeated = repeated || reduced;
    reduced = true;
  }
  if (repeated) fail_value(kernel, "axes must not repeat, got " + shape_string(axes, count));
  return found;
}

Axes check_sum_to(const View& x, const std::int64_t* shape, int ndim) {
  const int lead = x.ndim - ndim;
  bool fits = lead >= 0;
  Axes axes;
  for (int d = 0; fits && d < x.ndim; ++d) {
    const bool same = d >= lead && shape[d - lead] == x.shape[d];
    fits = d < lead || same || shape[d - lead] == 1;
    axes.reduced[d] = !same;
  }
  if (!fits)
    fail_value("sum_to", "shape must broadcast to x, got " + shape_string(shape, ndim) + ", x " + shape_string(x));
  return axes;
}

int check_extremum(const char* kernel, const View& x, bool has_axis, std::int64_t axis_) {
  const int found = has_axis ? axis(kernel, "axis", axis_, x.ndim) : -1;
  if ((has_axis ? x.shape[found] : x.size()) == 0)
    fail_value(kernel, "x must have at least one element" + (has_axis ? " along axis " + std::to_string(found) : "") +
                           ", got shape " + shape_string(x));
  return found;
}

AxisSplit split_axis(const std::int64_t* shape, int ndim, int axis) {
  AxisSplit split;
  for (int d = 0; d < ndim; ++d) (axis < 0 || d == axis ? split.n : d < axis ? split.outer : split.inner) *= shape[d];
  return split;
}

int check_max_backward(const View& dy, const View& index, const std::int64_t* shape, int ndim, bool has_axis,
                       std::int64_t axis_) {
  const char* kernel = "max_backward";
  for (int d = 0; d < ndim; ++d)
    if (shape[d] < 0) fail_value(kernel, "shape must be at least 0, got " + shape_string(shape, ndim));
  const int found = has_axis ? axis(kernel, "axis", axis_, ndim) : -1;
  std::int64_t kept[kMaxDims], dropped[kMaxDims];
  int count = 0;
  for (int d = 0; d < ndim; ++d) {
    const bool reduced = found < 0 || d == found;
    kept[d] = reduced ? 1 : shape[d];
    if (!reduced) dropped[count++] = shape[d];
  }
  const auto equals = [&dy](const std::int64_t* want, int rank) {
    bool same = dy.ndim == rank;
    for (int d = 0; same && d < rank; ++d) same = dy.shape[d] == want[d];
    return same;
  };
  if (!equals(kept, ndim) && !equals(dropped, count))
    fail_value(kernel, "dy must have shape " + shape_string(dropped, count) + " or " + shape_string(kept, ndim) +
                           ", got " + shape_string(dy));
  check::shape(kernel, "index", index, dy.shape, dy.ndim);
  indices(kernel, "index", index, split_axis(shape, ndim, found).n);
  return found;
}

SumPlan plan_sum(const View& x, const View& y, const Axes& axes) {
  SumPlan plan;
  SumDim sorted[kMaxDims];
  int count = 0;
  for (int d = 0; d < x.ndim; ++d) {
    if (x.shape[d] == 1) continue;
    SumDim dim{x.shape[d], x.strides[d], axes.reduced[d] ? 0 : y.strides[d], axes.reduced[d]};
    if (dim.x_stride < 0) {
      plan.x_start += (dim.size - 1) * dim.x_stride;
      plan.y_start += (dim.size - 1) * dim.y_stride;
      dim.x_stride = -dim.x_stride;
      dim.y_stride = -dim.y_stride;
    }
    int at = count++;
    for (; at > 0 && sorted[at - 1].x_stride < dim.x_stride; --at) sorted[at] = sorted[at - 1];
    sorted[at] = dim;
  }
  for (int i = 0; i < count; ++i) {
    const SumDim& dim = sorted[i];
    SumDim* last = plan.ndim > 0 ? &plan.dims[plan.ndim - 1] : nullptr;
    if (last && last->reduced == dim.reduced && last->x_stride == dim.size * dim.x_stride &&
        last->y_stride == dim.size * dim.y_stride)
      *last = {last->size * dim.size, dim.x_stride, dim.y_stride, dim.reduced};
    else
      plan.dims[plan.ndim++] = dim;
  }
  return plan;
}

}  // namespace fastdl
