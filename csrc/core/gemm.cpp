#include "core/gemm.h"

namespace fastdl {

using namespace check;

GemmDims check_gemm(const View& a, const View& b) {
  const char* kernel = "gemm";
  like(kernel, "b", b, "a", a);
  min_rank(kernel, "a", a, 2, "(..., M, K)");
  min_rank(kernel, "b", b, 2, "(..., K, N)");
  const std::string shapes = shape_string(a) + ", b " + shape_string(b);
  GemmDims d{};
  d.m = a.shape[a.ndim - 2];
  d.k = a.shape[a.ndim - 1];
  d.n = b.shape[b.ndim - 1];
  if (b.shape[b.ndim - 2] != d.k)
    fail_value(kernel, "b expects " + std::to_string(b.shape[b.ndim - 2]) + " columns in a, a has " +
                           std::to_string(d.k) + " (a " + shapes + ")");
  d.batch_ndim = (a.ndim > b.ndim ? a.ndim : b.ndim) - 2;
  for (int i = 0; i < d.batch_ndim; ++i) {
    const int ia = i - (d.batch_ndim + 2 - a.ndim), ib = i - (d.batch_ndim + 2 - b.ndim);
    const std::int64_t sa = ia < 0 ? 1 : a.shape[ia], sb = ib < 0 ? 1 : b.shape[ib];
    if (sa != sb && sa != 1 && sb != 1)
      fail_value(kernel, "a and b must have leading dimensions that broadcast, got " + shape_string(a) + " and " +
                             shape_string(b));
    d.batch[i] = sa == 1 ? sb : sa;
  }
  return d;
}

}  // namespace fastdl
