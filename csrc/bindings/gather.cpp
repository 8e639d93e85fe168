#include "core/gather.h"

#include <algorithm>
#include <vector>

#include "bindings/array.h"
#include "bindings/families.h"

namespace fastdl::bind {

namespace {

constexpr const char* kKernel = "gather_batch";

Array gather_batch(const py::handle& data_, const py::handle& index_, double scale, const py::handle& mean_,
                   const py::handle& std_, const std::string& dtype) {
  const Input data = one_of(kKernel, "data", data_, {DType::u8, DType::f32, DType::f64}, "uint8, float32 or float64");
  check_gather_data(data);
  const Input index = in_c_order(one_of(kKernel, "index", index_, {DType::i64}, "int64"));
  check_gather_index(index);
  check::number(kKernel, "scale", scale);
  const Input mean = numbers(kKernel, "mean", mean_), std = numbers(kKernel, "std", std_);
  check_gather_constants("mean", mean, data, false);
  check_gather_constants("std", std, data, true);
  check::choice(kKernel, "dtype", dtype, {"float32", "float64"});
  check::indices(kKernel, "index", index, data.view.shape[0]);
  // (x * scale - mean) / std as x * factor + shift
  const auto entry = [](const Input& x, std::int64_t c) {
    return x.view.as<double>()[x.view.shape[0] > 1 ? c * x.view.strides[0] : 0];
  };
  const std::int64_t count = std::max(mean.view.shape[0], std.view.shape[0]);
  std::vector<double> factor, shift;
  for (std::int64_t c = 0; c < count; ++c) {
    factor.push_back(scale / entry(std, c));
    shift.push_back(-entry(mean, c) / entry(std, c));
  }
  std::int64_t shape[kMaxDims];
  for (int d = 0; d < data.view.ndim; ++d) shape[d] = data.view.shape[d];
  shape[0] = index.view.shape[0];
  Output y = empty_activation(dtype == "float64" ? DType::f64 : DType::f32, shape, data.view.ndim);
  run(y.view.size(), [&] { device::gather_batch(data, index, {factor.data(), shift.data(), count > 1}, y.view); });
  return y.array;
}

}  // namespace

void add_gather(py::module_& m) {
  using py::arg;
  m.def("gather_batch", &gather_batch, arg("data"), arg("index"), arg("scale"), arg("mean"), arg("std"), arg("dtype"));
}

}  // namespace fastdl::bind
