// Matrix products of any strides by the tiled product.
#include "core/gemm.h"

#include "cuda/product.h"

namespace fastdl::cuda::gpu {

namespace {

// Matrices at the places that their batch dimensions give.
template <class T>
struct Batches {
  const T* p;
  int64_t row, column;
  bool k_near;
  int ndim;
  int64_t shape[kMaxDims], strides[kMaxDims];

  Batches(const View& x, bool k_is_row)
      : p(x.as<T>()), row(x.strides[x.ndim - 2]), column(x.strides[x.ndim - 1]), ndim(x.ndim - 2) {
    k_near = (k_is_row ? row : column) == 1;
    for (int d = 0; d < ndim; ++d) {
      shape[d] = x.shape[d];
      strides[d] = x.strides[d];
    }
  }
  FASTDL_DEVICE_ONLY Matrix<T> of(int64_t batch) const {
    const T* at = p;
    for (int d = ndim - 1; d >= 0; --d) {
      at += batch % shape[d] * strides[d];
      batch /= shape[d];
    }
    return {at, row, column, k_near};
  }
};

}  // namespace

void gemm(View a, View b, Out c) {
  const int64_t m = c.shape[c.ndim - 2], n = c.shape[c.ndim - 1], k = a.shape[a.ndim - 1];
  int64_t batch = 1;
  for (int d = 0; d + 2 < c.ndim; ++d) batch *= c.shape[d];
  with_float(c.dtype, [&](auto type) {
    using T = decltype(type);
    multiply<T>(batch, m, n, k, Batches<T>(a, false), Batches<T>(b, true), PutRows<T>{c.as<T>(), m, n});
  });
}

FASTDL_REGISTER(gemm)

}  // namespace fastdl::cuda::gpu
