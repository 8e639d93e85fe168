// The largest or smallest elements and where they are: for rows, long rows and columns of a contiguous array.
#pragma once
#include "core/reduce.h"
#include "cpu/simd.h"

namespace fastdl::cpu::FASTDL_ISA {

constexpr int64_t kReduceBlock = 16384;  // elements per task or partial result

namespace {

// Is v better than the best so far? NaN beats every number, the first NaN stays.
template <bool smallest, class T>
FASTDL_INLINE bool better(T v, T best) {
  return (smallest ? v < best : v > best) || (v != v && best == best);
}

// The extremum of n contiguous elements and its first position.
template <bool smallest, class T>
void row_extremum(const T* x, int64_t n, T* value, int64_t* index) {
  constexpr int W = kLanes<T>;
  T best = x[0];
  int64_t at = 0;
  if (n < 8 * W) {
    for (int64_t i = 1; i < n; ++i)
      if (better<smallest>(x[i], best)) {
        best = x[i];
        at = i;
      }
  } else {  // first what it is, then where
    Vec<T> top[4], nan = {};
    for (int v = 0; v < 4; ++v) top[v] = load(x + v * W);
    const auto take = [&](Vec<T>& t, Vec<T> v) {
      t = (smallest ? v < t : v > t) ? v : t;
      nan = v != v ? v : nan;
    };
    for (int v = 0; v < 4; ++v) nan = top[v] != top[v] ? top[v] : nan;
    int64_t i = 4 * W;
    for (; i + 4 * W <= n; i += 4 * W)
      for (int v = 0; v < 4; ++v) take(top[v], load(x + i + v * W));
    for (; i + W <= n; i += W) take(top[0], load(x + i));
    bool any_nan = false;
    for (int v = 0; v < 4; ++v)
      for (int lane = 0; lane < W; ++lane) {
        any_nan = any_nan || nan[lane] != nan[lane];
        if (better<smallest>(top[v][lane], best)) best = top[v][lane];
      }
    for (; i < n; ++i) {
      any_nan = any_nan || x[i] != x[i];
      if (better<smallest>(x[i], best)) best = x[i];
    }
    if (any_nan) {
      while (x[at] == x[at]) ++at;
    } else {
      for (bool found = false; at + W <= n; at += W) {
        for (int lane = 0; lane < W; ++lane) found = found | (x[at + lane] == best);
        if (found) break;
      }
      while (x[at] != best) ++at;
    }
  }
  *value = x[at];
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
