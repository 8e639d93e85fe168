// Batch norm in one kernel where x (backward: x and dy) fits in the chip's shared memory, each array read or written
// once. Otherwise in two passes over memory forward (sums; normalise) and two backward (sums; dx), with a kernel over
// the channels between them: 3 and 5 transfers of the size of x. The second pass walks up from the last row, so that it
// begins with what the first left in the cache.
//
// Arrays along the channels are of type W, what images of type T are computed in. Sums are taken in double, forward of
// the distances from each thread's first row. Threads and blocks are merged in a fixed order (Chan, Golub and LeVeque
// 1983), by the shape and the device's size alone. Scratch: at most kMostSumBlocks blocks of 2 * 128 doubles, or one of
// 2 c. A fused ReLU keeps nothing: backward computes the sign of its argument again, from the same rounded factors.
#include "core/batch_norm.h"

#include "cuda/batch_norm_on_chip.h"

namespace fastdl::cuda::gpu {

namespace {

template <class T>
T* data_of(const View& v) {
  return v ? v.as<T>() : nullptr;
}

// Channels that a thread takes together: with 8 their factors and sums would not fit in its registers.
template <class T>
inline constexpr int kChannels = kPack<T> < 4 ? kPack<T> : 4;

// Calls f(T{}, std::integral_constant<int, N>{}) with whole packs of N channels where all of the arrays [m,c] allow it.
template <class F>
void with_packs(const View& x, std::initializer_list<View> others, const F& f) {
  with_any_float(x.dtype, [&](auto type) {
    using T = decltype(type);
    bool packed = x.shape[1] % kChannels<T> == 0 && on_border(x.data);
    for (const View& other : others) packed = packed && (!other || on_border(other.data));
    packed ? f(type, std::integral_constant<int, kChannels<T>>{}) : f(type, std::integral_constant<int, 1>{});
  });
}

template <bool relu, int N, class T>
Normalise<relu, N, T> normalising(const View& x, const Affine<Wide<T>>& affine, const View& residual, const View& y) {
  return {affine, x.as<T>(), data_of<T>(residual), x.shape[1], y.as<T>()};
}

// `statistics` says what to do with the moments, but not yet how they are taken.
template <bool relu, int N, class T>
void forward(const View& x, FinishForward<Wide<T>> statistics, const Affine<Wide<T>>& affine, const View& residual,
             const View& y) {
  const int64_t rows = x.shape[0], channels = x.shape[1], packs = channels / N;
  Columns& columns = statistics.columns = OnChip<ForwardOnChip<relu, N, T>>::share_out(rows, packs);
  const bool on_chip = columns.blocks > 0;
  if (!on_chip) columns = columns_of(rows, packs, kMostSumBlocks);
  statistics.partial = workspace<double>(columns.blocks * 2 * channels);
  const auto normalise = normalising<relu, N, T>(x, affine, residual, y);
  if (on_chip) {
    for_sums_on_chip(columns, ForwardOnChip<relu, N, T>{statistics, normalise});
    return;
  }
  for_sums(columns, TakeMoments<N, T>{x.as<T>(), channels, statistics.partial});
  for_tasks(channels, kFinishThreads, statistics);
  for_strips(columns_of(rows, packs, kMostMapBlocks), normalise);
}

// `centered`: x was normalised with statistics of its own, through which gradients pass as well.
template <Gate gate, int N, class T>
void backward(const Incoming<gate, N, T>& incoming, const View& x, const Affine<Wide<T>>& affine, bool centered,
              const View& dx, const View& dweight, const View& dbias) {
  using W = Wide<T>;
  const int64_t rows = x.shape[0], channels = x.shape[1], packs = channels / N;
  W *slope = nullptr, *offset = nullptr;
  const auto input = [&](auto relu) {
    return InputGradient<decltype(relu)::value, N, T>{affine, incoming.for_dx(), x.as<T>(),     slope,
                                                      offset, channels,          data_of<T>(dx)};
  };
  if (dweight || dbias || centered) {
    Columns columns = OnChip<BackwardOnChip<gate, N, T>>::share_out(rows, packs);
    const bool on_chip = columns.blocks > 0;
    if (!on_chip) columns = columns_of(rows, packs, kMostSumBlocks);
    const int64_t sums = columns.blocks * 2 * channels;
    double* const partial = workspace<double>(sums + 2 * channels);
    if (dx && centered) {
      slope = reinterpret_cast<W*>(partial + sums);
      offset = reinterpret_cast<W*>(partial + sums + channels);
    }
    const TakeGradients<gate, N, T> gradients{affine, incoming, x.as<T>(), channels, partial};
    const FinishBackward<W> finish{columns,           channels, partial, affine, data_of<W>(dweight),
                                   data_of<W>(dbias), slope,    offset};
    if (on_chip) {
      for_sums_on_chip(columns, BackwardOnChip<gate, N, T>{gradients, finish, input(std::false_type{})});
      return;
    }
    for_sums(columns, gradients);
    for_tasks(channels, kFinishThreads, finish);
  }
  if (dx) for_strips(columns_of(rows, packs, kMostMapBlocks), input(std::bool_constant<gate == Gate::computed>{}));
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
    const FinishForward<W> statistics{{},
                                      channels,
                                      nullptr,
                                      eps,
                                      running.momentum,
                                      means,
                                      invstds,
                                      Statistic<W>(running.mean),
                                      Statistic<W>(running.var),
                                      batches};
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
    for_strips(columns_of(x.shape[0], x.shape[1] / N, kMostMapBlocks), normalising<false, N, T>(x, affine, View{}, y));
  });
}

