// Sums and extrema. Bound by memory: every element is read once.
//
// A sum's innermost dimension (smallest stride in x) decides the loop. If it is reduced, a row is added up in four
// vectors of double; if it is kept, strips of columns stay in registers while the rows go by. Narrow dense columns (c
// up to kNarrow, as for the bias of a 10-class layer) are read as whole vectors: W rows are c vectors, and lane l of
// vector v belongs to column (v * W + l) % c. Sums with few results are cut into blocks along the reduced dimensions.
#include "core/reduce.h"

#include "cpu/convert.h"
#include "cpu/extremum.h"

namespace fastdl::cpu::FASTDL_ISA {

namespace {

constexpr int64_t kBlock = kReduceBlock;  // elements per task or partial sum
constexpr int64_t kNarrow = 48;

using Doubles = Vec<double>;
constexpr int kWide = kLanes<double>;

template <bool squares, class V>
FASTDL_INLINE V term(V x) {
  if constexpr (squares)
    return x * x;
  else
    return x;
}

// Sum of n elements in a fixed order: four vectors, then one, then the rest.
template <bool squares, class T>
FASTDL_INLINE double row_sum(const T* x, int64_t n, int64_t stride) {
  double total = 0;
  int64_t i = 0;
  if (stride == 1) {
    if (n >= kWide) {
      Doubles acc[4] = {};
      for (; i + 4 * kWide <= n; i += 4 * kWide)
        for (int v = 0; v < 4; ++v) acc[v] += term<squares>(load_doubles(x + i + v * kWide));
      for (; i + kWide <= n; i += kWide) acc[0] += term<squares>(load_doubles(x + i));
      total = sum_lanes<double>((acc[0] + acc[1]) + (acc[2] + acc[3]));
    }
    for (; i < n; ++i) total += term<squares>(static_cast<double>(x[i]));
    return total;
  }
  double acc[4] = {};
  for (; i + 4 <= n; i += 4)
    for (int v = 0; v < 4; ++v) acc[v] += term<squares>(static_cast<double>(x[(i + v) * stride]));
  total = (acc[0] + acc[1]) + (acc[2] + acc[3]);
  for (; i < n; ++i) total += term<squares>(static_cast<double>(x[i * stride]));
  return total;
}

// The dimensions of one kind in a plan, walked in C order.
struct Walk {
  int ndim = 0;
  SumDim dims[kMaxDims];
  int64_t at[kMaxDims];
  int64_t x = 0, y = 0;

