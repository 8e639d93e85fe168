// Batch norm in two passes over memory forward (sums; normalise) and two backward (sums; dx), with a kernel over the
// channels between them: 3 and 5 transfers of the size of x. The second pass walks up from the last row, so that it
// begins with what the first left in the cache.
//
// Arrays along the channels are of type W, what images of type T are computed in. Sums are taken in double, forward of
// the distances from each thread's first row: no digits are lost however large the mean is against the deviation.
// Threads and blocks are merged in a fixed order (Chan, Golub and LeVeque 1983). Scratch: at most kMostSumBlocks blocks
// of 2 * 128 doubles, or one of 2 c. A fused ReLU keeps nothing: backward computes the sign of its argument again, from
// the same rounded factors.
#include "core/batch_norm.h"

#include <cmath>

#include "core/activation_math.h"
#include "cuda/batch_norm_moments.h"

namespace fastdl::cuda::gpu {

namespace {

constexpr int kFinishThreads = 128;

// (x - mean) * factor + shift per channel with factor = invstd * weight and shift = bias. invstd is given, or comes
// from var; weight and bias may be absent.
template <class W>
struct Affine {
  const W *mean, *invstd, *var, *weight, *bias;
  double eps;

  FASTDL_BOTH double invstd_of(int64_t c) const {
    return var != nullptr ? 1 / std::sqrt(static_cast<double>(var[c]) + eps) : static_cast<double>(invstd[c]);
  }
  FASTDL_BOTH double scale_of(int64_t c) const {
    return invstd_of(c) * (weight != nullptr ? static_cast<double>(weight[c]) : 1);
  }
};

// Those of N channels from c on.
template <int N, class W>
struct Factors {
  W mean[N], factor[N], shift[N];

  FASTDL_DEVICE_ONLY Factors(const Affine<W>& a, int64_t c) {
    for (int k = 0; k < N; ++k) {
      mean[k] = a.mean[c + k];
      factor[k] = static_cast<W>(a.scale_of(c + k));
      shift[k] = a.bias != nullptr ? a.bias[c + k] : W(0);
    }
  }
  FASTDL_DEVICE_ONLY W affine(W x, int k) const { return (x - mean[k]) * factor[k] + shift[k]; }
  // What a fused ReLU lets through of dy; without one, all of it.
  template <bool relu>
  FASTDL_DEVICE_ONLY W passed(W dy, W x, int k) const {
    if constexpr (relu) return activation::relu_backward(dy, affine(x, k));
    return dy;
  }
};

// y = affine(x), plus the residual if there is one, and the ReLU of that.
template <bool relu, int N, class T>
struct Normalise {
  using W = Wide<T>;
  Affine<W> affine;
  const T *x, *residual;
  int64_t channels;
  T* y;

  FASTDL_DEVICE_ONLY void operator()(const Strip& s) const {
    const Factors<N, W> f(affine, s.pack * N);
    for (int64_t r = s.rows - 1 - s.first; r >= 0; r -= s.step) {
      const int64_t at = r * channels + s.pack * N;
      Pack<W, N> v = load_wide<N>(x + at);
      for (int k = 0; k < N; ++k) v.v[k] = f.affine(v.v[k], k);
      if (residual != nullptr) {
        const Pack<W, N> more = load_wide<N>(residual + at);
        for (int k = 0; k < N; ++k) v.v[k] += more.v[k];
      }
      if constexpr (relu)
        for (int k = 0; k < N; ++k) v.v[k] = activation::relu(v.v[k]);
      store_in_row(y + at, v);
    }
  }
};

template <int N>
struct GradientSums {
  double dy[N] = {}, product[N] = {};

  FASTDL_DEVICE_ONLY void merge(const GradientSums& other) {
    for (int k = 0; k < N; ++k) {
      dy[k] += other.dy[k];
      product[k] += other.product[k];
    }
  }
};

// Sums of dy and of dy * (x - mean), over what a fused ReLU lets through; partial [block][dy, product][channel].
template <bool relu, int N, class T>
struct TakeGradients {
  using Sum = GradientSums<N>;
  using W = Wide<T>;
  Affine<W> affine;
  const T *dy, *x;
  int64_t channels;
  double* partial;

