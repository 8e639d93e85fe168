// Batch norm in two passes over memory forward (sums; normalise) and two backward (sums; dx), with a kernel over the
// channels between them: 3 and 5 transfers of the size of x. The second pass walks up from the last row, so that it
// begins with what the first left in the cache.
//
// Sums are taken in double, forward of the distances from each thread's first row: no digits are lost however large the
// mean is against the deviation. Threads and blocks are merged in a fixed order (Chan, Golub and LeVeque 1983).
// Scratch: at most kMostSumBlocks blocks of 2 * 128 doubles, or one of 2 c. A fused ReLU keeps nothing: backward
// computes the sign of its argument again, from the same rounded factors.
#include "core/batch_norm.h"

#include <cmath>

#include "core/activation_math.h"
#include "cuda/columns.h"

namespace fastdl::cuda::gpu {

namespace {

constexpr int kFinishThreads = 128;

// (x - mean) * factor + shift per channel with factor = invstd * weight and shift = bias. invstd is given, or comes
// from var; weight and bias may be absent.
template <class T>
struct Affine {
  const T *mean, *invstd, *var, *weight, *bias;
  double eps;

  FASTDL_BOTH double invstd_of(int64_t c) const {
    return var != nullptr ? 1 / std::sqrt(static_cast<double>(var[c]) + eps) : static_cast<double>(invstd[c]);
  }
  FASTDL_BOTH double scale_of(int64_t c) const {
    return invstd_of(c) * (weight != nullptr ? static_cast<double>(weight[c]) : 1);
  }
};

// Those of N channels from c on.
template <int N, class T>
struct Factors {
  T mean[N], factor[N], shift[N];

  FASTDL_DEVICE_ONLY Factors(const Affine<T>& a, int64_t c) {
    for (int k = 0; k < N; ++k) {
      mean[k] = a.mean[c + k];
      factor[k] = static_cast<T>(a.scale_of(c + k));
      shift[k] = a.bias != nullptr ? a.bias[c + k] : T(0);
    }
  }
  FASTDL_DEVICE_ONLY T affine(T x, int k) const { return (x - mean[k]) * factor[k] + shift[k]; }
  // What a fused ReLU lets through of dy; without one, all of it.
  template <bool relu>
  FASTDL_DEVICE_ONLY T passed(T dy, T x, int k) const {
    if constexpr (relu) return activation::relu_backward(dy, affine(x, k));
    return dy;
  }
};

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
    double* const to = partial + block * 2 * channels + pack * N;
    for (int k = 0; k < N; ++k) {
      to[k] = sum.mean[k];
      to[channels + k] = sum.squares[k];
    }
  }
};

// A running statistic [c] of any stride, or none.
template <class T>
struct Statistic {
  T* data;
  int64_t stride;

  explicit Statistic(const View& v) : data(v ? v.as<T>() : nullptr), stride(v ? v.strides[0] : 0) {}
  FASTDL_DEVICE_ONLY void update(int64_t c, double value, double momentum) const {
    if (data == nullptr) return;
    T* const at = data + c * stride;
    *at = static_cast<T>((1 - momentum) * static_cast<double>(*at) + momentum * value);
  }
};

// A channel's moments from those of its blocks: around the mean of all, which comes first.
template <class T>
struct FinishForward {
  Columns columns;
  int64_t channels;
  const double* partial;
  double eps, momentum;
  T *mean, *invstd;
  Statistic<T> running_mean, running_var;

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
    const double var = total < 0 ? 0 : total / count;  // rounding can leave a constant channel just below 0
    mean[c] = static_cast<T>(center);
    invstd[c] = static_cast<T>(1 / std::sqrt(var + eps));
    running_mean.update(c, center, momentum);
    running_var.update(c, var * count / (count - 1), momentum);
  }
};

template <class T>
struct ZeroBoth {
  T *a, *b;
  FASTDL_DEVICE_ONLY void operator()(int64_t i) const { a[i] = b[i] = 0; }
};

// y = affine(x), plus the residual if there is one, and the ReLU of that.
template <bool relu, int N, class T>
struct Normalise {
  Affine<T> affine;
  const T *x, *residual;
  int64_t channels;
  T* y;

