// The statistics of the columns of x [m,c], as the forward pass of batch norm takes them: sums of the distances from an
// origin and of their squares, which are simply added, and finished into mean and invstd [c].
#pragma once
#include <cmath>

#include "cuda/columns.h"

namespace fastdl::cuda::gpu {

// What a column's distances are taken from: the middle one of three of its rows. The sum of squares in float loses
// digits where the origin is many deviations off: for that, two of the three rows must be far from most of the others,
// few enough not to make the deviation large. In double no more digits are lost than n has, as the origin is one of n
// rows.
template <class T>
struct Origin {
  const T *a, *b, *c;

  Origin(const T* x, int64_t rows, int64_t channels)
      : a(x + rows / 5 * channels), b(x + rows / 3 * channels), c(x + rows * 2 / 3 * channels) {}
  template <int N>
  FASTDL_DEVICE_ONLY Pack<Wide<T>, N> of(int64_t channel) const {
    const Pack<Wide<T>, N> p = load_wide<N>(a + channel), q = load_wide<N>(b + channel), r = load_wide<N>(c + channel);
    Pack<Wide<T>, N> middle;
    for (int k = 0; k < N; ++k)
      middle.v[k] = std::fmax(std::fmin(p.v[k], q.v[k]), std::fmin(std::fmax(p.v[k], q.v[k]), r.v[k]));
    return middle;
  }
};

template <int N, class W>
FASTDL_DEVICE_ONLY void add_distances(ColumnSums<W, 2 * N>& sums, const Pack<W, N>& x, const Pack<W, N>& origin) {
  for (int k = 0; k < N; ++k) {
    const W distance = x.v[k] - origin.v[k];
    sums.v[k] += distance;
    sums.v[N + k] += distance * distance;
  }
}

template <int N, class T>
struct TakeMoments {
  static constexpr int kColumns = N, kSums = 2, kBlocks = 4;
  using Taken = ColumnSums<Wide<T>, 2 * N>;
  Origin<T> origin;
  const T* x;
  double* partial;

  FASTDL_DEVICE_ONLY Taken take(const Strip& s) const {
    const Pack<Wide<T>, N> from = origin.template of<N>(s.pack * N);
    Taken sums;
    each_row<kRowsAhead<Pack<T, N>, 64>>(
        s, [&](int, int64_t at) { return load_pack<N>(x + at * N); },
        [&](int, int64_t, const Pack<T, N>& row) { add_distances(sums, widened(row), from); });
    return sums;
  }
};

// A channel's two sums, from those of its blocks; on every thread.
FASTDL_DEVICE_ONLY ColumnSums<double, 2> sums_of(const Block& block, const double* partial, int64_t blocks,
                                                 int64_t channels) {
  const double* const from = partial + block.task;
  return {{block.sum_of(0, blocks, [&](int64_t b) { return from[b * 2 * channels]; }),
           block.sum_of(0, blocks, [&](int64_t b) { return from[(b * 2 + 1) * channels]; })}};
}

// A running statistic [c] of any stride, or none.
template <class W>
struct Statistic {
  W* data;
  int64_t stride;

  explicit Statistic(const View& v) : data(v ? v.as<W>() : nullptr), stride(v ? v.strides[0] : 0) {}
  FASTDL_DEVICE_ONLY void update(int64_t c, double value, double momentum) const {
    if (data == nullptr) return;
    W* const at = data + c * stride;
    *at = static_cast<W>((1 - momentum) * static_cast<double>(*at) + momentum * value);
  }
};

// A channel's statistics from the sums of all its rows.
template <class T>
struct FinishForward {
  using W = Wide<T>;
  Origin<T> origin;
  int64_t rows, channels;
  double eps, momentum;
  W *mean, *invstd;
  Statistic<W> running_mean, running_var;
  int64_t* batches;  // or null
  int64_t blocks;
  double* partial;

  FASTDL_DEVICE_ONLY void operator()(const Block& block) const {
    const ColumnSums<double, 2> sums = sums_of(block, partial, blocks, channels);
    if (block.thread == 0) finish(block.task, sums.v[0], sums.v[1], true);
  }
  // running: the running statistics as well.
  FASTDL_DEVICE_ONLY void finish(int64_t c, double distances, double squares, bool running) const {
    const double count = static_cast<double>(rows), distance = distances / count;
    const double center = static_cast<double>(origin.template of<1>(c).v[0]) + distance;
    // Rounding can leave a constant channel just below 0; NaN stays.
    const double around = squares - distance * distances, variance = around < 0 ? 0 : around / count;
    mean[c] = static_cast<W>(center);
    invstd[c] = static_cast<W>(1 / std::sqrt(variance + eps));
    if (!running) return;
    running_mean.update(c, center, momentum);
    running_var.update(c, variance * count / (count - 1), momentum);
    if (c == 0 && batches != nullptr) ++*batches;
  }
};

template <class W>
struct ZeroBoth {
  W *a, *b;
  int64_t* batches;  // or null
  FASTDL_DEVICE_ONLY void operator()(int64_t i) const {
    a[i] = b[i] = 0;
    if (i == 0 && batches != nullptr) ++*batches;
  }
};

}  // namespace fastdl::cuda::gpu
