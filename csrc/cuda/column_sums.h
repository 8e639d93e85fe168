// Sums of the columns of x [m,c], contiguous, in double: gradients of biases.
#pragma once
#include "cuda/columns.h"

namespace fastdl::cuda::gpu {

struct ColumnSum {
  double value = 0;
  FASTDL_DEVICE_ONLY void merge(const ColumnSum& other) { value += other.value; }
};

template <class T>
struct TakeColumnSums {
  using Sum = ColumnSum;
  const T* x;
  int64_t columns;
  double* partial;  // [block][column]

  FASTDL_DEVICE_ONLY Sum take(const Strip& s) const {
    Sum sum;
    for (int64_t r = s.first; r < s.rows; r += s.step) sum.value += static_cast<double>(x[r * columns + s.pack]);
    return sum;
  }
  FASTDL_DEVICE_ONLY void store(int64_t block, int64_t column, const Sum& sum) const {
    partial[block * columns + column] = sum.value;
  }
};

template <class T>
struct FinishColumnSums {
  const double* partial;
  int64_t blocks, columns;
  T* y;

  FASTDL_DEVICE_ONLY void operator()(const Block& block) const {
    const int64_t column = block.task;
    const double sum = block.sum_of(0, blocks, [&](int64_t b) { return partial[b * columns + column]; });
    if (block.thread == 0) y[column] = static_cast<T>(sum);
  }
};

template <class T, class Y>
void column_sums(const T* x, int64_t rows, int64_t columns, Y* y) {
  const Columns c = columns_of(rows, columns, kMostSumBlocks);
  double* const partial = workspace<double>(c.blocks * columns);
  for_sums(c, TakeColumnSums<T>{x, columns, partial});
  for_tasks(columns, c.blocks <= kWarp ? kWarp : kFinishThreads, FinishColumnSums<Y>{partial, c.blocks, columns, y});
}

}  // namespace fastdl::cuda::gpu
