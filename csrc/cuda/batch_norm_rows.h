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
  // scale_of in W, for every thread. A product of two numbers of W is rounded once there as well.
  FASTDL_BOTH W factor_of(int64_t c) const {
    const W from = var != nullptr ? 1 / std::sqrt(var[c] + static_cast<W>(eps)) : invstd[c];
    return weight != nullptr ? from * weight[c] : from;
  }
};

// Those of N channels from c on.
template <int N, class W>
struct Factors {
  W mean[N], factor[N], shift[N];

  FASTDL_DEVICE_ONLY Factors(const Affine<W>& a, int64_t c) {
    for (int k = 0; k < N; ++k) {
      mean[k] = a.mean[c + k];
      factor[k] = a.factor_of(c + k);
      shift[k] = a.bias != nullptr ? a.bias[c + k] : W(0);
    }
  }
  FASTDL_DEVICE_ONLY W affine(W x, int k) const { return (x - mean[k]) * factor[k] + shift[k]; }
  FASTDL_DEVICE_ONLY Pack<W, N> affine(Pack<W, N> x) const {
    for (int k = 0; k < N; ++k) x.v[k] = affine(x.v[k], k);
    return x;
  }
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
  static constexpr int kBlocks = 4;
  using W = Wide<T>;
  Affine<W> affine;
  const T *x, *residual;
  T* y;

  struct Row {
    Pack<T, N> x, residual;
  };

  FASTDL_DEVICE_ONLY void operator()(const Strip& s) const {
    rows<kRowsAhead<Row, 64>>(s, [&](int, int64_t at) { return load_pack<N>(x + at * N); });
  }
  // from(i, at): a row of x.
  template <int kAhead, class From>
  FASTDL_DEVICE_ONLY void rows(const Strip& s, const From& from) const {
    const Factors<N, W> f(affine, s.pack * N);
    if (residual == nullptr)
      each_row<kAhead>(s, from, [&](int, int64_t at, const Pack<T, N>& u) { store(at, f.affine(widened(u))); });
    else
      each_row<kAhead>(
          s, [&](int i, int64_t at) { return Row{from(i, at), load_pack<N>(residual + at * N)}; },
          [&](int, int64_t at, const Row& r) {
            const Pack<W, N> more = widened(r.residual);
            Pack<W, N> v = f.affine(widened(r.x));
            for (int k = 0; k < N; ++k) v.v[k] += more.v[k];
            store(at, v);
          });
  }

 private:
  FASTDL_DEVICE_ONLY void store(int64_t at, Pack<W, N> v) const {
    if constexpr (relu)
      for (int k = 0; k < N; ++k) v.v[k] = activation::relu(v.v[k]);
    store_in_row(y + at * N, v);
  }
};

// What a fused ReLU does with the gradient that comes in: nothing where there is none; after a residual sum, it goes by
// the y that it gave, otherwise by the sign of its argument, computed again.
enum class Gate { none, computed, kept };

// The gradient that comes in at a row, as the ReLU lets it through. for_dx: where a kernel that makes dx later finds
// it, not let through yet if that can be computed again.
template <Gate gate, class T>
struct Incoming {
  using W = Wide<T>;
  template <int N>
  using Row = Pack<T, N>;
  const T* dy;

  const T* for_dx() const { return dy; }
  template <int N>
  FASTDL_DEVICE_ONLY Row<N> load(int64_t at) const {
    return load_pack<N>(dy + at * N);
  }
  template <int N>
  FASTDL_DEVICE_ONLY Pack<W, N> passed(const Row<N>& row, const Factors<N, W>& f, const Pack<W, N>& x, int64_t) const {
    Pack<W, N> d = widened(row);
    for (int k = 0; k < N; ++k) d.v[k] = f.template passed<gate == Gate::computed>(d.v[k], x.v[k], k);
    return d;
  }
};

// dy + more, if there is more, and it is also the gradient of the residual.
template <class T>
struct Incoming<Gate::kept, T> {
  using W = Wide<T>;
  template <int N>
  struct Row {
    Pack<T, N> dy, more, y;
  };
  const T *dy, *more, *y;
  T* dresidual;

  const T* for_dx() const { return dresidual; }
  template <int N>
  FASTDL_DEVICE_ONLY Row<N> load(int64_t at) const {
    return {load_pack<N>(dy + at * N), more != nullptr ? load_pack<N>(more + at * N) : Pack<T, N>{},
            load_pack<N>(y + at * N)};
  }
  template <int N>
  FASTDL_DEVICE_ONLY Pack<W, N> passed(const Row<N>& row, const Factors<N, W>&, const Pack<W, N>&, int64_t at) const {
    const Pack<W, N> y_row = widened(row.y), other = widened(row.more);
    Pack<W, N> d = widened(row.dy);
    if (more != nullptr) {
      for (int k = 0; k < N; ++k) d.v[k] += other.v[k];
      d = widened(rounded<T>(d));  // as a sum of its own would be
    }
    for (int k = 0; k < N; ++k) d.v[k] = activation::relu_backward(d.v[k], y_row.v[k]);
    store_in_row(dresidual + at * N, d);
    return d;
  }
};