  FASTDL_INLINE int64_t count() const {
    int64_t n = 1;
    for (int d = 0; d < ndim; ++d) n *= dims[d].size;
    return n;
  }
  FASTDL_INLINE void seek(int64_t index) {
    x = y = 0;
    for (int d = ndim - 1; d >= 0; --d) {
      at[d] = index % dims[d].size;
      index /= dims[d].size;
      x += at[d] * dims[d].x_stride;
      y += at[d] * dims[d].y_stride;
    }
  }
  // How many steps stay in the innermost dimension, and taking them at once.
  FASTDL_INLINE int64_t run() const { return ndim > 0 ? dims[ndim - 1].size - at[ndim - 1] : 1; }
  FASTDL_INLINE int64_t step() const { return ndim > 0 ? dims[ndim - 1].x_stride : 0; }
  FASTDL_INLINE void skip(int64_t steps) {
    if (ndim > 0) {
      at[ndim - 1] += steps - 1;
      x += (steps - 1) * dims[ndim - 1].x_stride;
      y += (steps - 1) * dims[ndim - 1].y_stride;
    }
    next();
  }
  FASTDL_INLINE void next() {
    for (int d = ndim - 1; d >= 0; --d) {
      x += dims[d].x_stride;
      y += dims[d].y_stride;
      if (++at[d] < dims[d].size) return;
      at[d] = 0;
      x -= dims[d].size * dims[d].x_stride;
      y -= dims[d].size * dims[d].y_stride;
    }
  }
};

FASTDL_INLINE Walk outer_dims(const SumPlan& plan, bool reduced) {
  Walk walk;
  for (int d = 0; d + 1 < plan.ndim; ++d)
    if (plan.dims[d].reduced == reduced) walk.dims[walk.ndim++] = plan.dims[d];
  return walk;
}

// How `rows` rows of `width` elements each are cut into blocks when there are `results` results: a block per task while
// results alone give enough tasks, at most kSumBlocks.
FASTDL_INLINE int64_t block_count(int64_t rows, int64_t width, int64_t results) {
  const int64_t wanted = rows * width / kBlock, room = max_of(kSumBlocks / max_of(results, 1), 1);
  return max_of(min_of(min_of(wanted, rows), room), 1);
}

template <class Y>
struct Result {
  Y* y;
  double divisor;
  FASTDL_INLINE void set(int64_t i, double sum) const { y[i] = static_cast<Y>(sum / divisor); }
  FASTDL_INLINE void set(int64_t i, int64_t stride, const double* sums, int64_t n) const {
    if (stride == 1)
      for (int64_t j = 0; j < n; ++j) set(i + j, sums[j]);
    else
      for (int64_t j = 0; j < n; ++j) set(i + j * stride, sums[j]);
  }
};

// The innermost dimension is reduced: every result is a sum of rows.
template <bool squares, class T, class Y>
void sum_rows(const SumPlan& plan, const T* x, const Result<Y>& result) {
  const SumDim row = plan.dims[plan.ndim - 1];
  const Walk kept = outer_dims(plan, false), reduced = outer_dims(plan, true);
  const int64_t results = kept.count(), rows = reduced.count();
  // Long rows are cut into pieces, several rows per result are cut into groups of rows.
  const int64_t pieces = rows == 1 ? block_count(row.size, 1, results) : 1, piece = ceil_div(row.size, pieces);
  const int64_t groups = rows > 1 ? block_count(rows, row.size, results) : 1, group = ceil_div(rows, groups);
  const int64_t blocks = pieces * groups;
  const auto block_sum = [&](int64_t offset, int64_t block) {
    const int64_t begin = min_of(block * piece, row.size);
    if (rows == 1)
      return row_sum<squares>(x + offset + begin * row.x_stride, min_of(piece, row.size - begin), row.x_stride);
    Walk walk = reduced;
    const int64_t first = min_of(block * group, rows), last = min_of(rows, first + group);
    walk.seek(first);
    double total = 0;
    for (int64_t r = first; r < last; ++r, walk.next())
      total += row_sum<squares>(x + offset + walk.x, row.size, row.x_stride);
    return total;
  };
  const double cost = row.x_stride == 1 ? 0.15 : 0.8;
  if (blocks == 1) {
    const int64_t batch = max_of(kBlock / max_of(rows * row.size, 1), 1);  // results per task
    parallel_for(ceil_div(results, batch), cost * static_cast<double>(min_of(batch, results) * rows * row.size),
                 [&](int64_t task) {
                   const int64_t end = min_of(results, (task + 1) * batch);
                   Walk walk = kept;
                   walk.seek(task * batch);
                   for (int64_t i = task * batch; i < end; ++i, walk.next()) result.set(walk.y, block_sum(walk.x, 0));
                 });
    return;
  }
  const Scratch<double> partial(results * blocks);
  parallel_for(results * blocks, cost * static_cast<double>(rows * row.size / blocks), [&](int64_t task) {
    Walk walk = kept;
    walk.seek(task / blocks);
    partial[task] = block_sum(walk.x, task % blocks);
  });
  Walk walk = kept;
  walk.seek(0);
  for (int64_t i = 0; i < results; ++i, walk.next()) {
    double total = partial[i * blocks];
    for (int64_t b = 1; b < blocks; ++b) total += partial[i * blocks + b];
    result.set(walk.y, total);
  }
}

// sums[j] += x[j] of every row, for a strip of `width` columns.
template <bool squares, int vectors, class T>
FASTDL_INLINE void strip(const T* x, Walk walk, int64_t rows, double* sums) {
  Doubles acc[vectors] = {};
  for (int64_t r = 0; r < rows;) {
    const int64_t run = min_of(walk.run(), rows - r), step = walk.step();
    const T* p = x + walk.x;
    for (int64_t i = 0; i < run; ++i, p += step)
      for (int v = 0; v < vectors; ++v) acc[v] += term<squares>(load_doubles(p + v * kWide));
    r += run;
    walk.skip(run);
  }
  for (int v = 0; v < vectors; ++v) store(sums + v * kWide, acc[v]);
}

// The columns [0, width) of the rows that `walk` stands at, in the order of the rows.
template <bool squares, class T>
void column_sums(const T* x, int64_t stride, const Walk& walk, int64_t rows, int64_t width, double* sums) {
  int64_t j = 0;
  if (stride == 1) {
    for (; j + 8 * kWide <= width; j += 8 * kWide) strip<squares, 8>(x + j, walk, rows, sums + j);
    for (; j + kWide <= width; j += kWide) strip<squares, 1>(x + j, walk, rows, sums + j);
  }
  for (; j < width; ++j) {
    Walk rest = walk;
    double total = 0;
    for (int64_t r = 0; r < rows; ++r, rest.next()) total += term<squares>(static_cast<double>(x[rest.x + j * stride]));
    sums[j] = total;
  }
}

// Dense rows of c <= kNarrow columns: W rows at a time as c whole vectors.
template <bool squares, class T>
void narrow_sums(const T* x, int64_t rows, int64_t c, double* sums) {
  Doubles acc[kNarrow] = {};
  int64_t r = 0;
  for (; r + kWide <= rows; r += kWide)
    for (int64_t v = 0; v < c; ++v) acc[v] += term<squares>(load_doubles(x + r * c + v * kWide));
  for (int64_t j = 0; j < c; ++j) sums[j] = 0;
  int64_t column = 0;
  for (int64_t v = 0; v < c; ++v)
    for (int lane = 0; lane < kWide; ++lane) {
      sums[column] += acc[v][lane];
      if (++column == c) column = 0;
    }
  for (; r < rows; ++r)
    for (int64_t j = 0; j < c; ++j) sums[j] += term<squares>(static_cast<double>(x[r * c + j]));
}

// The innermost dimension is kept: results are columns.
template <bool squares, class T, class Y>
void sum_columns(const SumPlan& plan, const T* x, const Result<Y>& result) {
  const SumDim column = plan.dims[plan.ndim - 1];
  const Walk kept = outer_dims(plan, false), reduced = outer_dims(plan, true);
  const int64_t outer = kept.count(), rows = reduced.count(), c = column.size;
  const bool narrow = c <= kNarrow && column.x_stride == 1 && reduced.ndim == 1 && reduced.dims[0].x_stride == c;
  const int64_t width = narrow ? c : min_of(c, 8 * kWide * (kBlock / (8 * kWide) / max_of(min_of(rows, 256), 1) + 1));
  const int64_t strips = ceil_div(c, width);
  const int64_t blocks = block_count(rows, c, outer * strips), group = ceil_div(rows, blocks);
  const Scratch<double> partial(outer * blocks * c);
  const double cost = column.x_stride == 1 ? 0.15 : 1;
  parallel_for(outer * blocks * strips, cost * static_cast<double>(group * width), [&](int64_t task) {
    const int64_t s = task % strips, b = task / strips % blocks, o = task / strips / blocks;
    const int64_t first = min_of(b * group, rows), count = min_of(group, rows - first);
    const int64_t j = s * width, n = min_of(width, c - j);
    Walk at = kept, walk = reduced;
    at.seek(o);
    walk.seek(first);
    const T* start = x + at.x + j * column.x_stride;
    double* sums = partial + (o * blocks + b) * c + j;
    if (narrow)
      narrow_sums<squares>(start + first * c, count, c, sums);
    else
      column_sums<squares>(start, column.x_stride, walk, count, n, sums);
  });
  Walk at = kept;
  at.seek(0);
  for (int64_t o = 0; o < outer; ++o, at.next()) {
    double* sums = partial + o * blocks * c;
    for (int64_t b = 1; b < blocks; ++b)
      for (int64_t j = 0; j < c; ++j) sums[j] += sums[b * c + j];
    result.set(at.y, column.y_stride, sums, c);
  }
}

}  // namespace

void sum(const SumPlan& plan_, View x_, Out y_, bool squares, double divisor) {
  SumPlan plan = plan_;
  if (plan.ndim == 0) plan.dims[plan.ndim++] = {1, 1, 0, true};  // a single element
  with_float(x_.dtype, [&](auto x_type) {
    with_float(y_.dtype, [&](auto y_type) {
      using T = decltype(x_type);
      using Y = decltype(y_type);
      const T* x = x_.as<T>() + plan.x_start;
      const Result<Y> result{y_.as<Y>() + plan.y_start, divisor};
      const bool rows = plan.dims[plan.ndim - 1].reduced;
      if (squares)
        rows ? sum_rows<true>(plan, x, result) : sum_columns<true>(plan, x, result);
      else
        rows ? sum_rows<false>(plan, x, result) : sum_columns<false>(plan, x, result);
    });
  });
}

void extremum(View x, Out values, Out index, const AxisSplit& split, bool smallest) {
  with_float(x.dtype, [&](auto type) {
    using T = decltype(type);
    if (smallest)
      find_extrema<true>(x.as<T>(), values.as<T>(), index.as<int64_t>(), split);
    else
      find_extrema<false>(x.as<T>(), values.as<T>(), index.as<int64_t>(), split);
  });
}

void max_backward(View dy_, View index_, Out dx_, const AxisSplit& s) {
  with_float(dy_.dtype, [&](auto type) {
    with_index(index_.dtype, [&](auto index_type) {
      using T = decltype(type);
      using I = decltype(index_type);
      const T* dy = dy_.as<T>();
      const I* index = index_.as<I>();
      T* dx = dx_.as<T>();
      parallel_for(s.outer, 0.1 * static_cast<double>(s.n * s.inner), [&](int64_t o) {
        T* to = dx + o * s.n * s.inner;
        __builtin_memset(to, 0, static_cast<std::size_t>(s.n * s.inner) * sizeof(T));
        for (int64_t i = 0; i < s.inner; ++i) to[index[o * s.inner + i] * s.inner + i] = dy[o * s.inner + i];
      });
    });
  });
}

FASTDL_REGISTER(sum)
FASTDL_REGISTER(extremum)
FASTDL_REGISTER(max_backward)

}  // namespace fastdl::cpu::FASTDL_ISA
