#include "core/copy.h"

#include <pybind11/stl.h>

#include <vector>

#include "bindings/array.h"
#include "bindings/families.h"
#include "core/program.h"

namespace fastdl::bind {

namespace {

Input plain(const char* kernel, const char* name, const py::handle& x) {
  return one_of(kernel, name, x, {DType::f32, DType::f64, DType::i32, DType::i64, DType::u8, DType::b8, DType::bf16},
                "float32, float64, bfloat16, int32, int64, uint8 or bool");
}

py::object copy_contiguous(const py::object& x_) {
  const Input x = plain("contiguous", "x", x_);
  if (is_c_contiguous(x_)) return x_;
  Output y = empty(x.view.dtype, x.view.shape, x.view.ndim);
  run(y.view.size(), [&] { device::copy(x, y.view); });
  return y.array;
}

py::object copy_channels_last(const py::object& x_) {
  Input x = plain("channels_last", "x", x_);
  check::rank("channels_last", "x", x, 4, "(N, C, H, W)");
  const void* before = x.view.data;
  Input y = channels_last(std::move(x));
  return y.view.data == before && y.view.size() > 0 ? x_ : y.owner;
}

Array concatenate(const py::object& xs_, std::int64_t axis) {
  if (!py::isinstance<py::tuple>(xs_) && !py::isinstance<py::list>(xs_))
    check::fail_type("concatenate", "xs must be a tuple or list of arrays, got " +
                                        std::string(py::str(py::type::of(xs_).attr("__name__"))));
  const auto count = static_cast<int>(py::len(xs_));
  if (count == 0) check::fail_value("concatenate", "xs must hold at least one array, got none");
  std::vector<Input> owners;
  std::vector<View> xs;
  for (int i = 0; i < count; ++i) {
    owners.push_back(plain("concatenate", ("xs[" + std::to_string(i) + "]").c_str(), xs_[py::int_(i)]));
    xs.push_back(owners.back().view);
  }
  const int along = check_concatenate(xs.data(), count, axis);
  std::int64_t shape[kMaxDims], starts[kMaxDims] = {}, steps[kMaxDims];
  for (int d = 0; d < xs[0].ndim; ++d) {
    shape[d] = xs[0].shape[d];
    steps[d] = 1;
  }
  shape[along] = 0;
  for (const View& x : xs) shape[along] += x.shape[along];
  Output y = empty_activation(xs[0].dtype, shape, xs[0].ndim);
  run(y.view.size(), [&] {
    for (const View& x : xs) {
      device::copy(x, slice_of(y.view, starts, steps, x.shape));
      starts[along] += x.shape[along];
    }
  });
  return y.array;
}

Array slice_backward(const py::handle& dy_, const std::vector<std::int64_t>& shape,
                     const std::vector<std::int64_t>& starts, const std::vector<std::int64_t>& steps) {
  const Input dy = plain("slice_backward", "dy", dy_);
  const auto size = [](const std::vector<std::int64_t>& v) { return static_cast<int>(v.size()); };
  check_slice_backward(dy, shape.data(), size(shape), starts.data(), size(starts), steps.data(), size(steps));
  Output dx = empty_activation(dy.view.dtype, shape.data(), size(shape));
  run(dx.view.size(), [&] {
    device::fill_zero(dx.view);
    device::copy(dy, slice_of(dx.view, starts.data(), steps.data(), dy.view.shape));
  });
  return dx.array;
}

void assign(const py::object& out_, const py::object& x_) {
  const Input out = plain("assign", "out", out_), x = plain("assign", "x", x_);
  const View from = check_assign(out, x);
  expect_writeable("assign", "out", out_);
  // NumPy does what the kernel can't: memory that is not aligned to its items, and an x that overlaps out (copied here:
  // NumPy's own care for overlap misses 1-D arrays of different strides).
  if (!out.owner.is(out_) || overlap(out, from)) {
    if (is_recording()) t_recorder->refuse("assignments between arrays that overlap");
    out_.attr("__setitem__")(py::ellipsis(), x_.attr("copy")());
    return;
  }
  run(out.view.size(), [&] { device::copy(from, out.view); });
}

Array clone(const py::object& x_) {
  const Input x = plain("clone", "x", x_);
  Output y = empty_like(x.view);
  run(y.view.size(), [&] { device::copy(x, y.view); });
  return y.array;
}

Array cast(const py::object& x_, const std::string& dtype) {
  check::choice("cast", "dtype", dtype, {"float32", "float64", "bfloat16", "int32", "int64", "uint8", "bool"});
  const Input x = in_dense_order(plain("cast", "x", x_));
  int to = 0;
  while (dtype != check::dtype_name(static_cast<DType>(to))) ++to;
  Output y = empty_like(x.view, static_cast<DType>(to));
  run(y.view.size(), [&] { device::cast(x, y.view); });
  return y.array;
}

}  // namespace

void add_copy(py::module_& m) {
  m.def("contiguous", &copy_contiguous, py::arg("x"));
  m.def("channels_last", &copy_channels_last, py::arg("x"));
  m.def("concatenate", &concatenate, py::arg("xs"), py::arg("axis"));
  m.def("slice_backward", &slice_backward, py::arg("dy"), py::arg("shape"), py::arg("starts"), py::arg("steps"));
  m.def("clone", &clone, py::arg("x"));
  m.def("cast", &cast, py::arg("x"), py::arg("dtype"));
  m.def("assign", &assign, py::arg("out"), py::arg("x"));
}

}  // namespace fastdl::bind