// Sums of the gradient that comes in and of its products with x - mean.
template <Gate gate, int N, class T>
struct TakeGradients {
  static constexpr int kColumns = N, kSums = 2, kBlocks = N > 4 ? 3 : 4;  // the same for every gate, to the same bits
  using W = Wide<T>;
  using Taken = ColumnSums<W, 2 * N>;
  Affine<W> affine;
  Incoming<gate, T> incoming;
  const T* x;
  double* partial;

  struct Row {
    Pack<T, N> x;
    typename Incoming<gate, T>::template Row<N> incoming;
  };

  FASTDL_DEVICE_ONLY Taken take(const Strip& s) const {
    const Factors<N, W> f(affine, s.pack * N);
    Taken sums;
    each_row<kRowsAhead<Row, 64>>(
        s, [&](int, int64_t at) { return load(at); }, [&](int, int64_t at, const Row& row) { add(sums, f, at, row); });
    return sums;
  }
  FASTDL_DEVICE_ONLY Row load(int64_t at) const { return {load_pack<N>(x + at * N), incoming.template load<N>(at)}; }
  // What the ReLU let through.
  FASTDL_DEVICE_ONLY Pack<W, N> add(Taken& sums, const Factors<N, W>& f, int64_t at, const Row& row) const {
    const Pack<W, N> u = widened(row.x), d = incoming.template passed<N>(row.incoming, f, u, at);
    for (int k = 0; k < N; ++k) {
      sums.v[k] += d.v[k];
      sums.v[N + k] += d.v[k] * (u.v[k] - f.mean[k]);
    }
    return d;
  }
};

// A channel's gradients, and what dx needs, of the sums of all its rows.
template <class W>
struct FinishBackward {
  int64_t rows, channels;
  Affine<W> affine;
  W *dweight, *dbias, *slope, *offset;  // may be null
  int64_t blocks;
  double* partial;

  FASTDL_DEVICE_ONLY void operator()(const Block& block) const {
    const ColumnSums<double, 2> sums = sums_of(block, partial, blocks, channels);
    if (block.thread == 0) finish(block.task, sums.v[0], sums.v[1]);
  }
  FASTDL_DEVICE_ONLY void finish(int64_t c, double dy, double product) const {
    const double invstd = affine.invstd_of(c), count = static_cast<double>(max_of(rows, int64_t{1}));
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
  static constexpr int kBlocks = N > 4 ? 3 : 4;
  using W = Wide<T>;
  Affine<W> affine;
  const T *dy, *x;
  const W *slope, *offset;
  T* dx;

  struct Row {
    Pack<T, N> dy, x;
  };

  FASTDL_DEVICE_ONLY void operator()(const Strip& s) const {
    rows<kRowsAhead<Row, 64>>(
        s, [&](int, int64_t at) { return Row{load_pack<N>(dy + at * N), load_pack<N>(x + at * N)}; });
  }
  // from(i, at): a row of dy and of x.
  template <int kAhead, class From>
  FASTDL_DEVICE_ONLY void rows(const Strip& s, const From& from) const {
    const int64_t c = s.pack * N;
    const Factors<N, W> f(affine, c);
    if (!relu && slope == nullptr) {
      each_row<kAhead>(s, from, [&](int, int64_t at, const Row& r) {
        Pack<W, N> d = widened(r.dy);
        for (int k = 0; k < N; ++k) d.v[k] *= f.factor[k];
        store_in_row(dx + at * N, d);
      });
      return;
    }
    W slopes[N], offsets[N];
    for (int k = 0; k < N; ++k) {
      slopes[k] = slope[c + k];
      offsets[k] = offset[c + k];
    }
    each_row<kAhead>(s, from, [&](int, int64_t at, const Row& r) {
      const Pack<W, N> u = widened(r.x);
      Pack<W, N> d = widened(r.dy);
      for (int k = 0; k < N; ++k)
        d.v[k] =
            f.template passed<relu>(d.v[k], u.v[k], k) * f.factor[k] + ((u.v[k] - f.mean[k]) * slopes[k] + offsets[k]);
      store_in_row(dx + at * N, d);
    });
  }
};

}  // namespace fastdl::cuda::gpu