  FASTDL_DEVICE_ONLY Sum take(const Strip& s) const {
    const Factors<N, W> f(affine, s.pack * N);
    Sum sum;
    for (int64_t r = s.first; r < s.rows; r += s.step) {
      const int64_t at = r * channels + s.pack * N;
      const Pack<W, N> u = load_wide<N>(x + at), d = load_wide<N>(dy + at);
      for (int k = 0; k < N; ++k) {
        const double passed = static_cast<double>(f.template passed<relu>(d.v[k], u.v[k], k));
        sum.dy[k] += passed;
        sum.product[k] += passed * (static_cast<double>(u.v[k]) - static_cast<double>(f.mean[k]));
      }
    }
    return sum;
  }
  FASTDL_DEVICE_ONLY void store(int64_t block, int64_t pack, const Sum& sum) const {
    store_sums(partial + block * 2 * channels + pack * N, channels, sum.dy, sum.product);
  }
};

// A channel's gradients, and what dx needs of its sums.
template <class W>
struct FinishBackward {
  Columns columns;
  int64_t channels;
  const double* partial;
  Affine<W> affine;
  W *dweight, *dbias, *slope, *offset;  // may be null

  FASTDL_DEVICE_ONLY void operator()(const Block& block) const {
    const int64_t c = block.task;
    double dy = 0, product = 0;
    for (int64_t b = block.thread; b < columns.blocks; b += block.threads) {
      dy += partial[b * 2 * channels + c];
      product += partial[(b * 2 + 1) * channels + c];
    }
    dy = block.sum(dy);
    product = block.sum(product);
    if (block.thread != 0) return;
    const double invstd = affine.invstd_of(c), count = static_cast<double>(max_of(columns.rows, int64_t{1}));
    if (dweight != nullptr) dweight[c] = static_cast<W>(product * invstd);
    if (dbias != nullptr) dbias[c] = static_cast<W>(dy);
    if (slope == nullptr) return;
    slope[c] = static_cast<W>(-affine.scale_of(c) * invstd * invstd * product / count);
    offset[c] = static_cast<W>(-affine.scale_of(c) * dy / count);
  }
};

// dx = factor * dy + slope * (x - mean) + offset, with dy as a fused ReLU lets it through; without slope and offset
// only factor * dy.
template <bool relu, int N, class T>
struct InputGradient {
  using W = Wide<T>;
  Affine<W> affine;
  const T *dy, *x;
  const W *slope, *offset;
  int64_t channels;
  T* dx;