void batch_norm_backward(View dy, View x, View weight, View bias, View mean, View invstd, bool relu, Out dx,
                         Out dweight, Out dbias) {
  with_packs(x, {dy, dx}, [&](auto type, auto pack) {
    using T = decltype(type);
    using W = Wide<T>;
    constexpr int N = decltype(pack)::value;
    const Affine<W> affine{mean.as<W>(), invstd.as<W>(), nullptr, data_of<W>(weight), data_of<W>(bias), 0};
    relu ? backward(Incoming<Gate::computed, N, T>{dy.as<T>()}, x, affine, true, dx, dweight, dbias)
         : backward(Incoming<Gate::none, N, T>{dy.as<T>()}, x, affine, true, dx, dweight, dbias);
  });
}

void batch_norm_residual_backward(View dy, View more, View y, View x, View weight, View mean, View invstd, Out dx,
                                  Out dweight, Out dbias, Out dresidual) {
  with_packs(x, {dy, more, y, dx, dresidual}, [&](auto type, auto pack) {
    using T = decltype(type);
    using W = Wide<T>;
    const Affine<W> affine{mean.as<W>(), invstd.as<W>(), nullptr, data_of<W>(weight), nullptr, 0};
    const Incoming<Gate::kept, decltype(pack)::value, T> incoming{dy.as<T>(), data_of<T>(more), y.as<T>(),
                                                                  dresidual.as<T>()};
    backward(incoming, x, affine, true, dx, dweight, dbias);
  });
}

void batch_norm_inference_backward(View dy, View x, View weight, View running_mean, View running_var, double eps,
                                   Out dx, Out dweight, Out dbias) {
  with_packs(x, {dy, dx}, [&](auto type, auto pack) {
    using T = decltype(type);
    using W = Wide<T>;
    const Affine<W> affine{running_mean.as<W>(), nullptr, running_var.as<W>(), data_of<W>(weight), nullptr, eps};
    backward(Incoming<Gate::none, decltype(pack)::value, T>{dy.as<T>()}, x, affine, false, dx, dweight, dbias);
  });
}

FASTDL_REGISTER(batch_norm_forward)
FASTDL_REGISTER(batch_norm_inference)
FASTDL_REGISTER(batch_norm_backward)
FASTDL_REGISTER(batch_norm_residual_backward)
FASTDL_REGISTER(batch_norm_inference_backward)

}  // namespace fastdl::cuda::gpu
