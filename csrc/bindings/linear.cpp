#include "core/linear.h"

#include "bindings/array.h"
#include "bindings/families.h"
#include "bindings/gradients.h"
#include "core/bfloat16.h"

namespace fastdl::bind {

namespace {

// Leading dimensions folded into rows: [..., i] becomes [r, i].
View fold(View x) {
  std::int64_t rows = 1;
  for (int d = 0; d + 1 < x.ndim; ++d) rows *= x.shape[d];
  const std::int64_t features = x.shape[x.ndim - 1];
  x.ndim = 2;
  x.shape[0] = rows;
  x.shape[1] = x.strides[0] = features;
  x.strides[1] = 1;
  return x;
}

Output empty_rows(const View& like, std::int64_t features) {
  std::int64_t shape[kMaxDims];
  for (int d = 0; d < like.ndim; ++d) shape[d] = like.shape[d];
  shape[like.ndim - 1] = features;
  return empty(like.dtype, shape, like.ndim);
}

Array linear_forward(const py::handle& x_, const py::handle& weight_, const py::handle& bias_, bool relu) {
  const char* kernel = "linear_forward";
  const Input x = contiguous(kernel, "x", x_, Floats::any), weight = contiguous(kernel, "weight", weight_, Floats::any),
              bias = optional_contiguous(kernel, "bias", bias_, Floats::any);
  check_linear_forward(x, weight, bias);
  Output y = empty_rows(x, weight.view.shape[0]);
  run(y.view.size() * weight.view.shape[1], [&] { device::linear_forward(fold(x), weight, bias, relu, fold(y.view)); });
  return y.array;
}

py::tuple linear_backward(const py::handle& dy_, const py::handle& x_, const py::handle& weight_,
                          const py::handle& need_, const py::handle& out) {
  const char* kernel = "linear_backward";
  const Input dy = contiguous(kernel, "dy", dy_, Floats::any), x = contiguous(kernel, "x", x_, Floats::any),
              weight = contiguous(kernel, "weight", weight_, Floats::any);
  check_linear_backward(dy, x, weight);
  const auto needs = need<3>(kernel, need_);
  const GradientPlaces places(kernel, out);
  std::optional<Output> dx, dweight, dbias;
  if (needs[0]) dx = empty_rows(dy, weight.view.shape[1]);
  if (needs[1]) dweight = places.make(0, wide_dtype(dy.view.dtype), weight.view, {dy, x, weight});
  if (needs[2]) dbias = places.make(1, wide_dtype(dy.view.dtype), weight.view.shape[0], {dy, x, weight});
  run(dy.view.size() * weight.view.shape[1], [&] {
    device::linear_backward(fold(dy), fold(x), weight, {}, dx ? fold(dx->view) : View{}, view_of(dweight),
                            view_of(dbias));
  });
  return py::make_tuple(result(dx), result(dweight), result(dbias));
}

}  // namespace

void add_linear(py::module_& m) {
  m.def("linear_forward", &linear_forward, py::arg("x"), py::arg("weight"), py::arg("bias"), py::kw_only(),
        py::arg("relu") = false);
  m.def("linear_backward", &linear_backward, py::arg("dy"), py::arg("x"), py::arg("weight"), py::arg("need"),
        py::arg("out") = py::none());
}

}  // namespace fastdl::bind