  FASTDL_DEVICE_ONLY void operator()(const Strip& s) const {
    const Factors<N, W> f(affine, s.pack * N);
    W slopes[N] = {}, offsets[N] = {};
    const bool centered = relu || slope != nullptr;
    for (int k = 0; k < N && centered; ++k) {
      slopes[k] = slope[s.pack * N + k];
      offsets[k] = offset[s.pack * N + k];
    }
    for (int64_t r = s.rows - 1 - s.first; r >= 0; r -= s.step) {
      const int64_t at = r * channels + s.pack * N;
      Pack<W, N> d = load_wide<N>(dy + at);
      if (!centered) {
        for (int k = 0; k < N; ++k) d.v[k] *= f.factor[k];
      } else {
        const Pack<W, N> u = load_wide<N>(x + at);
        for (int k = 0; k < N; ++k)
          d.v[k] = f.template passed<relu>(d.v[k], u.v[k], k) * f.factor[k] +
                   ((u.v[k] - f.mean[k]) * slopes[k] + offsets[k]);
      }
      store_in_row(dx + at, d);
    }
  }
};

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
void normalise(const View& x, const Affine<Wide<T>>& affine, const View& residual, const View& y) {
  for_strips(columns_of(x.shape[0], x.shape[1] / N, kMostMapBlocks),
             Normalise<relu, N, T>{affine, x.as<T>(), data_of<T>(residual), x.shape[1], y.as<T>()});
}

// `centered`: x was normalised with statistics of its own, through which gradients pass as well.
template <bool relu, int N, class T>
void backward(const View& dy, const View& x, const Affine<Wide<T>>& affine, bool centered, const View& dx,
              const View& dweight, const View& dbias) {
  using W = Wide<T>;
  const int64_t rows = x.shape[0], channels = x.shape[1];
  W *slope = nullptr, *offset = nullptr;
  if (dweight || dbias || centered) {
    const Columns columns = columns_of(rows, channels / N, kMostSumBlocks);
    const int64_t sums = columns.blocks * 2 * channels;
    double* const partial = workspace<double>(sums + 2 * channels);
    if (dx && centered) {
      slope = reinterpret_cast<W*>(partial + sums);
      offset = reinterpret_cast<W*>(partial + sums + channels);
    }
    for_sums(columns, TakeGradients<relu, N, T>{affine, dy.as<T>(), x.as<T>(), channels, partial});
    for_tasks(
        channels, kFinishThreads,
        FinishBackward<W>{columns, channels, partial, affine, data_of<W>(dweight), data_of<W>(dbias), slope, offset});
  }
  if (!dx) return;
  for_strips(columns_of(rows, channels / N, kMostMapBlocks),
             InputGradient<relu, N, T>{affine, dy.as<T>(), x.as<T>(), slope, offset, channels, dx.as<T>()});
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
    const Columns columns = columns_of(rows, channels / N, kMostSumBlocks);
    double* const partial = workspace<double>(columns.blocks * 2 * channels);
    for_sums(columns, TakeMoments<N, T>{x.as<T>(), channels, partial});
    for_tasks(channels, kFinishThreads,
              FinishForward<W>{columns, channels, partial, eps, running.momentum, means, invstds,
                               Statistic<W>(running.mean), Statistic<W>(running.var), batches});
    const Affine<W> affine{means, invstds, nullptr, data_of<W>(weight), data_of<W>(bias), 0};
    relu ? normalise<true, N, T>(x, affine, residual, y) : normalise<false, N, T>(x, affine, residual, y);
  });
}

void batch_norm_inference(View x, View weight, View bias, View running_mean, View running_var, double eps, Out y) {
  with_packs(x, {y}, [&](auto type, auto pack) {
    using T = decltype(type);
    using W = Wide<T>;
    normalise<false, decltype(pack)::value, T>(
        x, Affine<W>{running_mean.as<W>(), nullptr, running_var.as<W>(), data_of<W>(weight), data_of<W>(bias), eps},
        View{}, y);
  });
}

void batch_norm_backward(View dy, View x, View weight, View bias, View mean, View invstd, bool relu, Out dx,
                         Out dweight, Out dbias) {
  with_packs(x, {dy, dx}, [&](auto type, auto pack) {
    using T = decltype(type);
    using W = Wide<T>;
    constexpr int N = decltype(pack)::value;
    const Affine<W> affine{mean.as<W>(), invstd.as<W>(), nullptr, data_of<W>(weight), data_of<W>(bias), 0};
    relu ? backward<true, N, T>(dy, x, affine, true, dx, dweight, dbias)
         : backward<false, N, T>(dy, x, affine, true, dx, dweight, dbias);
  });
}

void batch_norm_inference_backward(View dy, View x, View weight, View running_mean, View running_var, double eps,
                                   Out dx, Out dweight, Out dbias) {
  with_packs(x, {dy, dx}, [&](auto type, auto pack) {
    using T = decltype(type);
    using W = Wide<T>;
    const Affine<W> affine{running_mean.as<W>(), nullptr, running_var.as<W>(), data_of<W>(weight), nullptr, eps};
    backward<false, decltype(pack)::value, T>(dy, x, affine, false, dx, dweight, dbias);
  });
}

FASTDL_REGISTER(batch_norm_forward)
FASTDL_REGISTER(batch_norm_inference)
FASTDL_REGISTER(batch_norm_backward)
FASTDL_REGISTER(batch_norm_inference_backward)

}  // namespace fastdl::cuda::gpu
