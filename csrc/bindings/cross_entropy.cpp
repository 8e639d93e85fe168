#include "core/cross_entropy.h"

#include "bindings/array.h"
#include "bindings/families.h"
#include "core/bfloat16.h"

namespace fastdl::bind {

namespace {

constexpr std::int64_t kFarLabel = std::int64_t{1} << 62;

CrossEntropyAttrs attributes(const char* kernel, const py::handle& ignore_index, double label_smoothing,
                             const std::string& reduction) {
  return {integer(kernel, "ignore_index", ignore_index, -kFarLabel, kFarLabel), label_smoothing,
          check_reduction(kernel, reduction)};
}

py::tuple cross_entropy_forward(const py::handle& logits_, const py::handle& target_, const py::handle& weight_,
                                const py::handle& ignore_index, double label_smoothing, const std::string& reduction,
                                bool gradient) {
  const char* kernel = "cross_entropy_forward";
  const Input logits = contiguous(kernel, "logits", logits_, Floats::any), target = integers(kernel, "target", target_),
              weight = optional_contiguous(kernel, "weight", weight_);
  const CrossEntropyAttrs attrs = attributes(kernel, ignore_index, label_smoothing, reduction);
  check_cross_entropy(kernel, logits, target, weight, attrs);
  const DType dtype = wide_dtype(logits.view.dtype);
  Output lse = empty(dtype, {logits.view.shape[0]});
  Output loss = empty(dtype, lse.view.shape, attrs.reduction == Reduction::none ? 1 : 0);
  const Output dlogits = gradient ? empty(logits.view.dtype, logits.view.shape, 2) : Output{};
  run(logits.view.size(),
      [&] { device::cross_entropy_forward(logits, target, weight, attrs, loss.view, lse.view, dlogits.view); });
  if (gradient) return py::make_tuple(loss.array, lse.array, dlogits.array);
  return py::make_tuple(loss.array, lse.array);
}

Array cross_entropy_backward(const py::handle& dloss_, const py::handle& logits_, const py::handle& target_,
                             const py::handle& lse_, const py::handle& weight_, const py::handle& ignore_index,
                             double label_smoothing, const std::string& reduction) {
  const char* kernel = "cross_entropy_backward";
  const Input logits = contiguous(kernel, "logits", logits_, Floats::any), target = integers(kernel, "target", target_),
              weight = optional_contiguous(kernel, "weight", weight_);
  const CrossEntropyAttrs attrs = attributes(kernel, ignore_index, label_smoothing, reduction);
  check_cross_entropy(kernel, logits, target, weight, attrs);
  const Input dloss = contiguous(kernel, "dloss", dloss_), lse = contiguous(kernel, "lse", lse_);
  check_cross_entropy_backward(kernel, dloss, logits, lse, attrs.reduction);
  Output dlogits = empty(logits.view.dtype, logits.view.shape, 2);
  run(logits.view.size(),
      [&] { device::cross_entropy_backward(dloss, logits, target, lse, weight, attrs, dlogits.view); });
  return dlogits.array;
}

}  // namespace

void add_cross_entropy(py::module_& m) {
  m.def("cross_entropy_forward", &cross_entropy_forward, py::arg("logits"), py::arg("target"), py::arg("weight"),
        py::arg("ignore_index"), py::arg("label_smoothing"), py::arg("reduction"), py::arg("gradient") = false);
  m.def("cross_entropy_backward", &cross_entropy_backward, py::arg("dloss"), py::arg("logits"), py::arg("target"),
        py::arg("lse"), py::arg("weight"), py::arg("ignore_index"), py::arg("label_smoothing"), py::arg("reduction"));
}

}  // namespace fastdl::bind
