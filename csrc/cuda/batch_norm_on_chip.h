// Batch norm in one kernel, of an x that stays on the chip, and backward of x and dy: each is read once.
//
// All blocks that share channels finish them, from the same sums in the same order, and write the same bits: each then
// reads what it wrote itself.
#pragma once
#include "cuda/batch_norm_rows.h"
#include "cuda/on_chip.h"

namespace fastdl::cuda::gpu {

// What the blocks of a strip have stored, [block][2][channel].
template <int N>
FASTDL_DEVICE_ONLY TwoSums<N> gather_sums(const double* partial, int64_t channels, const Strip& blocks) {
  TwoSums<N> sum;
  for (int64_t b = blocks.first; b < blocks.rows; b += blocks.step) {
    const double* const from = partial + b * 2 * channels + blocks.pack * N;
    for (int k = 0; k < N; ++k) {
      sum.first[k] += from[k];
      sum.second[k] += from[channels + k];
    }
  }
  return sum;
}

// Sums of the distances from the first row and of their squares: they are simply added, where moments take a division
// each. As that row is one of n, the squares are at most n + 1 times those from the mean: no more digits are lost.
template <bool relu, int N, class T>
struct ForwardOnChip {
  using Sum = TwoSums<N>;
  using Item = Pack<T, N>;
  static constexpr int kItems = 1, kColumns = N;
  FinishForward<Wide<T>> statistics;
  Normalise<relu, N, T> normalise;

  FASTDL_DEVICE_ONLY Sum take(const Strip& s, const Slots<Item>& x) const {
    const T* const column = normalise.x + s.pack * N;
    const Item origin = load_pack<N>(column);
    Sum sum;
    with_loads_ahead(
        static_cast<int>(s.count()), [&](int i) { return load_pack<N>(column + s.row(i) * normalise.channels); },
        [&](int i, const Item& u) {
          x[i] = u;
          for (int k = 0; k < N; ++k) {
            const double distance = static_cast<double>(u.v[k]) - static_cast<double>(origin.v[k]);
            sum.first[k] += distance;
            sum.second[k] += distance * distance;
          }
        });
    return sum;
  }
  FASTDL_DEVICE_ONLY void store(int64_t block, int64_t pack, const Sum& sum) const {
    const int64_t channels = statistics.channels;
    store_sums(statistics.partial + block * 2 * channels + pack * N, channels, sum.first, sum.second);
  }
  FASTDL_DEVICE_ONLY Sum gather(const Strip& blocks) const {
    return gather_sums<N>(statistics.partial, statistics.channels, blocks);
  }
  FASTDL_DEVICE_ONLY void finish(int64_t pack, int k, const Sum& sum, bool first) const {
    const int64_t c = pack * N + k;
    const double distance = sum.first[k] / static_cast<double>(statistics.columns.rows);
    const double center = static_cast<double>(normalise.x[c]) + distance;
    const double squares = sum.second[k] - distance * sum.first[k];
    statistics.save(c, center, squares);
    if (first) statistics.update(c, center, squares);
  }
  FASTDL_DEVICE_ONLY void apply(const Strip& s, const Slots<Item>& x) const {
    const Factors<N, Wide<T>> f(normalise.affine, s.pack * N);
    const auto at = [&](int i) { return s.row(i) * normalise.channels + s.pack * N; };
    with_loads_ahead(
        static_cast<int>(s.count()), [&](int i) { return normalise.residual_of(at(i)); },
        [&](int i, const Item& more) { normalise.row(f, at(i), x[i], more); });
  }
};

// Items: x and what came in of the first row, then of the next.
template <Gate gate, int N, class T>
struct BackwardOnChip {
  using Sum = TwoSums<N>;
  using Item = Pack<T, N>;
  static constexpr int kItems = 2, kColumns = N;
  TakeGradients<gate, N, T> gradients;
  FinishBackward<Wide<T>> sums;
  InputGradient<false, N, T> input;

  struct Row {
    Item x;
    typename Incoming<gate, N, T>::Row incoming;
  };

  FASTDL_DEVICE_ONLY Sum take(const Strip& s, const Slots<Item>& kept) const {
    const Factors<N, Wide<T>> f(gradients.affine, s.pack * N);
    const auto at = [&](int i) { return s.row(i) * gradients.channels + s.pack * N; };
    Sum sum;
    with_loads_ahead(
        static_cast<int>(s.count()),
        [&](int i) { return Row{load_pack<N>(gradients.x + at(i)), gradients.incoming.load(at(i))}; },
        [&](int i, const Row& row) {
          kept[2 * i] = row.x;
          kept[2 * i + 1] = rounded<T>(gradients.add(sum, f, at(i), row.incoming, row.x));
        });
    return sum;
  }
  FASTDL_DEVICE_ONLY void store(int64_t block, int64_t pack, const Sum& sum) const {
    gradients.store(block, pack, sum);
  }
  FASTDL_DEVICE_ONLY Sum gather(const Strip& blocks) const {
    return gather_sums<N>(sums.partial, sums.channels, blocks);
  }
  FASTDL_DEVICE_ONLY void finish(int64_t pack, int k, const Sum& sum, bool) const {
    sums.save(pack * N + k, sum.first[k], sum.second[k]);
  }
  FASTDL_DEVICE_ONLY void apply(const Strip& s, const Slots<Item>& kept) const {
    if (input.dx == nullptr) return;
    const auto t = input.terms(s.pack * N);
    for (int i = 0; i < static_cast<int>(s.count()); ++i)
      input.row(t, s.row(i) * input.channels + s.pack * N, kept[2 * i + 1], kept[2 * i]);
  }
};

}  // namespace fastdl::cuda::gpu