  FASTDL_DEVICE_ONLY void operator()(const Strip& s) const {
    const Factors<N, T> f(affine, s.pack * N);
    for (int64_t r = s.rows - 1 - s.first; r >= 0; r -= s.step) {
      const int64_t at = r * channels + s.pack * N;
      Pack<T, N> v = load_pack<N>(x + at);
      for (int k = 0; k < N; ++k) v.v[k] = f.affine(v.v[k], k);
      if (residual != nullptr) {
        const Pack<T, N> more = load_pack<N>(residual + at);
        for (int k = 0; k < N; ++k) v.v[k] += more.v[k];
      }
      if constexpr (relu)
        for (int k = 0; k < N; ++k) v.v[k] = activation::relu(v.v[k]);
      store_pack(y + at, v);
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
  Affine<T> affine;
  const T *dy, *x;
  int64_t channels;
  double* partial;

  FASTDL_DEVICE_ONLY Sum take(const Strip& s) const {
    const Factors<N, T> f(affine, s.pack * N);
    Sum sum;
    for (int64_t r = s.first; r < s.rows; r += s.step) {
      const int64_t at = r * channels + s.pack * N;
      const Pack<T, N> u = load_pack<N>(x + at), d = load_pack<N>(dy + at);
      for (int k = 0; k < N; ++k) {
        const double passed = static_cast<double>(f.template passed<relu>(d.v[k], u.v[k], k));
        sum.dy[k] += passed;
        sum.product[k] += passed * (static_cast<double>(u.v[k]) - static_cast<double>(f.mean[k]));
      }
    }
    return sum;
  }
  FASTDL_DEVICE_ONLY void store(int64_t block, int64_t pack, const Sum& sum) const {
    double* const to = partial + block * 2 * channels + pack * N;
    for (int k = 0; k < N; ++k) {
      to[k] = sum.dy[k];
      to[channels + k] = sum.product[k];
    }
  }
};

// A channel's gradients, and what dx needs of its sums.
template <class T>
struct FinishBackward {
  Columns columns;
  int64_t channels;
  const double* partial;
  Affine<T> affine;
  T *dweight, *dbias, *slope, *offset;  // may be null

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
    if (dweight != nullptr) dweight[c] = static_cast<T>(product * invstd);
    if (dbias != nullptr) dbias[c] = static_cast<T>(dy);
    if (slope == nullptr) return;
    slope[c] = static_cast<T>(-affine.scale_of(c) * invstd * invstd * product / count);
    offset[c] = static_cast<T>(-affine.scale_of(c) * dy / count);
  }
};

// dx = factor * dy + slope * (x - mean) + offset, with dy as a fused ReLU lets it through; without slope and offset
// only factor * dy.
template <bool relu, int N, class T>
struct InputGradient {
  Affine<T> affine;
  const T *dy, *x, *slope, *offset;
  int64_t channels;
  T* dx;

