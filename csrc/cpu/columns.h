// The rows of batch norm: x [m,c] in pieces for tasks, and the moments of its columns.
//
// Rows are summed in blocks as distances from the mean of the block's first rows, which loses no digits however large
// the mean is against the deviation: rows far from that mean add at least as much to the variance as to the error. A
// few rows are enough for that, while more would be another pass. Blocks are merged in double, in order (Chan, Golub
// and LeVeque 1983), and their borders follow from the shape alone. Where a row has fewer channels than kGroup vectors
// have lanes, several rows are taken as one of k * c columns.
#pragma once
#include "core/batch_norm.h"
#include "cpu/convert.h"

namespace fastdl::cpu::FASTDL_ISA {

namespace {

constexpr double kNsPerByte = 0.05;
constexpr int64_t kTaskBytes = 32768;
constexpr int64_t kRun = kMomentRows;  // rows summed in T before the sum goes on in double
constexpr int64_t kBlockRows = 512;    // rows whose distances are taken from one mean
constexpr int64_t kCenterRows = 8;     // rows of that mean
constexpr int64_t kColumnBlock = 1024;
constexpr int kGroup = 4;  // vectors taken side by side, and for sums, where registers hold them, twice as many
constexpr int kSums = FASTDL_ISA_LEVEL == 2 ? 2 * kGroup : kGroup;

// x [m,c] as `rows` rows of `columns` = folds * c columns, and `tail` more elements.
struct Matrix {
  int64_t channels, folds, columns, rows, tail;
  int64_t block_rows, row_blocks, column_blocks;
};

template <class T>
Matrix matrix_of(int64_t rows, int64_t channels) {
  Matrix m;
  m.channels = channels;
  m.folds = m.channels == 0 ? 1 : max_of(1, ceil_div(kGroup * kLanes<T>, m.channels));
  m.columns = m.folds * m.channels;
  m.rows = rows / m.folds;
  m.tail = rows % m.folds * m.channels;
  m.block_rows = kRun * max_of(1, ceil_div(m.rows, kRun * kMomentBlocks));
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

// f<vectors>(column) over the columns, in groups of kSize vectors, then single ones, the last overlapping.
template <class T, int kSize = kGroup, class F>
FASTDL_INLINE void over_columns(int64_t first, int64_t last, const F& f) {
  constexpr int64_t W = kLanes<T>;
  int64_t c = first;
  for (; c + kSize * W <= last; c += kSize * W) f.template operator()<kSize>(c);
  if constexpr (kSize > kGroup)
    for (; c + kGroup * W <= last; c += kGroup * W) f.template operator()<kGroup>(c);
  for (; c + W <= last; c += W) f.template operator()<1>(c);
  if (c < last) f.template operator()<1>(last - W);
}

// f<vectors>(first row, last row, column) over all whole rows, the last first. Groups are twice as wide as for sums:
// rows of 128 floats are then walked without gaps, which takes a tenth less.
template <class T, class F>
void over_matrix(const Matrix& m, int streams, const F& f) {
  if (m.columns == 0) return;
  const int64_t row_bytes = m.columns * static_cast<int64_t>(sizeof(T)) * streams;
  const int64_t group = max_of(1, kTaskBytes / row_bytes);
  parallel_for_back(ceil_div(m.rows, group), kNsPerByte * static_cast<double>(row_bytes * group), [&](int64_t task) {
    const int64_t first = task * group, last = min_of(m.rows, first + group);
    over_columns<T, 2 * kGroup>(0, m.columns, [&]<int N>(int64_t c) { f.template operator()<N>(first, last, c); });
  });
}

// Adds the means and sums of squared distances of `more` values per column to those of `count`; the first are stored.
template <int N>
FASTDL_INLINE void merge(double count, double* mean, double* squares, double more, const double (&other_mean)[N],
                         const double (&other_squares)[N]) {
  if (count == 0) {
    __builtin_memcpy(mean, other_mean, sizeof other_mean);
    __builtin_memcpy(squares, other_squares, sizeof other_squares);
    return;
  }
  const double share = more / (count + more), cross = count * share;
  for (int i = 0; i < N; ++i) {
    const double distance = other_mean[i] - mean[i];
    mean[i] += distance * share;
    squares[i] += other_squares[i] + distance * distance * cross;
  }
}

// sums = v or, unless it is the first, sums + v. Cleared arrays would begin with a string instruction of GCC, a tenth
// of all the time.
template <class T>
FASTDL_INLINE void add_lanes(const Vec<T>& v, bool first, double* sums) {
  T lane[kLanes<T>];
  __builtin_memcpy(lane, &v, sizeof v);
  for (int i = 0; i < kLanes<T>; i += kLanes<double>) {
    const Vec<double> more = load_doubles(lane + i);
    store(sums + i, first ? more : load(sums + i) + more);
  }
}

// Means and sums of squared distances of N vectors of columns over the rows [first, last) of x; all pointers are at the
// first column.
template <int N, class T>
FASTDL_INLINE void block_moments(const T* x, int64_t stride, int64_t first, int64_t last, double* out_mean,
                                 double* out_squares) {
  constexpr int W = kLanes<T>;
  for (int64_t block = first; block < last; block += kBlockRows) {
    const int64_t end = min_of(last, block + kBlockRows), start = min_of(end, block + kCenterRows);
    const double count = static_cast<double>(end - block);
    Vec<T> center[N] = {};
    for (int64_t r = block; r < start; ++r)
      for (int v = 0; v < N; ++v) center[v] += load(x + r * stride + v * W);
    for (int v = 0; v < N; ++v) center[v] = center[v] / splat(static_cast<T>(start - block));
    double mean[N * W], squares[N * W];
    for (int64_t run = block; run < end; run += kRun) {
      Vec<T> plain[N] = {}, square[N] = {};
      for (int64_t r = run; r < min_of(end, run + kRun); ++r)
        for (int v = 0; v < N; ++v) {
          const Vec<T> distance = load(x + r * stride + v * W) - center[v];
          plain[v] += distance;
          square[v] += distance * distance;
        }
      for (int v = 0; v < N; ++v) {
        add_lanes<T>(plain[v], run == block, mean + v * W);
        add_lanes<T>(square[v], run == block, squares + v * W);
      }
    }
    T centers[N * W];
    __builtin_memcpy(centers, center, sizeof center);
    const double share = 1 / count;
    for (int i = 0; i < N * W; ++i) {
      squares[i] -= mean[i] * mean[i] * share;
      mean[i] = mean[i] * share + static_cast<double>(centers[i]);
    }
    merge(static_cast<double>(block - first), out_mean, out_squares, count, mean, squares);
  }
}

// Moments of the columns [c0, c1) of one row block, into partial [row block][mean, squares][column].
template <class T>
FASTDL_INLINE void row_block_moments(const T* x, const Matrix& m, int64_t block, int64_t c0, int64_t c1,
                                     double* partial) {
  double* const means = partial + block * 2 * m.columns;
  const int64_t first = block * m.block_rows, last = min_of(m.rows, first + m.block_rows);
  over_columns<T, kSums>(c0, c1, [&]<int N>(int64_t c) {
    block_moments<N>(x + c, m.columns, first, last, means + c, means + m.columns + c);
  });
}

// Those of every row block.
template <class T>
void all_moments(const T* x, const Matrix& m, double* partial) {
  over_blocks<T>(m, 1, [&](int64_t block, int64_t, int64_t, int64_t c0, int64_t c1) {
    row_block_moments(x, m, block, c0, c1, partial);
  });
}

// Takes the moments of row blocks while a kernel writes x piece by piece and the block is in the cache. They are the
// same numbers wherever they are taken: a block that lies in two threads' pieces waits for the end.
template <class T>
class MomentsOnTheWay {
 public:
  MomentsOnTheWay(const T* x, const Matrix& matrix, double* sums)
      : x_(x), m(matrix), partial(sums), done(matrix.row_blocks) {
    for (int64_t block = 0; block < m.row_blocks; ++block) done[block] = false;
  }

  // The pieces of one thread follow each other; `from` is where the first began, `until` where the last ended, in rows
  // of x; `next` is 0 before the first.
  FASTDL_INLINE void wrote(int64_t from, int64_t until, int64_t& next) {
    const int64_t size = m.block_rows * m.folds;
    for (next = max_of(next, ceil_div(from, size)); next < m.row_blocks; ++next) {
      if (min_of((next + 1) * size, m.rows * m.folds) > until) return;
      row_block_moments(x_, m, next, 0, m.columns, partial);
      done[next] = true;
    }
  }

  void finish() {
    int64_t left = 0;
    Scratch<int64_t> blocks(m.row_blocks);
    for (int64_t block = 0; block < m.row_blocks; ++block)
      if (!done[block]) blocks[left++] = block;
    const double bytes = static_cast<double>(m.block_rows * m.columns) * sizeof(T);
    parallel_for(left, bytes * kNsPerByte,
                 [&](int64_t i) { row_block_moments(x_, m, blocks[i], 0, m.columns, partial); });
  }

 private:
  const T* x_;
  const Matrix m;
  double* partial;
  Scratch<bool> done;
};

// Mean and biased variance per channel, in double, from the moments of all row blocks.
template <class T>
void merge_moments(const T* x, const Matrix& m, const double* partial, double* mean, double* var) {
  // Merged over blocks per column, then over the columns of a channel and its elements in the tail.
  const auto rows_of = [&](int64_t block) {
    return static_cast<double>(min_of(m.block_rows, m.rows - block * m.block_rows));
  };
  Scratch<double> means(m.columns), squares(m.columns);
  for (int64_t c = 0; c < m.columns; ++c) means[c] = squares[c] = 0;
  const double all_rows = static_cast<double>(m.rows);
  for (int64_t block = 0; block < m.row_blocks; ++block) {
    const double *const block_means = partial + block * 2 * m.columns, share = rows_of(block) / all_rows;
    for (int64_t c = 0; c < m.columns; ++c) means[c] += block_means[c] * share;
  }
  for (int64_t block = 0; block < m.row_blocks; ++block) {
    const double *const block_means = partial + block * 2 * m.columns, rows = rows_of(block);
    for (int64_t c = 0; c < m.columns; ++c) {
      const double distance = block_means[c] - means[c];
      squares[c] += block_means[m.columns + c] + distance * distance * rows;
    }
  }
  // Fold after fold, all channels side by side.
  const T* tail = x + m.rows * m.columns;
  const double count = all_rows * static_cast<double>(m.folds) + static_cast<double>(m.tail / max_of(m.channels, 1));
  const double share = 1 / count;
  for (int64_t c = 0; c < m.channels; ++c) mean[c] = var[c] = 0;
  for (int64_t from = 0; from < m.columns; from += m.channels)
    for (int64_t c = 0; c < m.channels; ++c) mean[c] += means[from + c] * all_rows;
  for (int64_t i = 0; i < m.tail; ++i) mean[i % m.channels] += static_cast<double>(tail[i]);
  for (int64_t c = 0; c < m.channels; ++c) mean[c] *= share;
  for (int64_t from = 0; from < m.columns && m.rows > 0; from += m.channels)
    for (int64_t c = 0; c < m.channels; ++c) {
      const double distance = means[from + c] - mean[c];
      var[c] += squares[from + c] + distance * distance * all_rows;
    }
  for (int64_t i = 0; i < m.tail; ++i) {
    const double distance = static_cast<double>(tail[i]) - mean[i % m.channels];
    var[i % m.channels] += distance * distance;
  }
  for (int64_t c = 0; c < m.channels; ++c) var[c] = var[c] < 0 ? 0 : var[c] * share;  // rounding: constant channels
}

}  // namespace

}  // namespace fastdl::cpu::FASTDL_ISA
