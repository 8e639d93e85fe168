// Matrix products by cuBLASLt where it can express the strides, by the tiled product otherwise.
#include "core/gemm.h"

#include "cuda/matmul.h"
#include "cuda/tensor_product.h"

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

constexpr int64_t kMostCalls = 64;  // of the library, for batches that don't lie in one stride

// The batch dimensions, with those made one that a and b walk through in one stride.
struct Walk {
  int ndim = 0;
  int64_t count[kMaxDims], a[kMaxDims], b[kMaxDims];

  Walk(const View& x, const View& y) {
    for (int d = 0; d + 2 < x.ndim; ++d) {
      const int64_t n = x.shape[d], of_a = x.strides[d], of_b = y.strides[d];
      if (n == 1) continue;
      const int last = ndim - 1;
      if (ndim > 0 && a[last] == of_a * n && b[last] == of_b * n) {
        count[last] *= n;
        a[last] = of_a, b[last] = of_b;
      } else {
        count[ndim] = n;
        a[ndim] = of_a, b[ndim++] = of_b;
      }
    }
  }
};

bool by_library(const View& a, const View& b, const Out& c) {
  const int r = c.ndim - 2, s = c.ndim - 1;
  Matmul product{a.dtype,
                 c.dtype,
                 1,
                 c.shape[r],
                 c.shape[s],
                 a.shape[s],
                 {a.data, a.strides[r], a.strides[s]},
                 {b.data, b.strides[r], b.strides[s]},
                 c.data};
  Walk walk(a, b);
  if (walk.ndim > 0) {
    const int last = --walk.ndim;
    if (walk.b[last] == 0 && walk.a[last] == product.m * product.a.row) {  // one b for all: more rows of a
      product.m *= walk.count[last];
    } else {
      product.batch = walk.count[last];
      product.a.apart = walk.a[last];
      product.b.apart = walk.b[last];
    }
  }
  int64_t calls = 1;
  for (int d = 0; d < walk.ndim; ++d) calls *= walk.count[d];
  if (calls > kMostCalls) return false;
  for (int64_t call = 0; call < calls; ++call) {
    int64_t from_a = 0, from_b = 0, rest = call;
    for (int d = walk.ndim - 1; d >= 0; --d) {
      from_a += rest % walk.count[d] * walk.a[d];
      from_b += rest % walk.count[d] * walk.b[d];
      rest /= walk.count[d];
    }
    Matmul one = product;
    one.a.data = a.as<const char>() + from_a * item_size(a.dtype);
    one.b.data = b.as<const char>() + from_b * item_size(b.dtype);
    one.c = c.as<char>() + call * product.batch * product.m * product.n * item_size(c.dtype);
    if (!matmul(one)) return false;
  }
  return calls > 0;
}

}  // namespace

void gemm(View a, View b, Out c) {
  if (by_library(a, b, c)) return;
  const int64_t m = c.shape[c.ndim - 2], n = c.shape[c.ndim - 1], k = a.shape[a.ndim - 1];
  int64_t batch = 1;
  for (int d = 0; d + 2 < c.ndim; ++d) batch *= c.shape[d];
  with_any_float(c.dtype, [&](auto type) {
    using T = decltype(type);
    const PutPlain<T> put{c.as<T>(), m, n};
    const auto matrix = [](const View& x) {
      return Matrix<T>{x.as<T>(), x.strides[x.ndim - 2], x.strides[x.ndim - 1], x.strides[x.ndim - 1] == 1};
    };
    if (batch == 1) return multiply_matrices<Wide<T>>(1, m, n, k, matrix(a), matrix(b), put);
    multiply<Wide<T>>(batch, m, n, k, Batches<T>(a, false), Batches<T>(b, true), put);
  });
}

FASTDL_REGISTER(gemm)

}  // namespace fastdl::cuda::gpu
