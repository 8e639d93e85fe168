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

// sums[j] = sum of x[i][j] over the rows i: in row order within chunks of rows, then chunk by chunk, which finish()
// adds up after all tasks have run. Chunks follow from the shape alone. Scratch: at most 16 * cols.
template <class T>
class ColumnSums {
 public:
  FASTDL_INLINE ColumnSums(const T* values, int64_t row_count, int64_t col_count, T* results)
      : x(values),
        rows(row_count),
        cols(col_count),
        sums(results),
        chunks(max_of(1, min_of(16, rows / 256))),
        blocks(ceil_div(cols, kBlock)),
        partial(chunks > 1 ? chunks * cols : 0) {}

  FASTDL_INLINE int64_t tasks() const { return chunks * blocks; }
  FASTDL_INLINE double cost() const { return static_cast<double>(rows * blocks) * 2; }  // of all tasks, in ns
  FASTDL_INLINE void run(int64_t task) const {
    const int64_t chunk = task / blocks, j = task % blocks * kBlock, from = chunk * rows / chunks;
    sum_columns<T, 4>(x + from * cols + j, (chunk + 1) * rows / chunks - from, cols, min_of(kBlock, cols - j),
                      (chunks > 1 ? partial + chunk * cols : sums) + j);
  }
  FASTDL_INLINE void finish() const {
    for (int64_t j = 0; chunks > 1 && j < cols; ++j) {
      T sum = partial[j];
      for (int64_t chunk = 1; chunk < chunks; ++chunk) sum += partial[chunk * cols + j];
      sums[j] = sum;
    }
  }

 private:
  static constexpr int64_t kBlock = 4 * kLanes<T>;  // columns at a time

  const T* x;
  int64_t rows, cols;
  T* sums;
  int64_t chunks, blocks;
  Scratch<T> partial;
};

template <class T>
inline void column_sums(const T* x, int64_t rows, int64_t cols, T* sums) {
  const ColumnSums<T> plan(x, rows, cols, sums);
  parallel_for(plan.tasks(), plan.cost() / static_cast<double>(max_of(1, plan.tasks())),
               [&](int64_t task) { plan.run(task); });
  plan.finish();
}

}  // namespace fastdl::cpu::FASTDL_ISA
