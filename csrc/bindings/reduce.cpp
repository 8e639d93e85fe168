#include "core/reduce.h"

#include <pybind11/stl.h>

#include <limits>
#include <vector>

#include "bindings/array.h"
#include "bindings/families.h"
#include "core/copy.h"
#include "core/elementwise.h"

namespace fastdl::bind {

namespace {

using Sizes = std::vector<std::int64_t>;

void expect_rank(const char* kernel, const char* name, const Sizes& sizes) {
  if (sizes.size() > kMaxDims)
    check::fail_value(kernel, std::string(name) + " must have at most 8 entries, got " + std::to_string(sizes.size()));
}

// y, a new C-contiguous array, seen with the dimensions that a sum over `axes` of x keeps, 1 in place of the others.
View with_kept_dims(View y, const View& x, const Axes& axes) {
  y.ndim = x.ndim;
  std::int64_t count = 1;
  for (int d = x.ndim - 1; d >= 0; --d) {
    y.shape[d] = axes.reduced[d] ? 1 : x.shape[d];
    y.strides[d] = count;
    count *= y.shape[d];
  }
  return y;
}

void run_sum(const View& x, const View& result, const Axes& axes, bool squares, double divisor) {
  const View y = with_kept_dims(result, x, axes);
  if (y.size() == 0) return;
  if (x.size() == 0) {  // sums of nothing are 0, means NaN
    run(y.size(), [&] {
      device::fill_zero(result);
      if (divisor == 0) device::scale(plan_nest(result, {&result}), result, std::numeric_limits<double>::quiet_NaN());
    });
  } else if (x.size() == y.size() && !squares) {  // nothing to add up
    run(x.size(), [&] { device::copy(x, y); });
  } else {
    run(x.size(), [&] { device::sum(plan_sum(x, y, axes), x, y, squares, divisor); });
  }
}

Array sum_or_mean(const char* kernel, bool mean, const py::handle& x_, const std::optional<Sizes>& axes_,
                  bool keepdims) {
  const Input x = strided(kernel, "x", x_, Floats::any);
  Axes axes;
  if (axes_) {
    expect_rank(kernel, "axes", *axes_);
    axes = check_axes(kernel, axes_->data(), static_cast<int>(axes_->size()), x);
  } else {
    for (int d = 0; d < x.view.ndim; ++d) axes.reduced[d] = true;
  }
  std::int64_t count = 1, shape[kMaxDims];
  int ndim = 0;
  for (int d = 0; d < x.view.ndim; ++d) {
    if (axes.reduced[d]) count *= x.view.shape[d];
    if (!axes.reduced[d] || keepdims) shape[ndim++] = axes.reduced[d] ? 1 : x.view.shape[d];
  }
  Output y = empty(x.view.dtype, shape, ndim);
  run_sum(x, y.view, axes, false, mean ? static_cast<double>(count) : 1);
  return y.array;
}

Array sum(const py::handle& x, const std::optional<Sizes>& axes, bool keepdims) {
  return sum_or_mean("sum", false, x, axes, keepdims);
}

Array mean(const py::handle& x, const std::optional<Sizes>& axes, bool keepdims) {
  return sum_or_mean("mean", true, x, axes, keepdims);
}

Array sum_to(const py::handle& x_, const Sizes& shape) {
  const Input x = strided("sum_to", "x", x_, Floats::any);
  expect_rank("sum_to", "shape", shape);
  const Axes axes = check_sum_to(x, shape.data(), static_cast<int>(shape.size()));
  Output y = empty(x.view.dtype, shape.data(), static_cast<int>(shape.size()));
  run_sum(x, y.view, axes, false, 1);
  return y.array;
}

Array sum_squares(const py::handle& x_) {
  const Input x = strided("sum_squares", "x", x_, Floats::any);
  Axes axes;
  for (int d = 0; d < x.view.ndim; ++d) axes.reduced[d] = true;
  Output total = empty(DType::f64, {});
  View y = total.view;  // of x's rank, size 1 throughout
  y.ndim = x.view.ndim;
  for (int d = 0; d < y.ndim; ++d) y.shape[d] = y.strides[d] = 1;
  if (x.view.size() == 0)
    run(1, [&] { device::fill_zero(total.view); });
  else
    run(x.view.size(), [&] { device::sum(plan_sum(x, y, axes), x, y, true, 1); });
  return total.array;
}

struct Extrema {
  Output values, index;
};

Extrema extrema(const char* kernel, bool smallest, const py::handle& x_, std::optional<std::int64_t> axis_,
                bool keepdims) {
  // Checks come before the copy that an array with gaps needs.
  const Input given = strided(kernel, "x", x_);
  const int axis = check_extremum(kernel, given, axis_.has_value(), axis_.value_or(0));
  const Input x = contiguous(kernel, "x", x_);
  const AxisSplit split = split_axis(x.view.shape, x.view.ndim, axis);
  std::int64_t shape[kMaxDims];
  int ndim = 0;
  for (int d = 0; d < x.view.ndim; ++d)
    if (const bool kept = axis >= 0 && d != axis; kept || keepdims) shape[ndim++] = kept ? x.view.shape[d] : 1;
  Extrema found{empty(x.view.dtype, shape, ndim), empty(DType::i64, shape, ndim)};
  if (split.outer * split.inner > 0)
    run(x.view.size(), [&] { device::extremum(x, found.values.view, found.index.view, split, smallest); });
  return found;
}

template <bool smallest>
void add_extrema(py::module_& m, const char* name, const char* index_name) {
  m.def(
      name,
      [name](const py::handle& x, std::optional<std::int64_t> axis, bool keepdims) {
        const Extrema found = extrema(name, smallest, x, axis, keepdims);
        return py::make_tuple(found.values.array, found.index.array);
      },
      py::arg("x"), py::arg("axis").none(true), py::arg("keepdims"));
  m.def(
      index_name,
      [index_name](const py::handle& x, std::optional<std::int64_t> axis) {
        return extrema(index_name, smallest, x, axis, false).index.array;
      },
      py::arg("x"), py::arg("axis").none(true));
}

Array max_backward(const py::handle& dy_, const py::handle& index_, const Sizes& shape,
                   std::optional<std::int64_t> axis_) {
  const char* kernel = "max_backward";
  const Input dy = contiguous(kernel, "dy", dy_), index = integers(kernel, "index", index_);
  expect_rank(kernel, "shape", shape);
  const int ndim = static_cast<int>(shape.size());
  const int axis = check_max_backward(dy, index, shape.data(), ndim, axis_.has_value(), axis_.value_or(0));
  Output dx = empty(dy.view.dtype, shape.data(), ndim);
  if (dx.view.size() > 0)
    run(dx.view.size(), [&] { device::max_backward(dy, index, dx.view, split_axis(shape.data(), ndim, axis)); });
  return dx.array;
}

}  // namespace

void add_reduce(py::module_& m) {
  m.def("sum", &sum, py::arg("x"), py::arg("axes").none(true), py::arg("keepdims"));
  m.def("mean", &mean, py::arg("x"), py::arg("axes").none(true), py::arg("keepdims"));
  m.def("sum_to", &sum_to, py::arg("x"), py::arg("shape"));
  m.def("sum_squares", &sum_squares, py::arg("x"));
  add_extrema<false>(m, "max", "argmax");
  add_extrema<true>(m, "min", "argmin");
  m.def("max_backward", &max_backward, py::arg("dy"), py::arg("index"), py::arg("shape"), py::arg("axis").none(true));
}

}  // namespace fastdl::bind
