// Batch norm in two passes over memory forward (sums; normalise) and two backward (sums; dx): 3 and 5 transfers of the
// size of x. The second pass walks backwards, so that it begins with what the first left in the cache.
//
// A fused ReLU keeps nothing either: backward computes the sign of its argument again, from the same rounded factors.
#include "core/batch_norm.h"

#include "core/activation_math.h"
#include "cpu/columns.h"

namespace fastdl::cpu::FASTDL_ISA {

namespace {

// to[column] = f(channel) for every column.
template <class T, class F>
FASTDL_INLINE void per_column(const Matrix& m, T* to, const F& f) {
  for (int64_t c = 0; c < m.channels; ++c) to[c] = static_cast<T>(f(c));
  for (int64_t c = m.channels; c < m.columns; ++c) to[c] = to[c - m.channels];
}

template <class T>
FASTDL_INLINE double at_or(const View& x, int64_t i, double otherwise) {
  return x ? static_cast<double>(x.as<T>()[i]) : otherwise;
}

// (x - mean) * factor + shift with factor = invstd * weight and shift = bias, one of each per column.
template <class T>
struct Affine {
  Scratch<T> mean, factor, shift;

  Affine(const Matrix& m, const View& mean_, const double* invstd, const View& weight, const View& bias)
      : mean(m.columns), factor(m.columns), shift(m.columns) {
    per_column(m, static_cast<T*>(mean), [&](int64_t c) { return mean_.as<T>()[c]; });
    per_column(m, static_cast<T*>(factor), [&](int64_t c) { return invstd[c] * at_or<T>(weight, c, 1); });
    per_column(m, static_cast<T*>(shift), [&](int64_t c) { return at_or<T>(bias, c, 0); });
  }
};

// Those of N vectors of columns.
template <int N, class T>
struct Factors {
  Vec<T> mean[N], factor[N], shift[N];

  FASTDL_INLINE Factors(const Affine<T>& a, int64_t c) {
    for (int v = 0; v < N; ++v) {
      mean[v] = load(a.mean + c + v * kLanes<T>);
      factor[v] = load(a.factor + c + v * kLanes<T>);
      shift[v] = load(a.shift + c + v * kLanes<T>);
    }
  }
};

template <class V>
FASTDL_INLINE V affine(V x, V mean, V factor, V shift) {
  return (x - mean) * factor + shift;
}

// What a fused ReLU lets through of dy; without one, all of it.
template <bool kRelu, class V>
FASTDL_INLINE V passed(V dy, V x, V mean, V factor, V shift) {
  if constexpr (kRelu) return activation::relu_backward(dy, affine(x, mean, factor, shift));
  return dy;
}

// The gradient that comes in, as a fused ReLU lets it through. for_dx: where the pass that makes dx finds it, not let
// through yet if that can be computed again.
template <bool kRelu, class T>
struct Incoming {
  const T* dy;

  const T* for_dx() const { return dy; }
  FASTDL_INLINE Vec<T> load_at(int64_t at, Vec<T> x, Vec<T> mean, Vec<T> factor, Vec<T> shift) const {
    return passed<kRelu>(load(dy + at), x, mean, factor, shift);
  }
  FASTDL_INLINE T one_at(int64_t at, T x, T mean, T factor, T shift) const {
    return passed<kRelu>(dy[at], x, mean, factor, shift);
  }
};

// The same after a residual sum whose ReLU gave y: dy + more, if there is more, and it is also the gradient of the
// residual.
template <class T>
struct IncomingAfterSum {
  const T *dy, *more, *y;
  T* dresidual;

