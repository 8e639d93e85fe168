#include "core/copy.h"

namespace fastdl {

using namespace check;

int check_concatenate(const View* x, int count, std::int64_t axis_argument) {
  const char* kernel = "concatenate";
  const auto name = [](int i) { return "xs[" + std::to_string(i) + "]"; };
  for (int i = 1; i < count; ++i) like(kernel, name(i).c_str(), x[i], "xs[0]", x[0]);
  if (x[0].ndim == 0) fail_value(kernel, "xs[0] must have at least 1 dimension, got shape ()");
  const int along = axis(kernel, "axis", axis_argument, x[0].ndim);
  for (int i = 1; i < count; ++i) {
    bool same = x[i].ndim == x[0].ndim;
    for (int d = 0; same && d < x[0].ndim; ++d) same = d == along || x[i].shape[d] == x[0].shape[d];
    if (!same)
      fail_value(kernel, name(i) + " must match xs[0] except along axis " + std::to_string(along) + ", got " +
                             shape_string(x[i]) + " and " + shape_string(x[0]));
  }
  return along;
}

void check_slice_backward(const View& dy, const std::int64_t* shape, int ndim, const std::int64_t* starts,
                          int starts_count, const std::int64_t* steps, int steps_count) {
  bool inside = dy.ndim == ndim && starts_count == ndim && steps_count == ndim;
  for (int d = 0; inside && d < ndim; ++d) {
    inside = shape[d] >= 0 && steps[d] != 0;
    if (!inside || dy.shape[d] == 0) continue;
    std::int64_t reach, last;
    inside = !__builtin_mul_overflow(dy.shape[d] - 1, steps[d], &reach) &&
             !__builtin_add_overflow(starts[d], reach, &last) && 0 <= starts[d] && starts[d] < shape[d] && 0 <= last &&
             last < shape[d];
  }
  if (!inside)
    fail_value("slice_backward", "dy must lie inside shape, got dy " + shape_string(dy) + ", shape " +
                                     shape_string(shape, ndim) + ", starts " + shape_string(starts, starts_count) +
                                     ", steps " + shape_string(steps, steps_count));
}

View slice_of(const View& x, const std::int64_t* starts, const std::int64_t* steps, const std::int64_t* shape) {
  View part = x;
  std::int64_t offset = 0;
  for (int d = 0; d < x.ndim; ++d) {
    part.shape[d] = shape[d];
    part.strides[d] = x.strides[d] * steps[d];
    if (shape[d] > 0) offset += starts[d] * x.strides[d];
  }
  part.data = x.as<char>() + offset * item_size(x.dtype);
  return part;
}

}  // namespace fastdl
