// The statistics of the columns of x [m,c], as the forward pass of batch norm takes them: moments by blocks of rows in
// double, merged in a fixed order into mean and invstd [c].
#pragma once
#include <cmath>

#include "cuda/columns.h"

namespace fastdl::cuda::gpu {

// Count, mean and sum of squared distances from it.
template <int N>
struct Moments {
  double count = 0, mean[N] = {}, squares[N] = {};

  FASTDL_DEVICE_ONLY void merge(const Moments& other) {
    if (other.count == 0) return;
    const double total = count + other.count, share = other.count / total;
    for (int k = 0; k < N; ++k) {
      const double distance = other.mean[k] - mean[k];
      mean[k] += distance * share;
      squares[k] += other.squares[k] + (count > 0 ? distance * distance * (count * share) : 0);
    }
    count = total;
  }
};

// Two sums of N neighbouring channels each, where a block's are [2][channel].
template <int N>
FASTDL_DEVICE_ONLY void store_sums(double* to, int64_t channels, const double (&first)[N], const double (&second)[N]) {
  for (int k = 0; k < N; ++k) {
    to[k] = first[k];
    to[channels + k] = second[k];
  }
}

template <int N>
struct TwoSums {
  double first[N] = {}, second[N] = {};

  FASTDL_DEVICE_ONLY void merge(const TwoSums& other) {
    for (int k = 0; k < N; ++k) {
      first[k] += other.first[k];
      second[k] += other.second[k];
    }
  }
};

// partial [block][mean, squares][channel]
template <int N, class T>
struct TakeMoments {
  using Sum = Moments<N>;
  const T* x;
  int64_t channels;
  double* partial;

  FASTDL_DEVICE_ONLY Sum take(const Strip& s) const {
    Sum sum;
    if (s.first >= s.rows) return sum;
    const T* const column = x + s.pack * N;
    const Pack<T, N> origin = load_pack<N>(column + s.first * channels);
    for (int64_t r = s.first + s.step; r < s.rows; r += s.step) {
      const Pack<T, N> u = load_pack<N>(column + r * channels);
      for (int k = 0; k < N; ++k) {
        const double distance = static_cast<double>(u.v[k]) - static_cast<double>(origin.v[k]);
        sum.mean[k] += distance;
        sum.squares[k] += distance * distance;
      }
    }
    sum.count = static_cast<double>(s.count());
    for (int k = 0; k < N; ++k) {
      const double mean = sum.mean[k] / sum.count;
      sum.squares[k] -= mean * sum.mean[k];
      sum.mean[k] = static_cast<double>(origin.v[k]) + mean;
    }
    return sum;
  }
  FASTDL_DEVICE_ONLY void store(int64_t block, int64_t pack, const Sum& sum) const {
    store_sums(partial + block * 2 * channels + pack * N, channels, sum.mean, sum.squares);
  }
};

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

// A channel's moments from those of its blocks: around the mean of all, which comes first.
template <class W>
struct FinishForward {
  Columns columns;
  int64_t channels;
  double* partial;
  double eps, momentum;
  W *mean, *invstd;
  Statistic<W> running_mean, running_var;
  int64_t* batches;  // or null

  FASTDL_DEVICE_ONLY void operator()(const Block& block) const {
    const int64_t c = block.task;
    const double count = static_cast<double>(columns.rows);
    double sum = 0, squares = 0;
    for (int64_t b = block.thread; b < columns.blocks; b += block.threads)
      sum += partial[b * 2 * channels + c] * (static_cast<double>(columns.rows_of(b)) / count);
    const double center = block.sum(sum);
    for (int64_t b = block.thread; b < columns.blocks; b += block.threads) {
      const double distance = partial[b * 2 * channels + c] - center;
      squares += partial[(b * 2 + 1) * channels + c] + distance * distance * static_cast<double>(columns.rows_of(b));
    }
    const double total = block.sum(squares);
    if (block.thread != 0) return;
    save(c, center, total);
    update(c, center, total);
  }
  FASTDL_DEVICE_ONLY void save(int64_t c, double center, double squares) const {
    mean[c] = static_cast<W>(center);
    invstd[c] = static_cast<W>(1 / std::sqrt(variance(squares) + eps));
  }
  FASTDL_DEVICE_ONLY void update(int64_t c, double center, double squares) const {
    const double count = static_cast<double>(columns.rows);
    running_mean.update(c, center, momentum);
    running_var.update(c, variance(squares) * count / (count - 1), momentum);
    if (c == 0 && batches != nullptr) ++*batches;
  }
  // Rounding can leave a constant channel just below 0.
  FASTDL_DEVICE_ONLY double variance(double squares) const {
    return squares < 0 ? 0 : squares / static_cast<double>(columns.rows);
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
