// Column sums of a row-major matrix: the gradient of a bias.
#pragma once
#include "cpu/simd.h"

namespace fastdl::cpu::FASTDL_ISA {

template <class T, int NV>
FASTDL_INLINE void sum_columns(const T* x, int64_t rows, int64_t stride, int64_t cols, T* sums) {
  constexpr int64_t W = kLanes<T>;
  if (cols == NV * W) {
    Vec<T> acc[NV] = {};
    for (int64_t i = 0; i < rows; ++i)
      for (int v = 0; v < NV; ++v) acc[v] += load(x + i * stride + v * W);
    for (int v = 0; v < NV; ++v) store(sums + v * W, acc[v]);
    return;
  }
  for (int64_t j = 0; j < cols; j += W) {
    const int64_t count = min_of(W, cols - j);
    Vec<T> acc{};
    for (int64_t i = 0; i < rows; ++i) acc += load_part(x + i * stride + j, count);
    store_part(sums + j, acc, count);
  }
}

// sums[j] = sum of x[i][j] over the rows i: in row order within chunks of rows, then chunk by chunk. Chunks follow from
// the shape alone. Scratch: at most 16 * cols.
template <class T>
inline void column_sums(const T* x, int64_t rows, int64_t cols, T* sums) {
  constexpr int64_t B = 4 * kLanes<T>;  // columns at a time
  const int64_t chunks = max_of(1, min_of(16, rows / 256)), blocks = ceil_div(cols, B);
  Scratch<T> partial(chunks * cols);
  parallel_for(chunks * blocks, static_cast<double>(ceil_div(rows, chunks)) * 2, [&](int64_t task) {
    const int64_t chunk = task / blocks, j = task % blocks * B, from = chunk * rows / chunks;
    sum_columns<T, 4>(x + from * cols + j, (chunk + 1) * rows / chunks - from, cols, min_of(B, cols - j),
                      partial + chunk * cols + j);
  });
  for (int64_t j = 0; j < cols; ++j) {
    T sum = partial[j];
    for (int64_t chunk = 1; chunk < chunks; ++chunk) sum += partial[chunk * cols + j];
    sums[j] = sum;
  }
}

}  // namespace fastdl::cpu::FASTDL_ISA
