#include "bindings/layout.h"

#include <string>

#include "core/copy.h"

namespace fastdl::bind {

namespace {

// The dimensions by stride, the largest first.
void order_of(const View& view, int* order) {
  for (int d = 0; d < view.ndim; ++d) {  // insertion sort by stride, largest first
    int i = d;
    for (; i > 0 && view.strides[order[i - 1]] < view.strides[d]; --i) order[i] = order[i - 1];
    order[i] = d;
  }
}

}  // namespace

bool nests(const View& view, const int* order) {
  if (view.size() == 0) return true;  // whose strides CuPy makes 0
  std::int64_t expected = 1;
  for (int i = view.ndim - 1; i >= 0; --i) {
    const int d = order[i];
    if (view.shape[d] != 1 && view.strides[d] != expected) return false;
    expected *= view.shape[d];
  }
  return true;
}

bool dense_in_some_order(const View& view) {
  int order[kMaxDims];
  order_of(view, order);
  return nests(view, order);
}

Input copy_ordered(const View& x, const int* order) {
  Output copy = empty_ordered(x.dtype, x.shape, x.ndim, order);
  run(x.size(), [&] { device::copy(x, copy.view); });
  return {copy.array, copy.view};
}

Input in_dense_order(Input x) { return dense_in_some_order(x.view) ? std::move(x) : copy_ordered(x.view, kCOrder); }

Input in_c_order(Input x) { return nests(x.view, kCOrder) ? std::move(x) : copy_ordered(x.view, kCOrder); }

Input channels_last(Input x) {
  return nests(x.view, kChannelsLast) ? std::move(x) : copy_ordered(x.view, kChannelsLast);
}

Input rounded_copy(const char* kernel, const py::handle& x, const View& param) {
  if (x.is_none()) return {};
  Input input = one_of(kernel, "rounded", x, {DType::bf16}, "bfloat16");
  check::shape(kernel, "rounded", input, param.shape, param.ndim);
  expect_place(kernel, "rounded", x, input);
  return input;
}

void expect_writeable(const char* kernel, const char* name, const py::handle& x) {
  if (!is_writeable(x)) check::fail_value(kernel, std::string(name) + " must be writeable, got a read-only array");
}

void expect_place(const char* kernel, const char* name, const py::handle& x, const Input& input) {
  const bool last = !kOnHost && input.view.ndim == 4 && nests(input.view, kChannelsLast);
  if (!last && !nests(input.view, kCOrder)) {
    const py::tuple strides = x.attr("strides");
    check::fail_value(kernel, std::string(name) + " must be contiguous, got strides " + std::string(py::str(strides)));
  }
  if (!input.owner.is(x))
    check::fail_value(kernel, std::string(name) + " must be aligned to its items, got an odd address");
  expect_writeable(kernel, name, x);
}

Input reordered(const Input& x, const View& like) {
  bool same = true;
  for (int d = 0; d < like.ndim; ++d) same = same && (like.shape[d] < 2 || x.view.strides[d] == like.strides[d]);
  if (same) return x;
  Output copy = empty_like(like, x.view.dtype);
  run(like.size(), [&] { device::copy(x.view, copy.view); });
  return {copy.array, copy.view};
}

Output empty(DType dtype, const std::int64_t* shape, int ndim) { return empty_ordered(dtype, shape, ndim, kCOrder); }

Output empty(DType dtype, std::initializer_list<std::int64_t> shape) {
  return empty(dtype, shape.begin(), static_cast<int>(shape.size()));
}

Output empty_activation(DType dtype, const std::int64_t* shape, int ndim) {
  return empty_ordered(dtype, shape, ndim, ndim == 4 ? kChannelsLast : kCOrder);
}

Output empty_activation(DType dtype, std::initializer_list<std::int64_t> shape) {
  return empty_activation(dtype, shape.begin(), static_cast<int>(shape.size()));
}

Output empty_like(const View& x, DType dtype) {
  int order[kMaxDims];
  order_of(x, order);
  return empty_ordered(dtype, x.shape, x.ndim, order);
}

Output empty_like(const View& x) { return empty_like(x, x.dtype); }

}  // namespace fastdl::bind
