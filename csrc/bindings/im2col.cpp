#include "core/im2col.h"

#include "bindings/array.h"
#include "bindings/families.h"

namespace fastdl::bind {

namespace {

Window window_of(const char* kernel, const py::handle& kernel_size, const py::handle& dilation,
                 const py::handle& padding, const py::handle& stride) {
  return {pair(kernel, "kernel_size", kernel_size, 1), pair(kernel, "stride", stride, 1),
          pair(kernel, "padding", padding, 0), pair(kernel, "dilation", dilation, 1)};
}

Array im2col(const py::handle& x_, const py::handle& kernel_size, const py::handle& dilation, const py::handle& padding,
             const py::handle& stride) {
  const Input x = contiguous("im2col", "x", x_);
  const Im2colDims d = check_im2col(x, window_of("im2col", kernel_size, dilation, padding, stride));
  const std::int64_t taps = d.window.kernel_size.first * d.window.kernel_size.second;
  Output cols = empty(x.view.dtype, {d.n, d.c * taps, d.oh * d.ow});
  run(cols.view.size(), [&] { device::im2col(x, cols.view, d); });
  return cols.array;
}

Array col2im(const py::handle& cols_, const py::handle& output_size, const py::handle& kernel_size,
             const py::handle& dilation, const py::handle& padding, const py::handle& stride) {
  const char* kernel = "col2im";
  const Input cols = contiguous(kernel, "cols", cols_);
  const Pair size = pair(kernel, "output_size", output_size, 0);
  const Im2colDims d = check_col2im(cols, size, window_of(kernel, kernel_size, dilation, padding, stride));
  Output x = empty_activation(cols.view.dtype, {d.n, d.c, d.h, d.w});
  run(cols.view.size(), [&] { device::col2im(cols, x.view, d); });
  return x.array;
}

}  // namespace

void add_im2col(py::module_& m) {
  m.def("im2col", &im2col, py::arg("x"), py::arg("kernel_size"), py::arg("dilation"), py::arg("padding"),
        py::arg("stride"));
  m.def("col2im", &col2im, py::arg("cols"), py::arg("output_size"), py::arg("kernel_size"), py::arg("dilation"),
        py::arg("padding"), py::arg("stride"));
}

}  // namespace fastdl::bind
