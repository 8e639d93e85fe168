#include "core/pool2d.h"

#include "bindings/array.h"
#include "bindings/families.h"
#include "core/window.h"

namespace fastdl::bind {

namespace {

constexpr Pair kOnes = {1, 1};

Window window_of(const char* kernel, const py::handle& kernel_size, const py::handle& stride,
                 const py::handle& padding) {
  return {pair(kernel, "kernel_size", kernel_size, 1), pair(kernel, "stride", stride, 1),
          pair(kernel, "padding", padding, 0), kOnes};
}

Pair size_pair(const char* kernel, const char* name, const py::handle& value) {
  const Pair size = pair(kernel, name, value, 1);
  check_window_pair(kernel, name, size, 1);
  return size;
}

Pair image_size(const View& x) { return {x.shape[2], x.shape[3]}; }

Output empty_image(DType dtype, const View& like, Pair size) {
  return empty_activation(dtype, {like.shape[0], like.shape[1], size.first, size.second});
}

// An int other than 0, or null for None.
const double* divisor_of(const char* kernel, const py::handle& value, double* storage) {
  if (value.is_none()) return nullptr;
  if (!PyIndex_Check(value.ptr()))
    check::fail_type(kernel, "divisor_override must be an int or None, got " +
                                 std::string(py::str(py::type::of(value).attr("__name__"))));
  const auto whole = py::reinterpret_steal<py::object>(PyNumber_Index(value.ptr()));
  *storage = PyLong_AsDouble(whole.ptr());
  if (PyErr_Occurred()) throw py::error_already_set();
  if (*storage == 0) check::fail_value(kernel, "divisor_override must not be 0, got 0");
  return storage;
}

py::tuple max_pool2d_forward(const py::handle& x_, const py::handle& kernel_size, const py::handle& stride,
                             const py::handle& padding, const py::handle& dilation, bool ceil_mode) {
  const char* kernel = "max_pool2d_forward";
  const Input x = activation(kernel, "x", x_, Floats::any);
  check_pool_sides(kernel, "x", x);
  Window window = window_of(kernel, kernel_size, stride, padding);
  window.dilation = pair(kernel, "dilation", dilation, 1);
  check_max_pool_window(kernel, window);
  const Pair out = window_output_size(kernel, image_size(x), window, ceil_mode);
  const Pool2dTables tables(image_size(x), out, window);
  Output y = empty_image(x.view.dtype, x, out), offsets = empty_image(offset_dtype(window.kernel_size), x, out);
  run(x.view.size(), [&] { device::max_pool2d_forward(x, y.view, offsets.view, tables.dims()); });
  return py::make_tuple(y.array, offsets.array);
}

struct Winners {
  Input offsets;
  Pair input_size;
  Window window;
};

Winners winners_of(const char* kernel, const py::handle& offsets, const py::handle& input_size,
                   const py::handle& kernel_size, const py::handle& stride, const py::handle& padding,
                   const py::handle& dilation) {
  Winners w;
  w.input_size = size_pair(kernel, "input_size", input_size);
  w.window = window_of(kernel, kernel_size, stride, padding);
  w.window.dilation = pair(kernel, "dilation", dilation, 1);
  check_max_pool_window(kernel, w.window);
  const DType dtype = offset_dtype(w.window.kernel_size);
  Input strided = one_of(kernel, "offsets", offsets, {dtype}, dtype == DType::u8 ? "uint8" : "int32");
  check::rank(kernel, "offsets", strided, 4, "(N, C, OH, OW)");
  w.offsets = channels_last(std::move(strided));
  check_offsets(kernel, w.offsets, w.input_size, w.window);
  return w;
}

Array max_pool2d_backward(const py::handle& dy_, const py::handle& offsets, const py::handle& input_size,
                          const py::handle& kernel_size, const py::handle& stride, const py::handle& padding,
                          const py::handle& dilation, const py::handle& y_) {
  const char* kernel = "max_pool2d_backward";
  const Input dy = activation(kernel, "dy", dy_, Floats::any);
  check_pool_image(kernel, "dy", dy);
  const Winners w = winners_of(kernel, offsets, input_size, kernel_size, stride, padding, dilation);
  check::shape(kernel, "dy", dy, w.offsets.view.shape, 4);
  Input y;
  if (!y_.is_none()) y = activation(kernel, "y", y_, Floats::any);
  check::like(kernel, "y", y, "dy", dy);
  check::shape(kernel, "y", y, w.offsets.view.shape, 4);
  const Pool2dTables tables(w.input_size, image_size(dy), w.window);
  Output dx = empty_image(dy.view.dtype, dy, w.input_size);
  run(dx.view.size(), [&] { device::max_pool2d_backward(dy, w.offsets, y, dx.view, tables.dims()); });
  return dx.array;
}

Array max_pool2d_indices(const py::handle& offsets, const py::handle& input_size, const py::handle& kernel_size,
                         const py::handle& stride, const py::handle& padding, const py::handle& dilation) {
  const Winners w = winners_of("max_pool2d_indices", offsets, input_size, kernel_size, stride, padding, dilation);
  const Pool2dTables tables(w.input_size, image_size(w.offsets), w.window);
  Output indices = empty_image(DType::i64, w.offsets, image_size(w.offsets));
  run(indices.view.size(), [&] { device::max_pool2d_indices(w.offsets, indices.view, tables.dims()); });
  return indices.array;
}

Array avg_pool2d_forward(const py::handle& x_, const py::handle& kernel_size, const py::handle& stride,
                         const py::handle& padding, bool ceil_mode, bool count_include_pad,
                         const py::handle& divisor_override) {
  const char* kernel = "avg_pool2d_forward";
  const Input x = activation(kernel, "x", x_, Floats::any);
  check_pool_sides(kernel, "x", x);
  const Window window = window_of(kernel, kernel_size, stride, padding);
  check_pool_window(kernel, window);
  double storage;
  const double* divisor = divisor_of(kernel, divisor_override, &storage);
  const Pair out = window_output_size(kernel, image_size(x), window, ceil_mode);
  const Pool2dTables tables(image_size(x), out, window, count_include_pad, divisor);
  Output y = empty_image(x.view.dtype, x, out);
  run(x.view.size(), [&] { device::avg_pool2d_forward(x, y.view, tables.dims()); });
  return y.array;
}

Array avg_pool2d_backward(const py::handle& dy_, const py::handle& input_size_, const py::handle& kernel_size,
                          const py::handle& stride, const py::handle& padding, bool ceil_mode, bool count_include_pad,
                          const py::handle& divisor_override) {
  const char* kernel = "avg_pool2d_backward";
  const Input dy = activation(kernel, "dy", dy_, Floats::any);
  check_pool_image(kernel, "dy", dy);
  const Pair input_size = size_pair(kernel, "input_size", input_size_);
  const Window window = window_of(kernel, kernel_size, stride, padding);
  check_pool_window(kernel, window);
  double storage;
  const double* divisor = divisor_of(kernel, divisor_override, &storage);
  const Pair out = window_output_size(kernel, input_size, window, ceil_mode);
  check::shape(kernel, "dy", dy, {dy.view.shape[0], dy.view.shape[1], out.first, out.second});
  const Pool2dTables tables(input_size, out, window, count_include_pad, divisor);
  Output dx = empty_image(dy.view.dtype, dy, input_size);
  run(dx.view.size(), [&] { device::avg_pool2d_backward(dy, dx.view, tables.dims()); });
  return dx.array;
}

Array adaptive_avg_pool2d_forward(const py::handle& x_, const py::handle& output_size) {
  const char* kernel = "adaptive_avg_pool2d_forward";
  const Input x = activation(kernel, "x", x_, Floats::any);
  check_pool_sides(kernel, "x", x);
  const Pair out = size_pair(kernel, "output_size", output_size);
  Output y = empty_image(x.view.dtype, x, out);
  const Pool2dTables tables(image_size(x), out);
  run(x.view.size(), [&] { device::avg_pool2d_forward(x, y.view, tables.dims()); });
  return y.array;
}

Array adaptive_avg_pool2d_backward(const py::handle& dy_, const py::handle& input_size) {
  const char* kernel = "adaptive_avg_pool2d_backward";
  const Input dy = activation(kernel, "dy", dy_, Floats::any);
  check_pool_image(kernel, "dy", dy);
  const Pair size = size_pair(kernel, "input_size", input_size);
  check_pool_sides(kernel, "dy", dy);
  Output dx = empty_image(dy.view.dtype, dy, size);
  const Pool2dTables tables(size, image_size(dy));
  run(dx.view.size(), [&] { device::avg_pool2d_backward(dy, dx.view, tables.dims()); });
  return dx.array;
}

}  // namespace

void add_pool2d(py::module_& m) {
  using py::arg;
  m.def("max_pool2d_forward", &max_pool2d_forward, arg("x"), arg("kernel_size"), arg("stride"), arg("padding"),
        arg("dilation"), arg("ceil_mode"));
  m.def("max_pool2d_backward", &max_pool2d_backward, arg("dy"), arg("offsets"), arg("input_size"), arg("kernel_size"),
        arg("stride"), arg("padding"), arg("dilation"), arg("y") = py::none());
  m.def("max_pool2d_indices", &max_pool2d_indices, arg("offsets"), arg("input_size"), arg("kernel_size"), arg("stride"),
        arg("padding"), arg("dilation"));
  m.def("avg_pool2d_forward", &avg_pool2d_forward, arg("x"), arg("kernel_size"), arg("stride"), arg("padding"),
        arg("ceil_mode"), arg("count_include_pad"), arg("divisor_override"));
  m.def("avg_pool2d_backward", &avg_pool2d_backward, arg("dy"), arg("input_size"), arg("kernel_size"), arg("stride"),
        arg("padding"), arg("ceil_mode"), arg("count_include_pad"), arg("divisor_override"));
  m.def("adaptive_avg_pool2d_forward", &adaptive_avg_pool2d_forward, arg("x"), arg("output_size"));
  m.def("adaptive_avg_pool2d_backward", &adaptive_avg_pool2d_backward, arg("dy"), arg("input_size"));
}

}  // namespace fastdl::bind
