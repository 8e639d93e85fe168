#include "core/copy.h"

#include <utility>

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

View check_assign(const View& out, const View& x) {
  like("assign", "x", x, "out", out);
  const int lead = out.ndim - x.ndim;
  bool fits = lead >= 0;
  for (int d = 0; fits && d < x.ndim; ++d) fits = x.shape[d] == 1 || x.shape[d] == out.shape[lead + d];
  if (!fits)
    fail_value("assign", "x must broadcast to out, got shape " + shape_string(x) + ", out " + shape_string(out));
  View spread = out;
  spread.data = x.data;
  for (int d = 0; d < out.ndim; ++d) spread.strides[d] = d < lead || x.shape[d - lead] == 1 ? 0 : x.strides[d - lead];
  return spread;
}

bool overlap(const View& a, const View& b) {
  if (a.size() == 0 || b.size() == 0) return false;
  const auto ends = [](const View& x) {
    std::int64_t low = 0, high = item_size(x.dtype);
    for (int d = 0; d < x.ndim; ++d) {
      const std::int64_t reach = (x.shape[d] - 1) * x.strides[d] * item_size(x.dtype);
      (reach < 0 ? low : high) += reach;
    }
    const auto base = reinterpret_cast<std::intptr_t>(x.data);
    return std::pair<std::int64_t, std::int64_t>(base + low, base + high);
  };
  const auto [a_low, a_high] = ends(a);
  const auto [b_low, b_high] = ends(b);
  return a_low < b_high && b_low < a_high;
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
