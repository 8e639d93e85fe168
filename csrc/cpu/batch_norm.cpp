// Batch norm in two passes over memory forward (sums; normalise) and two backward (sums; dx): 3 and 5 transfers of the
// size of x.
//
// Rows are summed in blocks that fit the first-level cache: a block's mean first, then the squares of the distances
// from it, which costs no traffic and loses no digits however large the mean is against the deviation. Blocks are
// merged in double, in order (Chan, Golub and LeVeque 1983), and their borders follow from the shape alone. Where a row
// has fewer channels than a vector has lanes, several rows are taken as one of k * c columns.
#include "core/batch_norm.h"

#include "cpu/lanes.h"

namespace fastdl::cpu::FASTDL_ISA {

namespace {

constexpr double kNsPerByte = 0.05;
constexpr int64_t kTaskBytes = 32768;
constexpr int64_t kBlockRows = 64;   // with 4 vectors of 64 bytes: 16 KB
constexpr int64_t kMaxBlocks = 128;  // row blocks whose sums are merged at the end
constexpr int64_t kColumnBlock = 1024;
constexpr int kGroup = 4;  // vectors summed side by side

// x [m,c] as `rows` rows of `columns` = folds * c columns, and `tail` more elements.
struct Matrix {
  int64_t channels, folds, columns, rows, tail;
  int64_t block_rows, row_blocks, column_blocks;
};

template <class T>
Matrix matrix_of(const View& x) {
  Matrix m;
  m.channels = x.shape[1];
  m.folds = m.channels == 0 ? 1 : max_of(1, ceil_div(kLanes<T>, m.channels));
  m.columns = m.folds * m.channels;
  m.rows = x.shape[0] / m.folds;
  m.tail = x.shape[0] % m.folds * m.channels;
  m.block_rows = kBlockRows * max_of(1, ceil_div(m.rows, kBlockRows * kMaxBlocks));
  m.row_blocks = ceil_div(m.rows, m.block_rows);
  m.column_blocks = max_of(1, m.columns / kColumnBlock);  // the last takes the rest
  return m;
}

// f(row block, first row, last row, first column, last column) for every piece of the matrix.
template <class T, class F>
void over_blocks(const Matrix& m, int streams, const F& f) {
  const double bytes = static_cast<double>(m.block_rows * m.columns / m.column_blocks * streams) * sizeof(T);
  parallel_for(m.row_blocks * m.column_blocks, bytes * kNsPerByte, [&](int64_t task) {
    const int64_t block = task / m.column_blocks, part = task % m.column_blocks, row = block * m.block_rows;
    f(block, row, min_of(m.rows, row + m.block_rows), part * kColumnBlock,
      part == m.column_blocks - 1 ? m.columns : (part + 1) * kColumnBlock);
  });
}

// f<vectors>(column) over the columns, in groups of kGroup vectors, then single ones, the last overlapping.
template <class T, class F>
FASTDL_INLINE void over_columns(int64_t first, int64_t last, const F& f) {
  constexpr int64_t W = kLanes<T>;
  int64_t c = first;
  for (; c + kGroup * W <= last; c += kGroup * W) f.template operator()<kGroup>(c);
  for (; c + W <= last; c += W) f.template operator()<1>(c);
  if (c < last) f.template operator()<1>(last - W);
}

// f(lanes, element, column) over all elements of the matrix.
template <class T, class F>
void over_elements(const Matrix& m, int streams, const F& f) {
  constexpr int64_t W = kLanes<T>;
  if (m.columns == 0) return;
  const int64_t row_bytes = m.columns * static_cast<int64_t>(sizeof(T)) * streams;
  const int64_t group = max_of(1, kTaskBytes / row_bytes);
  parallel_for(ceil_div(m.rows, group), kNsPerByte * static_cast<double>(row_bytes * group), [&](int64_t task) {
    const int64_t end = min_of(m.rows, (task + 1) * group);
    for (int64_t row = task * group; row < end; ++row) {
      const int64_t at = row * m.columns;
      int64_t c = 0;
      for (; c + W <= m.columns; c += W) f(Lanes<T, true>{}, at + c, c);
      if (c < m.columns) f(Lanes<T, true>{}, at + m.columns - W, m.columns - W);
    }
  });
  for (int64_t c = 0; c < m.tail; ++c) f(Lanes<T, false>{}, m.rows * m.columns + c, c);
}

// Mean and sum of squared distances of `count` values, per column.
template <int N>
struct Moments {
  double count = 0, mean[N] = {}, squares[N] = {};

