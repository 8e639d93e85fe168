// Sums of the columns of x [m,c], contiguous: gradients of biases. Runs of rows are added in what is computed in, those
// in double.
#pragma once
#include "cuda/columns.h"

namespace fastdl::cuda::gpu {

template <int N, class T>
struct TakeColumnSums {
  static constexpr int kColumns = N, kSums = 1, kBlocks = 4;
  using Taken = ColumnSums<Wide<T>, N>;
  const T* x;
  double* partial;  // [block][column]

  FASTDL_DEVICE_ONLY Taken take(const Strip& s) const {
    Taken sums;
    each_row<kRowsAhead<Pack<T, N>, 64>>(
        s, [&](int, int64_t at) { return load_pack<N>(x + at * N); },
        [&](int, int64_t, const Pack<T, N>& row) {
          const Pack<Wide<T>, N> u = widened(row);
          for (int k = 0; k < N; ++k) sums.v[k] += u.v[k];
        });
    return sums;
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

template <int N, class T, class Y>
void column_sums_by(const T* x, int64_t rows, int64_t columns, Y* y) {
  const Columns c = columns_for<TakeColumnSums<N, T>>(rows, columns / N);
  double* const partial = workspace<double>(c.blocks * columns);
  for_sums(c, TakeColumnSums<N, T>{x, partial});
  for_tasks(columns, c.blocks <= kWarp ? kWarp : kFinishThreads, FinishColumnSums<Y>{partial, c.blocks, columns, y});
}

template <class T, class Y>
void column_sums(const T* x, int64_t rows, int64_t columns, Y* y) {
  on_border(x) && columns % kPack<T> == 0 ? column_sums_by<kPack<T>>(x, rows, columns, y)
                                          : column_sums_by<1>(x, rows, columns, y);
}

}  // namespace fastdl::cuda::gpu
