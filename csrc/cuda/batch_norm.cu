// Batch norm in one kernel where x (backward: x and dy) fits in the chip's shared memory, each array read or written
// once. Otherwise in two passes over memory forward (sums; normalise) and two backward (sums; dx), with a kernel over
// the channels between them: 3 and 5 transfers of the size of x. The second pass walks up from the last row, so that it
// begins with what the first left in the cache.
//
// Arrays along the channels are of type W, what images of type T are computed in. A thread takes its sums in W, of at
// most kRunRows rows or those that it keeps on the chip, forward of the distances from one of three rows; everything
// after that is in double. Threads and blocks are merged in a fixed order, by the shape and the device's size alone.
// Scratch: at most 512 blocks of 2 * 256 doubles, or one of 2 c. A fused ReLU keeps nothing: backward computes the sign
// of its argument again, from the same rounded factors.
#include "core/batch_norm.h"

#include "cuda/batch_norm_on_chip.h"

namespace fastdl::cuda::gpu {

namespace {

template <class T>
T* data_of(const View& v) {
  return v ? v.as<T>() : nullptr;
}

// Calls f(T{}, std::integral_constant<int, N>{}) with the widest packs of N channels that all of the arrays [m,c]
// allow.
template <class F>
void with_packs(const View& x, std::initializer_list<View> others, const F& f) {
  with_any_float(x.dtype, [&](auto type) {
    using T = decltype(type);
    constexpr int most = kPack<T>;
    bool packed = on_border(x.data);
    for (const View& other : others) packed = packed && (!other || on_border(other.data));
    if (packed && x.shape[1] % most == 0) return f(type, std::integral_constant<int, most>{});
    if constexpr (most > 4)
      if (packed && x.shape[1] % 4 == 0) return f(type, std::integral_constant<int, 4>{});
    f(type, std::integral_constant<int, 1>{});
  });
}

// Channels that a thread takes together on the chip: with more their sums would take too much of its memory.
template <int N>
inline constexpr int kChipChannels = N < 4 ? N : 4;

template <bool relu, int N, class T>
Normalise<relu, N, T> normalising(const View& x, const Affine<Wide<T>>& affine, const View& residual, const View& y) {
  return {affine, x.as<T>(), data_of<T>(residual), y.as<T>()};
}

// `statistics` says what to do with the sums, but not yet where they are.
template <bool relu, int N, class T>
void forward(const View& x, FinishForward<T> statistics, const Affine<Wide<T>>& affine, const View& residual,
             const View& y) {
  using Chip = ForwardOnChip<relu, kChipChannels<N>, T>;
  const int64_t rows = x.shape[0], channels = x.shape[1], packs = channels / N;
  Columns columns = OnChip<Chip>::share_out(rows, channels / Chip::kColumns);
  const bool on_chip = columns.blocks > 0;
  if (!on_chip) columns = columns_for<TakeMoments<N, T>>(rows, packs);
  statistics.blocks = columns.blocks;
  statistics.partial = workspace<double>(columns.blocks * 2 * channels);
  if (on_chip) {
    for_sums_on_chip(
        columns, Chip{statistics, normalising<relu, Chip::kColumns, T>(x, affine, residual, y), statistics.partial});
    return;
  }
  for_sums(columns, TakeMoments<N, T>{statistics.origin, x.as<T>(), statistics.partial});
  for_tasks(channels, kFinishThreads, statistics);
  for_strips(rows, packs, normalising<relu, N, T>(x, affine, residual, y));
}

// `centered`: x was normalised with statistics of its own, through which gradients pass as well.
template <int N, Gate gate, class T>
void backward(const Incoming<gate, T>& incoming, const View& x, const Affine<Wide<T>>& affine, bool centered,
              const View& dx, const View& dweight, const View& dbias) {
  using W = Wide<T>;
  using Chip = BackwardOnChip<gate, kChipChannels<N>, T>;
  const int64_t rows = x.shape[0], channels = x.shape[1], packs = channels / N;
  W *slope = nullptr, *offset = nullptr;
  if (dweight || dbias || centered) {
    Columns columns = OnChip<Chip>::share_out(rows, channels / Chip::kColumns);
    const bool on_chip = columns.blocks > 0;
    if (!on_chip) columns = columns_for<TakeGradients<gate, N, T>>(rows, packs);
    const int64_t sums = columns.blocks * 2 * channels;
    double* const partial = workspace<double>(sums + 2 * channels);
    if (dx && centered) {
      slope = reinterpret_cast<W*>(partial + sums);
      offset = reinterpret_cast<W*>(partial + sums + channels);
    }
    const FinishBackward<W> finish{rows,   channels,       affine, data_of<W>(dweight), data_of<W>(dbias), slope,
                                   offset, columns.blocks, partial};
    if (on_chip) {
      for_sums_on_chip(columns, Chip{{affine, incoming, x.as<T>(), partial},
                                     finish,
                                     {affine, nullptr, nullptr, slope, offset, data_of<T>(dx)},
                                     partial});
      return;
    }
    for_sums(columns, TakeGradients<gate, N, T>{affine, incoming, x.as<T>(), partial});
    for_tasks(channels, kFinishThreads, finish);
  }
  if (dx)
    for_strips(rows, packs,
               InputGradient<gate == Gate::computed, N, T>{affine, incoming.for_dx(), x.as<T>(), slope, offset,
                                                           data_of<T>(dx)});
}

}  // namespace

// The moments that a convolution may have taken are not used: x is read again.
void batch_norm_forward(View x, View weight, View bias, double eps, Out y, Out mean, Out invstd,
                        const BatchNormRunning& running, bool relu, View residual, View) {
  const int64_t rows = x.shape[0], channels = x.shape[1];
  with_packs(x, {y, residual}, [&](auto type, auto pack) {
    using T = decltype(type);
    using W = Wide<T>;
    constexpr int N = decltype(pack)::value;
    W *const means = mean.as<W>(), *const invstds = invstd.as<W>();
    auto* const batches = running.count ? running.count.template as<int64_t>() : nullptr;
    if (rows == 0) {
      for_each(channels, ZeroBoth<W>{means, invstds, batches});
      return;
    }
    const FinishForward<T> statistics{{x.as<T>(), rows, channels},
                                      rows,
                                      channels,
                                      eps,
                                      running.momentum,
                                      means,
                                      invstds,
                                      Statistic<W>(running.mean),
                                      Statistic<W>(running.var),
                                      batches,
                                      0,
                                      nullptr};
    const Affine<W> affine{means, invstds, nullptr, data_of<W>(weight), data_of<W>(bias), 0};
    relu ? forward<true, N, T>(x, statistics, affine, residual, y)
         : forward<false, N, T>(x, statistics, affine, residual, y);
  });
}

void batch_norm_inference(View x, View weight, View bias, View running_mean, View running_var, double eps, Out y) {
  with_packs(x, {y}, [&](auto type, auto pack) {
    using T = decltype(type);
    using W = Wide<T>;
    constexpr int N = decltype(pack)::value;
    const Affine<W> affine{running_mean.as<W>(), nullptr,          running_var.as<W>(),
                           data_of<W>(weight),   data_of<W>(bias), eps};
    for_strips(x.shape[0], x.shape[1] / N, normalising<false, N, T>(x, affine, View{}, y));
  });
}

void batch_norm_backward(View dy, View x, View weight, View bias, View mean, View invstd, bool relu, Out dx,
                         Out dweight, Out dbias) {
  with_packs(x, {dy, dx}, [&](auto type, auto pack) {
    using T = decltype(type);
    using W = Wide<T>;
    constexpr int N = decltype(pack)::value;
    const Affine<W> affine{mean.as<W>(), invstd.as<W>(), nullptr, data_of<W>(weight), data_of<W>(bias), 0};
    relu ? backward<N>(Incoming<Gate::computed, T>{dy.as<T>()}, x, affine, true, dx, dweight, dbias)
         : backward<N>(Incoming<Gate::none, T>{dy.as<T>()}, x, affine, true, dx, dweight, dbias);
  });
}

void batch_norm_residual_backward(View dy, View more, View y, View x, View weight, View mean, View invstd, Out dx,
                                  Out dweight, Out dbias, Out dresidual) {
  with_packs(x, {dy, more, y, dx, dresidual}, [&](auto type, auto pack) {
    using T = decltype(type);
    using W = Wide<T>;
    const Affine<W> affine{mean.as<W>(), invstd.as<W>(), nullptr, data_of<W>(weight), nullptr, 0};
    const Incoming<Gate::kept, T> incoming{dy.as<T>(), data_of<T>(more), y.as<T>(), dresidual.as<T>()};
    backward<decltype(pack)::value>(incoming, x, affine, true, dx, dweight, dbias);
  });
}

void batch_norm_inference_backward(View dy, View x, View weight, View running_mean, View running_var, double eps,
                                   Out dx, Out dweight, Out dbias) {
  with_packs(x, {dy, dx}, [&](auto type, auto pack) {
    using T = decltype(type);
    using W = Wide<T>;
    const Affine<W> affine{running_mean.as<W>(), nullptr, running_var.as<W>(), data_of<W>(weight), nullptr, eps};
    backward<decltype(pack)::value>(Incoming<Gate::none, T>{dy.as<T>()}, x, affine, false, dx, dweight, dbias);
  });
}

FASTDL_REGISTER(batch_norm_forward)
FASTDL_REGISTER(batch_norm_inference)
FASTDL_REGISTER(batch_norm_backward)
FASTDL_REGISTER(batch_norm_residual_backward)
FASTDL_REGISTER(batch_norm_inference_backward)

}  // namespace fastdl::cuda::gpu
