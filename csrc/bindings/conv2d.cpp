#include "core/conv2d.h"

#include "bindings/array.h"
#include "bindings/families.h"
#include "bindings/gradients.h"
#include "core/bfloat16.h"

namespace fastdl::bind {

namespace {

Window attributes(const char* kernel, const py::handle& stride, const py::handle& padding, const py::handle& dilation) {
  return {{1, 1},
          pair(kernel, "stride", stride, 1),
          pair(kernel, "padding", padding, 0),
          pair(kernel, "dilation", dilation, 1)};
}

// On the GPU channels-last in memory, as optimizers keep it there, if it comes so.
Input weights(const char* kernel, const py::handle& x) {
  if constexpr (kOnHost) return contiguous(kernel, "weight", x);
  Input weight = strided(kernel, "weight", x, Floats::any);
  return weight.view.ndim == 4 && nests(weight.view, kChannelsLast) ? std::move(weight) : in_c_order(std::move(weight));
}

// Multiply-adds of one pass for `run`, without overflow.
std::int64_t work(const View& y, const View& weight) {
  const std::int64_t filter = weight.size() / (weight.shape[0] ? weight.shape[0] : 1);
  return y.size() > 32768 ? y.size() : y.size() * (filter < 32768 ? filter : 32768);
}

Array conv2d_forward(const py::handle& x_, const py::handle& weight_, const py::handle& bias_, const py::handle& stride,
                     const py::handle& padding, const py::handle& dilation, const py::handle& groups, bool relu) {
  const char* kernel = "conv2d_forward";
  const Input x = activation(kernel, "x", x_, Floats::any), weight = weights(kernel, weight_),
              bias = optional_contiguous(kernel, "bias", bias_, Floats::any);
  const Conv2dDims d = check_conv2d_forward(x, weight, bias, attributes(kernel, stride, padding, dilation),
                                            integer(kernel, "groups", groups, 1, kLargestWindow + 1));
  Output y = empty_activation(x.view.dtype, {d.n, d.o, d.oh, d.ow});
  run(work(y.view, weight), [&] { device::conv2d_forward(x, weight, bias, relu, y.view, d, {}); });
  return y.array;
}

py::tuple conv2d_backward(const py::handle& dy_, const py::handle& x_, const py::handle& weight_,
                          const py::handle& stride, const py::handle& padding, const py::handle& dilation,
                          const py::handle& groups, const py::handle& need_, const py::handle& out) {
  const char* kernel = "conv2d_backward";
  const Input dy = activation(kernel, "dy", dy_, Floats::any), x = activation(kernel, "x", x_, Floats::any),
              weight = weights(kernel, weight_);
  const Conv2dDims d = check_conv2d_backward(dy, x, weight, attributes(kernel, stride, padding, dilation),
                                             integer(kernel, "groups", groups, 1, kLargestWindow + 1));
  const auto needs = need<3>(kernel, need_);
  const GradientPlaces places(kernel, out);
  std::optional<Output> dx, dweight, dbias;
  if (needs[0]) dx = empty_activation(dy.view.dtype, {d.n, d.c, d.h, d.w});
  if (needs[1]) dweight = places.make(0, wide_dtype(dy.view.dtype), weight.view, {dy, x, weight});
  if (needs[2]) dbias = places.make(1, wide_dtype(dy.view.dtype), d.o, {dy, x, weight});
  run(work(dy, weight),
      [&] { device::conv2d_backward(dy, x, weight, {}, {}, view_of(dx), view_of(dweight), view_of(dbias), d); });
  return py::make_tuple(result(dx), result(dweight), result(dbias));
}

}  // namespace

void add_conv2d(py::module_& m) {
  m.def("conv2d_forward", &conv2d_forward, py::arg("x"), py::arg("weight"), py::arg("bias"), py::arg("stride"),
        py::arg("padding"), py::arg("dilation"), py::arg("groups"), py::kw_only(), py::arg("relu") = false);
  m.def("conv2d_backward", &conv2d_backward, py::arg("dy"), py::arg("x"), py::arg("weight"), py::arg("stride"),
        py::arg("padding"), py::arg("dilation"), py::arg("groups"), py::arg("need"), py::arg("out") = py::none());
}

}  // namespace fastdl::bind
