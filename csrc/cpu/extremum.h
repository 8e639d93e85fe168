// The largest or smallest elements and where they are: for rows, long rows and columns of a contiguous array.
#pragma once
#include "core/reduce.h"
#include "cpu/simd.h"

namespace fastdl::cpu::FASTDL_ISA {

constexpr int64_t kReduceBlock = 16384;  // elements per task or partial result

namespace {

// Is v better than the best so far? NaN beats every number, the first NaN stays. On numbers and on vectors; without
// branches, which random data would mispredict.
template <bool smallest, class V>
FASTDL_INLINE auto better(V v, V best) {
  if constexpr (smallest)
    return (v < best) | ((v != v) & (best == best));
  else
    return (v > best) | ((v != v) & (best == best));
}

template <class T>
struct Place {
  typedef std::int32_t type;
};
template <>
struct Place<double> {
  typedef std::int64_t type;
};

// The extremum of n < 2^31 contiguous elements and its first position. Lane l of a vector follows the elements l, l +
// W, l + 2 W, ...; of lanes with equal extrema the one with the smaller position wins.
template <bool smallest, class T>
void row_extremum(const T* x, int64_t n, T* value, int64_t* index) {
  using I = typename Place<T>::type;
  typedef I Places __attribute__((vector_size(kVecBytes)));
  constexpr int W = kLanes<T>;
  T best = x[0];
  int64_t at = 0, i = 1;
  if (n >= 4 * W) {
    Vec<T> top[2] = {load(x), load(x + W)};
    Places now[2], place[2];
    for (int lane = 0; lane < W; ++lane) now[0][lane] = lane;
    now[1] = now[0] + W;
    for (int v = 0; v < 2; ++v) place[v] = now[v];
    for (i = 2 * W; i + 2 * W <= n; i += 2 * W)
      for (int v = 0; v < 2; ++v) {
        now[v] += 2 * W;
        const Vec<T> y = load(x + i + v * W);
        const auto wins = better<smallest>(y, top[v]);
        top[v] = wins ? y : top[v];
        place[v] = wins ? now[v] : place[v];
      }
    best = top[0][0];
    at = place[0][0];
    for (int v = 0; v < 2; ++v)
      for (int lane = 0; lane < W; ++lane) {
        const T y = top[v][lane];
        const bool same = (y == best) | ((y != y) & (best != best));
        const bool wins = better<smallest>(y, best) | (same & (place[v][lane] < at));
        best = wins ? y : best;
        at = wins ? place[v][lane] : at;
      }
  }
  for (; i < n; ++i) {
    const bool wins = better<smallest>(x[i], best);
    best = wins ? x[i] : best;
    at = wins ? i : at;
  }
  *value = best;
  *index = at;
}

// A long row: blocks, then the best of the blocks, the first of equals.
template <bool smallest, class T>
void long_row_extremum(const T* x, int64_t n, T* value, int64_t* index) {
  const int64_t blocks = ceil_div(n, kReduceBlock);
  const Scratch<T> values(blocks);
  const Scratch<int64_t> places(blocks);
  parallel_for(blocks, 0.2 * kReduceBlock, [&](int64_t b) {
    row_extremum<smallest>(x + b * kReduceBlock, min_of(kReduceBlock, n - b * kReduceBlock), values + b, places + b);
  });
  int64_t best = 0;
  for (int64_t b = 1; b < blocks; ++b)
    if (better<smallest>(values[b], values[best])) best = b;
  *value = values[best];
  *index = best * kReduceBlock + places[best];
}

// inner > 1: the best so far of every column, row by row.
template <bool smallest, class T>
void column_extrema(const T* x, int64_t n, int64_t inner, int64_t width, T* values, int64_t* index) {
  for (int64_t j = 0; j < width; ++j) {
    values[j] = x[j];
    index[j] = 0;
  }
  for (int64_t i = 1; i < n; ++i) {
    const T* row = x + i * inner;
    for (int64_t j = 0; j < width; ++j) {
      const bool wins = better<smallest>(row[j], values[j]);
      values[j] = wins ? row[j] : values[j];
      index[j] = wins ? i : index[j];
    }
  }
}

template <bool smallest, class T>
void find_extrema(const T* x, T* values, int64_t* index, const AxisSplit& s) {
  if (s.inner == 1 && s.n > 4 * kReduceBlock) {
    for (int64_t o = 0; o < s.outer; ++o) long_row_extremum<smallest>(x + o * s.n, s.n, values + o, index + o);
  } else if (s.inner == 1) {
    const int64_t batch = max_of(kReduceBlock / s.n, 1);
    parallel_for(ceil_div(s.outer, batch), 0.4 * static_cast<double>(min_of(batch, s.outer) * s.n), [&](int64_t task) {
      const int64_t end = min_of(s.outer, (task + 1) * batch);
      for (int64_t o = task * batch; o < end; ++o) row_extremum<smallest>(x + o * s.n, s.n, values + o, index + o);
    });
  } else {
    const int64_t width = min_of(s.inner, 512), strips = ceil_div(s.inner, width);
    parallel_for(s.outer * strips, 0.6 * static_cast<double>(s.n * width), [&](int64_t task) {
      const int64_t o = task / strips, j = task % strips * width, to = o * s.inner + j;
      column_extrema<smallest>(x + o * s.n * s.inner + j, s.n, s.inner, min_of(width, s.inner - j), values + to,
                               index + to);
    });
  }
}

}  // namespace

}  // namespace fastdl::cpu::FASTDL_ISA
