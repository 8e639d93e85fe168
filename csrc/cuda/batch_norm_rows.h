// What batch norm does with each row of x [m,c] once the statistics of its columns are known, and the sums that its
// backward pass takes before: for threads that walk down a strip of rows.
#pragma once
#include <cmath>

#include "core/activation_math.h"
#include "cuda/batch_norm_moments.h"

namespace fastdl::cuda::gpu {

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
      row(f, at, load_pack<N>(x + at), residual_of(at));
    }
  }
  FASTDL_DEVICE_ONLY Pack<T, N> residual_of(int64_t at) const {
    return residual != nullptr ? load_pack<N>(residual + at) : Pack<T, N>{};
  }
  FASTDL_DEVICE_ONLY void row(const Factors<N, W>& f, int64_t at, const Pack<T, N>& u, const Pack<T, N>& more) const {
    Pack<W, N> v = widened(u);
    for (int k = 0; k < N; ++k) v.v[k] = f.affine(v.v[k], k);
    if (residual != nullptr) {
      const Pack<W, N> w = widened(more);
      for (int k = 0; k < N; ++k) v.v[k] += w.v[k];
    }
    if constexpr (relu)
      for (int k = 0; k < N; ++k) v.v[k] = activation::relu(v.v[k]);
    store_in_row(y + at, v);
  }
};

// What a fused ReLU does with the gradient that comes in: nothing where there is none; after a residual sum, it goes by
// the y that it gave, otherwise by the sign of its argument, computed again.
enum class Gate { none, computed, kept };

// The gradient that comes in at a row, as the ReLU lets it through. for_dx: where a kernel that makes dx later finds
// it, not let through yet if that can be computed again.
template <Gate gate, int N, class T>
struct Incoming {
  using W = Wide<T>;
  using Row = Pack<T, N>;
  const T* dy;

  const T* for_dx() const { return dy; }
  FASTDL_DEVICE_ONLY Row load(int64_t at) const { return load_pack<N>(dy + at); }
  FASTDL_DEVICE_ONLY Pack<W, N> passed(const Row& row, const Factors<N, W>& f, const Pack<W, N>& x, int64_t) const {
    Pack<W, N> d = widened(row);
    for (int k = 0; k < N; ++k) d.v[k] = f.template passed<gate == Gate::computed>(d.v[k], x.v[k], k);
    return d;
  }
};

// dy + more, if there is more, and it is also the gradient of the residual.
template <int N, class T>
struct Incoming<Gate::kept, N, T> {
  using W = Wide<T>;
  struct Row {
    Pack<T, N> dy, more, y;
  };
  const T *dy, *more, *y;
  T* dresidual;

  const T* for_dx() const { return dresidual; }
  FASTDL_DEVICE_ONLY Row load(int64_t at) const {
    return {load_pack<N>(dy + at), more != nullptr ? load_pack<N>(more + at) : Pack<T, N>{}, load_pack<N>(y + at)};
  }
  FASTDL_DEVICE_ONLY Pack<W, N> passed(const Row& row, const Factors<N, W>&, const Pack<W, N>&, int64_t at) const {
    const Pack<W, N> y_row = widened(row.y), other = widened(row.more);
    Pack<W, N> d = widened(row.dy);
    if (more != nullptr) {
      for (int k = 0; k < N; ++k) d.v[k] += other.v[k];
      d = widened(rounded<T>(d));  // as a sum of its own would be
    }
    for (int k = 0; k < N; ++k) d.v[k] = activation::relu_backward(d.v[k], y_row.v[k]);
    store_in_row(dresidual + at, d);
    return d;
  }
};

// Sums of the gradient that comes in and of its products with x - mean; partial [block][gradient, product][channel].
template <Gate gate, int N, class T>
struct TakeGradients {
  using Sum = TwoSums<N>;
  using W = Wide<T>;
  Affine<W> affine;
  Incoming<gate, N, T> incoming;
  const T* x;
  int64_t channels;
  double* partial;

  FASTDL_DEVICE_ONLY Sum take(const Strip& s) const {
    const Factors<N, W> f(affine, s.pack * N);
    Sum sum;
    for (int64_t r = s.first; r < s.rows; r += s.step) {
      const int64_t at = r * channels + s.pack * N;
      add(sum, f, at, incoming.load(at), load_pack<N>(x + at));
    }
    return sum;
  }
  // What the ReLU let through.
  FASTDL_DEVICE_ONLY Pack<W, N> add(Sum& sum, const Factors<N, W>& f, int64_t at,
                                    const typename Incoming<gate, N, T>::Row& row, const Pack<T, N>& x) const {
    const Pack<W, N> u = widened(x), d = incoming.passed(row, f, u, at);
    for (int k = 0; k < N; ++k) {
      const double passed = static_cast<double>(d.v[k]);
      sum.first[k] += passed;
      sum.second[k] += passed * (static_cast<double>(u.v[k]) - static_cast<double>(f.mean[k]));
    }
    return d;
  }
  FASTDL_DEVICE_ONLY void store(int64_t block, int64_t pack, const Sum& sum) const {
    store_sums(partial + block * 2 * channels + pack * N, channels, sum.first, sum.second);
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
    if (block.thread == 0) save(c, dy, product);
  }
  FASTDL_DEVICE_ONLY void save(int64_t c, double dy, double product) const {
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

  struct Terms {
    Factors<N, W> f;
    W slope[N], offset[N];
  };

  FASTDL_DEVICE_ONLY void operator()(const Strip& s) const {
    const Terms t = terms(s.pack * N);
    for (int64_t r = s.rows - 1 - s.first; r >= 0; r -= s.step) {
      const int64_t at = r * channels + s.pack * N;
      row(t, at, load_pack<N>(dy + at), centered() ? load_pack<N>(x + at) : Pack<T, N>{});
    }
  }
  FASTDL_DEVICE_ONLY bool centered() const { return relu || slope != nullptr; }
  FASTDL_DEVICE_ONLY Terms terms(int64_t c) const {
    Terms t{Factors<N, W>(affine, c), {}, {}};
    for (int k = 0; k < N && centered(); ++k) {
      t.slope[k] = slope[c + k];
      t.offset[k] = offset[c + k];
    }
    return t;
  }
  FASTDL_DEVICE_ONLY void row(const Terms& t, int64_t at, const Pack<T, N>& dy, const Pack<T, N>& x) const {
    const Pack<W, N> u = widened(x);
    Pack<W, N> d = widened(dy);
    for (int k = 0; k < N; ++k)
      d.v[k] = centered() ? t.f.template passed<relu>(d.v[k], u.v[k], k) * t.f.factor[k] +
                                ((u.v[k] - t.f.mean[k]) * t.slope[k] + t.offset[k])
                          : d.v[k] * t.f.factor[k];
    store_in_row(dx + at, d);
  }
};

}  // namespace fastdl::cuda::gpu