  FASTDL_DEVICE_ONLY void operator()(const Strip& s) const {
    const Factors<N, T> f(affine, s.pack * N);
    T slopes[N] = {}, offsets[N] = {};
    for (int k = 0; k < N && slope != nullptr; ++k) {
      slopes[k] = slope[s.pack * N + k];
      offsets[k] = offset[s.pack * N + k];
    }
    for (int64_t r = s.rows - 1 - s.first; r >= 0; r -= s.step) {
      const int64_t at = r * channels + s.pack * N;
      Pack<T, N> d = load_pack<N>(dy + at);
      if (slope == nullptr) {
        for (int k = 0; k < N; ++k) d.v[k] *= f.factor[k];
      } else {
        const Pack<T, N> u = load_pack<N>(x + at);
        for (int k = 0; k < N; ++k)
          d.v[k] = f.template passed<relu>(d.v[k], u.v[k], k) * f.factor[k] +
                   ((u.v[k] - f.mean[k]) * slopes[k] + offsets[k]);
      }
      store_pack(dx + at, d);
    }
  }
};

template <class T>
T* data_of(const View& v) {
  return v ? v.as<T>() : nullptr;
}

// Calls f(T{}, std::integral_constant<int, N>{}) with whole packs of N channels where all of the arrays [m,c] allow it.
template <class F>
void with_packs(const View& x, std::initializer_list<View> others, const F& f) {
  with_float(x.dtype, [&](auto type) {
    using T = decltype(type);
    bool packed = x.shape[1] % kPack<T> == 0 && on_border(x.data);
    for (const View& other : others) packed = packed && (!other || on_border(other.data));
    packed ? f(type, std::integral_constant<int, kPack<T>>{}) : f(type, std::integral_constant<int, 1>{});
  });
}

template <bool relu, int N, class T>
void normalise(const View& x, const Affine<T>& affine, const View& residual, const View& y) {
  for_strips(columns_of(x.shape[0], x.shape[1] / N, kMostMapBlocks),
             Normalise<relu, N, T>{affine, x.as<T>(), data_of<T>(residual), x.shape[1], y.as<T>()});
}

// `centered`: x was normalised with statistics of its own, through which gradients pass as well.
template <bool relu, int N, class T>
void backward(const View& dy, const View& x, const Affine<T>& affine, bool centered, const View& dx,
              const View& dweight, const View& dbias) {
  const int64_t rows = x.shape[0], channels = x.shape[1];
  T *slope = nullptr, *offset = nullptr;
  if (dweight || dbias || centered) {
    const Columns columns = columns_of(rows, channels / N, kMostSumBlocks);
    const int64_t sums = columns.blocks * 2 * channels;
    double* const partial = workspace<double>(sums + 2 * channels);
    if (dx && centered) {
      slope = reinterpret_cast<T*>(partial + sums);
      offset = reinterpret_cast<T*>(partial + sums + channels);
    }
    for_sums(columns, TakeGradients<relu, N, T>{affine, dy.as<T>(), x.as<T>(), channels, partial});
    for_tasks(
        channels, kFinishThreads,
        FinishBackward<T>{columns, channels, partial, affine, data_of<T>(dweight), data_of<T>(dbias), slope, offset});
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
    constexpr int N = decltype(pack)::value;
    T *const means = mean.as<T>(), *const invstds = invstd.as<T>();
    if (rows == 0) {
      for_each(channels, ZeroBoth<T>{means, invstds});
      return;
    }
    const Columns columns = columns_of(rows, channels / N, kMostSumBlocks);
    double* const partial = workspace<double>(columns.blocks * 2 * channels);
    for_sums(columns, TakeMoments<N, T>{x.as<T>(), channels, partial});
    for_tasks(channels, kFinishThreads,
              FinishForward<T>{columns, channels, partial, eps, running.momentum, means, invstds,
                               Statistic<T>(running.mean), Statistic<T>(running.var)});
    const Affine<T> affine{means, invstds, nullptr, data_of<T>(weight), data_of<T>(bias), 0};
    relu ? normalise<true, N>(x, affine, residual, y) : normalise<false, N>(x, affine, residual, y);
  });
}

void batch_norm_inference(View x, View weight, View bias, View running_mean, View running_var, double eps, Out y) {
  with_packs(x, {y}, [&](auto type, auto pack) {
    using T = decltype(type);
    normalise<false, decltype(pack)::value>(
        x, Affine<T>{running_mean.as<T>(), nullptr, running_var.as<T>(), data_of<T>(weight), data_of<T>(bias), eps},
        View{}, y);
  });
}

void batch_norm_backward(View dy, View x, View weight, View bias, View mean, View invstd, bool relu, Out dx,
                         Out dweight, Out dbias) {
  with_packs(x, {dy, dx}, [&](auto type, auto pack) {
    using T = decltype(type);
    constexpr int N = decltype(pack)::value;
    const Affine<T> affine{mean.as<T>(), invstd.as<T>(), nullptr, data_of<T>(weight), data_of<T>(bias), 0};
    relu ? backward<true, N>(dy, x, affine, true, dx, dweight, dbias)
         : backward<false, N>(dy, x, affine, true, dx, dweight, dbias);
  });
}

void batch_norm_inference_backward(View dy, View x, View weight, View running_mean, View running_var, double eps,
                                   Out dx, Out dweight, Out dbias) {
  with_packs(x, {dy, dx}, [&](auto type, auto pack) {
    using T = decltype(type);
    const Affine<T> affine{running_mean.as<T>(), nullptr, running_var.as<T>(), data_of<T>(weight), nullptr, eps};
    backward<false, decltype(pack)::value>(dy, x, affine, false, dx, dweight, dbias);
  });
}

FASTDL_REGISTER(batch_norm_forward)
FASTDL_REGISTER(batch_norm_inference)
FASTDL_REGISTER(batch_norm_backward)
FASTDL_REGISTER(batch_norm_inference_backward)

}  // namespace fastdl::cuda::gpu