  FASTDL_INLINE void merge(double n, const double* other_mean, const double* other_squares) {
    const double total = count + n, share = n / total, cross = count * share;
    for (int i = 0; i < N; ++i) {
      const double distance = other_mean[i] - mean[i];
      mean[i] += distance * share;
      squares[i] += other_squares[i] + (cross > 0 ? distance * distance * cross : 0);
    }
    count = total;
  }
};

// Moments of N vectors of columns over the rows [first, last) of x, which points at the first column.
template <int N, class T>
FASTDL_INLINE void block_moments(const T* x, int64_t stride, int64_t first, int64_t last, Moments<N * kLanes<T>>& out) {
  constexpr int W = kLanes<T>;
  for (int64_t row = first; row < last; row += kBlockRows) {
    const int64_t end = min_of(last, row + kBlockRows);
    const T count = static_cast<T>(end - row);
    Vec<T> mean[N] = {}, sum[N] = {}, squares[N] = {};
    for (int64_t r = row; r < end; ++r)
      for (int v = 0; v < N; ++v) mean[v] += load(x + r * stride + v * W);
    for (int v = 0; v < N; ++v) mean[v] = mean[v] / splat(count);
    for (int64_t r = row; r < end; ++r)
      for (int v = 0; v < N; ++v) {
        const Vec<T> distance = load(x + r * stride + v * W) - mean[v];
        sum[v] += distance;
        squares[v] += distance * distance;
      }
    double block_mean[N * W], block_squares[N * W];
    for (int i = 0; i < N * W; ++i) {
      const double left = static_cast<double>(sum[i / W][i % W]) / count;  // by which the mean was rounded
      block_mean[i] = static_cast<double>(mean[i / W][i % W]) + left;
      block_squares[i] = static_cast<double>(squares[i / W][i % W]) - left * left * count;
    }
    out.merge(count, block_mean, block_squares);
  }
}

// Mean and biased variance per channel, in double.
template <class T>
void moments(const T* x, const Matrix& m, double* mean, double* var) {
  Scratch<double> partial(max_of(m.row_blocks, 1) * 2 * m.columns);
  over_blocks<T>(m, 1, [&](int64_t block, int64_t first, int64_t last, int64_t c0, int64_t c1) {
    double* means = partial + block * 2 * m.columns;
    over_columns<T>(c0, c1, [&]<int N>(int64_t c) {
      Moments<N * kLanes<T>> sums;
      block_moments<N>(x + c, m.columns, first, last, sums);
      __builtin_memcpy(means + c, sums.mean, sizeof sums.mean);
      __builtin_memcpy(means + m.columns + c, sums.squares, sizeof sums.squares);
    });
  });
  // Merged over blocks per column, then over the columns of a channel and its elements in the tail.
  const auto rows_of = [&](int64_t block) {
    return static_cast<double>(min_of(m.block_rows, m.rows - block * m.block_rows));
  };
  Scratch<double> means(m.columns), squares(m.columns);
  for (int64_t c = 0; c < m.columns; ++c) means[c] = squares[c] = 0;
  const double all_rows = static_cast<double>(m.rows);
  for (int64_t block = 0; block < m.row_blocks; ++block) {
    const double *block_means = partial + block * 2 * m.columns, share = rows_of(block) / all_rows;
    for (int64_t c = 0; c < m.columns; ++c) means[c] += block_means[c] * share;
  }
  for (int64_t block = 0; block < m.row_blocks; ++block) {
    const double *block_means = partial + block * 2 * m.columns, rows = rows_of(block);
    for (int64_t c = 0; c < m.columns; ++c) {
      const double distance = block_means[c] - means[c];
      squares[c] += block_means[m.columns + c] + distance * distance * rows;
    }
  }
  const T* tail = x + m.rows * m.columns;
  const double count = all_rows * static_cast<double>(m.folds) + static_cast<double>(m.tail / max_of(m.channels, 1));
  for (int64_t channel = 0; channel < m.channels; ++channel) {
    double sum = 0, total = 0;
    for (int64_t c = channel; c < m.columns; c += m.channels) {
      sum += means[c] * all_rows;
      if (c < m.tail) sum += static_cast<double>(tail[c]);
    }
    const double center = sum / count;
    for (int64_t c = channel; c < m.columns; c += m.channels) {
      const double distance = means[c] - center, last = c < m.tail ? static_cast<double>(tail[c]) - center : 0;
      total += squares[c] + (m.rows > 0 ? distance * distance * all_rows : 0) + last * last;
    }
    mean[channel] = center;
    var[channel] = total / count;
  }
}

// dy_sum = sum of dy, product_sum = sum of dy * (x - mean), per channel; `means` has one entry per column.
template <class T>
void gradient_sums(const T* dy, const T* x, const T* means, const Matrix& m, double* dy_sum, double* product_sum) {
  constexpr int64_t W = kLanes<T>;
  Scratch<double> partial(max_of(m.row_blocks, 1) * 2 * m.columns);
  over_blocks<T>(m, 2, [&](int64_t block, int64_t first, int64_t last, int64_t c0, int64_t c1) {
    double* sums = partial + block * 2 * m.columns;
    over_columns<T>(c0, c1, [&]<int N>(int64_t c) {
      double plain[N * W] = {}, product[N * W] = {};
      for (int64_t row = first; row < last; row += kBlockRows) {  // in T for a block, then in double
        const int64_t end = min_of(last, row + kBlockRows);
        Vec<T> a[N] = {}, b[N] = {};
        for (int64_t r = row; r < end; ++r)
          for (int v = 0; v < N; ++v) {
            const int64_t at = r * m.columns + c + v * W;
            const Vec<T> d = load(dy + at);
            a[v] += d;
            b[v] += d * (load(x + at) - load(means + c + v * W));
          }
        for (int i = 0; i < N * W; ++i) {
          plain[i] += static_cast<double>(a[i / W][i % W]);
          product[i] += static_cast<double>(b[i / W][i % W]);
        }
      }
      __builtin_memcpy(sums + c, plain, sizeof plain);
      __builtin_memcpy(sums + m.columns + c, product, sizeof product);
    });
  });
  const int64_t rest = m.rows * m.columns;
  Scratch<double> totals(2 * m.columns);
  for (int64_t i = 0; i < 2 * m.columns; ++i) totals[i] = 0;
  for (int64_t block = 0; block < m.row_blocks; ++block) {
    const double* sums = partial + block * 2 * m.columns;
    for (int64_t i = 0; i < 2 * m.columns; ++i) totals[i] += sums[i];
  }
  for (int64_t channel = 0; channel < m.channels; ++channel) {
    dy_sum[channel] = product_sum[channel] = 0;
    for (int64_t c = channel; c < m.columns; c += m.channels) {
      const double last = c < m.tail ? static_cast<double>(dy[rest + c]) : 0;
      dy_sum[channel] += totals[c] + last;
      product_sum[channel] += totals[m.columns + c];
      if (c < m.tail) product_sum[channel] += last * (static_cast<double>(x[rest + c]) - means[c]);
    }
  }
}

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

// y = (x - mean) * invstd * weight + bias, with what rounding the mean to T loses put back into the bias.
template <class T>
void normalise(const Matrix& m, const T* x, const View& weight, const View& bias, const double* mean,
               const double* invstd, T* y) {
  Scratch<T> means(m.columns), factor(m.columns), shift(m.columns);
  per_column(m, static_cast<T*>(means), [&](int64_t c) { return mean[c]; });
  per_column(m, static_cast<T*>(factor), [&](int64_t c) { return invstd[c] * at_or<T>(weight, c, 1); });
  per_column(m, static_cast<T*>(shift), [&](int64_t c) {
    const double lost = static_cast<double>(static_cast<T>(mean[c])) - mean[c];
    return at_or<T>(bias, c, 0) + (lost != 0 ? lost * invstd[c] * at_or<T>(weight, c, 1) : 0);
  });
  over_elements<T>(m, 2, [&](auto lanes, int64_t i, int64_t c) {
    using L = decltype(lanes);
    L::write(y + i, (L::read(x + i) - L::read(means + c)) * L::read(factor + c) + L::read(shift + c));
  });
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

template <class T>
void fill_invstd(const View& var, double eps, int64_t channels, double* invstd) {
  for (int64_t c = 0; c < channels; ++c) invstd[c] = 1 / __builtin_sqrt(static_cast<double>(var.as<T>()[c]) + eps);
}

}  // namespace

void batch_norm_forward(View x, View weight, View bias, double eps, Out y, Out mean, Out invstd,
                        const BatchNormRunning& running) {
  with_float(x.dtype, [&](auto type) {
    using T = decltype(type);
    const Matrix m = matrix_of<T>(x);
    Scratch<double> means(m.channels), vars(m.channels), invstds(m.channels);
    moments(x.as<T>(), m, means, vars);
    const auto count = static_cast<double>(x.shape[0]);
    for (int64_t c = 0; c < m.channels; ++c) {
      invstds[c] = 1 / __builtin_sqrt(vars[c] + eps);
      mean.as<T>()[c] = static_cast<T>(means[c]);
      invstd.as<T>()[c] = static_cast<T>(invstds[c]);
      if (running.mean) update<T>(running.mean, c, means[c], running.momentum);
      if (running.var) update<T>(running.var, c, vars[c] * count / (count - 1), running.momentum);
    }
    normalise(m, x.as<T>(), weight, bias, means, invstds, y.as<T>());
  });
}

void batch_norm_inference(View x, View weight, View bias, View running_mean, View running_var, double eps, Out y) {
  with_float(x.dtype, [&](auto type) {
    using T = decltype(type);
    const Matrix m = matrix_of<T>(x);
    Scratch<double> means(m.channels), invstds(m.channels);
    for (int64_t c = 0; c < m.channels; ++c) means[c] = static_cast<double>(running_mean.as<T>()[c]);
    fill_invstd<T>(running_var, eps, m.channels, invstds);
    normalise(m, x.as<T>(), weight, bias, means, invstds, y.as<T>());
  });
}

void batch_norm_backward(View dy, View x, View weight, View mean, View invstd, Out dx, Out dweight, Out dbias) {
  with_float(x.dtype, [&](auto type) {
    using T = decltype(type);
    const Matrix m = matrix_of<T>(x);
    Scratch<double> dy_sum(m.channels), product_sum(m.channels), invstds(m.channels);
    Scratch<T> means(m.columns);
    per_column(m, static_cast<T*>(means), [&](int64_t c) { return mean.as<T>()[c]; });
    for (int64_t c = 0; c < m.channels; ++c) invstds[c] = static_cast<double>(invstd.as<T>()[c]);
    gradient_sums(dy.as<T>(), x.as<T>(), static_cast<const T*>(means), m, dy_sum, product_sum);
    store_sums<T>(dweight, dbias, m.channels, dy_sum, product_sum, invstds);
    if (!dx) return;
    // dx = factor * dy + slope * (x - mean) + shift
    const double count = static_cast<double>(max_of(x.shape[0], 1));
    Scratch<T> factor(m.columns), slope(m.columns), shift(m.columns);
    const auto scale = [&](int64_t c) { return invstds[c] * at_or<T>(weight, c, 1); };
    per_column(m, static_cast<T*>(factor), scale);
    per_column(m, static_cast<T*>(slope),
               [&](int64_t c) { return -scale(c) * invstds[c] * invstds[c] * product_sum[c] / count; });
    per_column(m, static_cast<T*>(shift), [&](int64_t c) { return -scale(c) * dy_sum[c] / count; });
    const T *dy_ = dy.as<T>(), *x_ = x.as<T>();
    T* dx_ = dx.as<T>();
    over_elements<T>(m, 3, [&](auto lanes, int64_t i, int64_t c) {
      using L = decltype(lanes);
      const auto distance = L::read(x_ + i) - L::read(means + c);
      L::write(dx_ + i, L::read(dy_ + i) * L::read(factor + c) + (distance * L::read(slope + c) + L::read(shift + c)));
    });
  });
}

void batch_norm_inference_backward(View dy, View x, View weight, View running_mean, View running_var, double eps,
                                   Out dx, Out dweight, Out dbias) {
  with_float(x.dtype, [&](auto type) {
    using T = decltype(type);
    const Matrix m = matrix_of<T>(x);
    Scratch<double> invstds(m.channels);
    fill_invstd<T>(running_var, eps, m.channels, invstds);
    if (dweight || dbias) {
      Scratch<double> dy_sum(m.channels), product_sum(m.channels);
      Scratch<T> means(m.columns);
      per_column(m, static_cast<T*>(means), [&](int64_t c) { return running_mean.as<T>()[c]; });
      gradient_sums(dy.as<T>(), x.as<T>(), static_cast<const T*>(means), m, dy_sum, product_sum);
      store_sums<T>(dweight, dbias, m.channels, dy_sum, product_sum, invstds);
    }
    if (!dx) return;
    Scratch<T> factor(m.columns);
    per_column(m, static_cast<T*>(factor), [&](int64_t c) { return invstds[c] * at_or<T>(weight, c, 1); });
    const T* dy_ = dy.as<T>();
    T* dx_ = dx.as<T>();
    over_elements<T>(m, 2, [&](auto lanes, int64_t i, int64_t c) {
      using L = decltype(lanes);
      L::write(dx_ + i, L::read(dy_ + i) * L::read(factor + c));
    });
  });
}

FASTDL_REGISTER(batch_norm_forward)
FASTDL_REGISTER(batch_norm_inference)
FASTDL_REGISTER(batch_norm_backward)
FASTDL_REGISTER(batch_norm_inference_backward)

}  // namespace fastdl::cpu::FASTDL_ISA
