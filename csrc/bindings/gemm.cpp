#include "core/gemm.h"

#include "bindings/array.h"
#include "bindings/families.h"

namespace fastdl::bind {

namespace {

// The view of x with its batch dimensions broadcast to those of the product: stride 0 where it repeats.
View broadcast_batch(const View& x, const GemmDims& d) {
  View out = x;
  out.ndim = d.batch_ndim + 2;
  for (int i = 0; i < out.ndim; ++i) {
    const int from = i - (out.ndim - x.ndim);
    const bool matrix = i >= d.batch_ndim;
    out.shape[i] = matrix ? x.shape[from] : d.batch[i];
    out.strides[i] = from < 0 || (!matrix && x.shape[from] == 1) ? 0 : x.strides[from];
  }
  return out;
}

Array gemm(const py::handle& a_, const py::handle& b_) {
  const Input a = strided("gemm", "a", a_, Floats::any), b = strided("gemm", "b", b_, Floats::any);
  const GemmDims d = check_gemm(a, b);
  std::int64_t shape[kMaxDims];
  std::int64_t work = d.m * d.n * (d.k + 1);
  for (int i = 0; i < d.batch_ndim; ++i) work *= shape[i] = d.batch[i];
  shape[d.batch_ndim] = d.m;
  shape[d.batch_ndim + 1] = d.n;
  Output c = empty(a.view.dtype, shape, d.batch_ndim + 2);
  run(work, [&] { device::gemm(broadcast_batch(a, d), broadcast_batch(b, d), c.view); });
  return c.array;
}

}  // namespace

void add_gemm(py::module_& m) { m.def("gemm", &gemm, py::arg("a"), py::arg("b")); }

}  // namespace fastdl::bind
