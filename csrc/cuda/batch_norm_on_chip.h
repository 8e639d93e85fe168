// Batch norm in one kernel, of an x that stays on the chip, and backward of x and dy: each is read once.
//
// All blocks that share channels finish them, from the same sums in the same order, and write the same bits: each then
// reads what it wrote itself.
#pragma once
#include "cuda/batch_norm_rows.h"
#include "cuda/on_chip.h"

namespace fastdl::cuda::gpu {

template <bool relu, int N, class T>
struct ForwardOnChip {
  using Item = Pack<T, N>;
  using Taken = ColumnSums<Wide<T>, 2 * N>;
  static constexpr int kItems = 1, kColumns = N, kSums = 2;
  FinishForward<T> statistics;
  Normalise<relu, N, T> normalise;
  double* partial;

  FASTDL_DEVICE_ONLY Taken take(const Strip& s, const Slots<Item>& x) const {
    const Pack<Wide<T>, N> from = statistics.origin.template of<N>(s.pack * N);
    Taken sums;
    each_row<kChipRowsAhead<Item>>(
        s, [&](int, int64_t at) { return load_pack<N>(normalise.x + at * N); },
        [&](int i, int64_t, const Item& row) {
          x[i] = row;
          add_distances(sums, widened(row), from);
        });
    return sums;
  }
  FASTDL_DEVICE_ONLY void finish(int64_t c, double distances, double squares, bool once) const {
    statistics.finish(c, distances, squares, once);
  }
  FASTDL_DEVICE_ONLY void apply(const Strip& s, const Slots<Item>& x) const {
    normalise.template rows<kKeptRowsAhead>(s, [&](int i, int64_t) { return x[i]; });
  }
};

// Items: x and what came in of the first row, then of the next.
template <Gate gate, int N, class T>
struct BackwardOnChip {
  using Item = Pack<T, N>;
  using Gradients = TakeGradients<gate, N, T>;
  using Input = InputGradient<false, N, T>;
  using Taken = typename Gradients::Taken;
  static constexpr int kItems = 2, kColumns = N, kSums = 2;
  Gradients gradients;
  FinishBackward<Wide<T>> sums;
  Input input;
  double* partial;

  FASTDL_DEVICE_ONLY Taken take(const Strip& s, const Slots<Item>& kept) const {
    using Row = typename Gradients::Row;
    const Factors<N, Wide<T>> f(gradients.affine, s.pack * N);
    Taken taken;
    each_row<kChipRowsAhead<Row>>(
        s, [&](int, int64_t at) { return gradients.load(at); },
        [&](int i, int64_t at, const Row& row) {
          kept[2 * i] = row.x;
          kept[2 * i + 1] = rounded<T>(gradients.add(taken, f, at, row));
        });
    return taken;
  }
  FASTDL_DEVICE_ONLY void finish(int64_t c, double dy, double product, bool) const { sums.finish(c, dy, product); }
  FASTDL_DEVICE_ONLY void apply(const Strip& s, const Slots<Item>& kept) const {
    if (input.dx == nullptr) return;
    input.template rows<kKeptRowsAhead>(
        s, [&](int i, int64_t) { return typename Input::Row{kept[2 * i + 1], kept[2 * i]}; });
  }
};

}  // namespace fastdl::cuda::gpu