  const T* for_dx() const { return dresidual; }
  FASTDL_INLINE Vec<T> load_at(int64_t at, Vec<T>, Vec<T>, Vec<T>, Vec<T>) const {
    Vec<T> d = load(dy + at);
    if (more != nullptr) d += load(more + at);
    d = activation::relu_backward(d, load(y + at));
    store(dresidual + at, d);
    return d;
  }
  FASTDL_INLINE T one_at(int64_t at, T, T, T, T) const {
    return dresidual[at] = activation::relu_backward(more != nullptr ? dy[at] + more[at] : dy[at], y[at]);
  }
};

// dy_sum = sum of what comes in, product_sum = sum of its products with x - mean, per channel.
template <class T, class In>
void gradient_sums(const In& incoming, const T* x, const Affine<T>& a, const Matrix& m, double* dy_sum,
                   double* product_sum) {
  constexpr int64_t W = kLanes<T>;
  Scratch<double> partial(max_of(m.row_blocks, 1) * 2 * m.columns);
  over_blocks<T>(m, 2, [&](int64_t block, int64_t first, int64_t last, int64_t c0, int64_t c1) {
    double *const sums = partial + block * 2 * m.columns, *const products = sums + m.columns;
    over_columns<T, kSums>(c0, c1, [&]<int N>(int64_t c) {
      const Factors<N, T> f(a, c);
      for (int64_t run = first; run < last; run += kRun) {
        Vec<T> sum[N] = {}, sum_product[N] = {};
        for (int64_t r = run; r < min_of(last, run + kRun); ++r)
          for (int v = 0; v < N; ++v) {
            const int64_t at = r * m.columns + c + v * W;
            const Vec<T> u = load(x + at), d = incoming.load_at(at, u, f.mean[v], f.factor[v], f.shift[v]);
            sum[v] += d;
            sum_product[v] += d * (u - f.mean[v]);
          }
        for (int v = 0; v < N; ++v) {
          add_lanes<T>(sum[v], run == first, sums + c + v * W);
          add_lanes<T>(sum_product[v], run == first, products + c + v * W);
        }
      }
    });
  });
  Scratch<double> totals(2 * m.columns);
  for (int64_t i = 0; i < 2 * m.columns; ++i) totals[i] = 0;
  for (int64_t block = 0; block < m.row_blocks; ++block) {
    const double* sums = partial + block * 2 * m.columns;
    for (int64_t i = 0; i < 2 * m.columns; ++i) totals[i] += sums[i];
  }
  for (int64_t c = 0; c < m.channels; ++c) dy_sum[c] = product_sum[c] = 0;
  for (int64_t from = 0; from < m.columns; from += m.channels)
    for (int64_t c = 0; c < m.channels; ++c) {
      dy_sum[c] += totals[from + c];
      product_sum[c] += totals[m.columns + from + c];
    }
  for (int64_t c = 0, at = m.rows * m.columns; c < m.tail; ++c, ++at) {
    const T u = x[at], d = incoming.one_at(at, u, a.mean[c], a.factor[c], a.shift[c]);
    dy_sum[c % m.channels] += static_cast<double>(d);
    product_sum[c % m.channels] += static_cast<double>(d) * (static_cast<double>(u) - static_cast<double>(a.mean[c]));
  }
}

// y = affine(x), plus the residual if there is one, and the ReLU of that.
template <bool kRelu, bool kResidual, class T>
void normalise(const Matrix& m, const T* x, const Affine<T>& a, const T* residual, T* y) {
  const auto finish = [](auto v) __attribute__((always_inline)) { return kRelu ? activation::relu(v) : v; };
  over_matrix<T>(m, kResidual ? 3 : 2, [&]<int N>(int64_t first, int64_t last, int64_t c) {
    const Factors<N, T> of(a, c);
    const T *const from = x, *const other = residual;  // what is captured would be read again after each store
    T* const to = y;
    for (int64_t at = first * m.columns + c, rows = last - first, step = m.columns; rows > 0; --rows, at += step)
      for (int v = 0; v < N; ++v) {
        Vec<T> z = affine(load(from + at + v * kLanes<T>), of.mean[v], of.factor[v], of.shift[v]);
        if constexpr (kResidual) z += load(other + at + v * kLanes<T>);
        store(to + at + v * kLanes<T>, finish(z));
      }
  });
  const int64_t rest = m.rows * m.columns;
  for (int64_t c = 0, at = rest; c < m.tail; ++c, ++at) {
    T z = affine(x[at], a.mean[c], a.factor[c], a.shift[c]);
    if constexpr (kResidual) z += residual[at];
    y[at] = finish(z);
  }
}

// dx = factor * dy + slope * (x - mean) + offset, with dy as a fused ReLU lets it through.
template <bool kRelu, class T>
void input_gradient(const Matrix& m, const T* dy, const T* x, const Affine<T>& a, const T* slope, const T* offset,
                    T* dx) {
  const auto f = [](auto dy, auto x, auto mean, auto factor, auto shift, auto slope, auto offset)
                     __attribute__((always_inline)) {
                       const auto d = passed<kRelu>(dy, x, mean, factor, shift);
                       return d * factor + ((x - mean) * slope + offset);
                     };
  over_matrix<T>(m, 3, [&]<int N>(int64_t first, int64_t last, int64_t c) {
    const Factors<N, T> of(a, c);
    Vec<T> slopes[N], offsets[N];
    for (int v = 0; v < N; ++v) {
      slopes[v] = load(slope + c + v * kLanes<T>);
      offsets[v] = load(offset + c + v * kLanes<T>);
    }
    const T *const from = dy, *const input = x;  // as in normalise
    T* const to = dx;
    for (int64_t row = first * m.columns + c, rows = last - first, step = m.columns; rows > 0; --rows, row += step)
      for (int v = 0; v < N; ++v) {
        const int64_t at = row + v * kLanes<T>;
        store(to + at,
              f(load(from + at), load(input + at), of.mean[v], of.factor[v], of.shift[v], slopes[v], offsets[v]));
      }
  });
  const int64_t rest = m.rows * m.columns;
  for (int64_t c = 0; c < m.tail; ++c)
    dx[rest + c] = f(dy[rest + c], x[rest + c], a.mean[c], a.factor[c], a.shift[c], slope[c], offset[c]);
}

template <class T>
void update(const View& running, int64_t c, double value, double momentum) {
  T* at = running.as<T>() + c * running.strides[0];
  *at = static_cast<T>((1 - momentum) * static_cast<double>(*at) + momentum * value);
}

template <class T>
void store_sums(const View& dweight, const View& dbias, int64_t channels, const double* dy_sum,
                const double* product_sum, const double* invstd) {
  for (int64_t c = 0; c < channels; ++c) {
    if (dweight) dweight.as<T>()[c] = static_cast<T>(product_sum[c] * invstd[c]);
    if (dbias) dbias.as<T>()[c] = static_cast<T>(dy_sum[c]);
  }
}

template <bool kRelu, class T, class In>
void backward(const In& incoming, const View& x, const View& weight, const View& bias, const View& mean,
              const View& invstd, const View& dx, const View& dweight, const View& dbias) {
  const Matrix m = matrix_of<T>(x.shape[0], x.shape[1]);
  Scratch<double> dy_sum(m.channels), product_sum(m.channels), invstds(m.channels);
  for (int64_t c = 0; c < m.channels; ++c) invstds[c] = static_cast<double>(invstd.as<T>()[c]);
  const Affine<T> a(m, mean, invstds, weight, bias);
  gradient_sums(incoming, x.as<T>(), a, m, dy_sum, product_sum);
  store_sums<T>(dweight, dbias, m.channels, dy_sum, product_sum, invstds);
  if (!dx) return;
  const double count = static_cast<double>(max_of(x.shape[0], 1));
  Scratch<T> slope(m.columns), offset(m.columns);
  const auto scale = [&](int64_t c) { return invstds[c] * at_or<T>(weight, c, 1); };
  per_column(m, static_cast<T*>(slope),
             [&](int64_t c) { return -scale(c) * invstds[c] * invstds[c] * product_sum[c] / count; });
  per_column(m, static_cast<T*>(offset), [&](int64_t c) { return -scale(c) * dy_sum[c] / count; });
  input_gradient<kRelu, T>(m, incoming.for_dx(), x.as<T>(), a, slope, offset, dx.as<T>());
}

template <class T>
void fill_invstd(const View& var, double eps, int64_t channels, double* invstd) {
  for (int64_t c = 0; c < channels; ++c) invstd[c] = 1 / __builtin_sqrt(static_cast<double>(var.as<T>()[c]) + eps);
}

// Calls f(T{}, std::bool_constant<relu>{}).
template <class F>
FASTDL_INLINE void with_kind(DType dtype, bool relu, const F& f) {
  with_float(dtype, [&](auto type) {
    if (relu)
      f(type, std::true_type{});
    else
      f(type, std::false_type{});
  });
}

}  // namespace

void batch_norm_forward(View x, View weight, View bias, double eps, Out y, Out mean, Out invstd,
                        const BatchNormRunning& running, bool relu, View residual, View moments) {
  if (running.count) ++*running.count.as<int64_t>();
  with_kind(x.dtype, relu, [&](auto type, auto fused) {
    using T = decltype(type);
    const Matrix m = matrix_of<T>(x.shape[0], x.shape[1]);
    if (x.shape[0] == 0) {
      for (int64_t c = 0; c < m.channels; ++c) mean.as<T>()[c] = invstd.as<T>()[c] = T(0);
      return;
    }
    Scratch<double> means(m.channels), vars(m.channels), invstds(m.channels);
    Scratch<double> partial(moments ? 0 : moments_size(x.shape[0], m.channels));
    if (!moments) all_moments(x.as<T>(), m, partial.operator double*());
    merge_moments(x.as<T>(), m, moments ? moments.as<double>() : partial, means, vars);
    const auto count = static_cast<double>(x.shape[0]);
    for (int64_t c = 0; c < m.channels; ++c) invstds[c] = 1 / __builtin_sqrt(vars[c] + eps);
    for (int64_t c = 0; c < m.channels; ++c) {
      mean.as<T>()[c] = static_cast<T>(means[c]);
      invstd.as<T>()[c] = static_cast<T>(invstds[c]);
      invstds[c] = static_cast<double>(invstd.as<T>()[c]);  // rounded as backward will find it
    }
    const double unbiased = count / (count - 1);
    for (int64_t c = 0; running.mean && c < m.channels; ++c) update<T>(running.mean, c, means[c], running.momentum);
    for (int64_t c = 0; running.var && c < m.channels; ++c)
      update<T>(running.var, c, vars[c] * unbiased, running.momentum);
    const Affine<T> a(m, mean, invstds, weight, bias);
    if (residual)
      normalise<fused.value, true>(m, x.as<T>(), a, residual.as<T>(), y.as<T>());
    else
      normalise<fused.value, false, T>(m, x.as<T>(), a, nullptr, y.as<T>());
  });
}

void batch_norm_inference(View x, View weight, View bias, View running_mean, View running_var, double eps, Out y) {
  with_float(x.dtype, [&](auto type) {
    using T = decltype(type);
    const Matrix m = matrix_of<T>(x.shape[0], x.shape[1]);
    Scratch<double> invstds(m.channels);
    fill_invstd<T>(running_var, eps, m.channels, invstds);
    normalise<false, false, T>(m, x.as<T>(), Affine<T>(m, running_mean, invstds, weight, bias), nullptr, y.as<T>());
  });
}

void batch_norm_backward(View dy, View x, View weight, View bias, View mean, View invstd, bool relu, Out dx,
                         Out dweight, Out dbias) {
  with_kind(x.dtype, relu, [&](auto type, auto fused) {
    using T = decltype(type);
    backward<fused.value, T>(Incoming<fused.value, T>{dy.as<T>()}, x, weight, bias, mean, invstd, dx, dweight, dbias);
  });
}

void batch_norm_residual_backward(View dy, View more, View y, View x, View weight, View mean, View invstd, Out dx,
                                  Out dweight, Out dbias, Out dresidual) {
  with_float(x.dtype, [&](auto type) {
    using T = decltype(type);
    const IncomingAfterSum<T> incoming{dy.as<T>(), more ? more.as<T>() : nullptr, y.as<T>(), dresidual.as<T>()};
    backward<false, T>(incoming, x, weight, View{}, mean, invstd, dx, dweight, dbias);
  });
}

void batch_norm_inference_backward(View dy, View x, View weight, View running_mean, View running_var, double eps,
                                   Out dx, Out dweight, Out dbias) {
  with_float(x.dtype, [&](auto type) {
    using T = decltype(type);
    const Matrix m = matrix_of<T>(x.shape[0], x.shape[1]);
    Scratch<double> invstds(m.channels);
    fill_invstd<T>(running_var, eps, m.channels, invstds);
    const Affine<T> a(m, running_mean, invstds, weight, View{});
    if (dweight || dbias) {
      Scratch<double> dy_sum(m.channels), product_sum(m.channels);
      gradient_sums(Incoming<false, T>{dy.as<T>()}, x.as<T>(), a, m, dy_sum, product_sum);
      store_sums<T>(dweight, dbias, m.channels, dy_sum, product_sum, invstds);
    }
    if (!dx) return;
    const T* from = dy.as<T>();
    T* to = dx.as<T>();
    over_matrix<T>(m, 2, [&]<int N>(int64_t first, int64_t last, int64_t c) {
      for (int64_t r = first; r < last; ++r)
        for (int v = 0; v < N; ++v) {
          const int64_t column = c + v * kLanes<T>, at = r * m.columns + column;
          store(to + at, load(from + at) * load(a.factor + column));
        }
    });
    for (int64_t c = 0, i = m.rows * m.columns; c < m.tail; ++c, ++i) to[i] = from[i] * a.factor[c];
  });
}

FASTDL_REGISTER(batch_norm_forward)
FASTDL_REGISTER(batch_norm_inference)
FASTDL_REGISTER(batch_norm_backward)
FASTDL_REGISTER(batch_norm_residual_backward)
FASTDL_REGISTER(batch_norm_inference_backward)

}  // namespace fastdl::cpu::FASTDL_ISA
