// Loops and sums over contiguous rows of any length, in whole vectors and a part at the end.
#pragma once
#include "cpu/simd.h"
#include "cpu/vmath.h"

namespace fastdl::cpu::FASTDL_ISA {

// The first `count` lanes, count in [1, kLanes]; with count known to be kLanes a plain load or store.
template <class T>
FASTDL_INLINE Vec<T> load_up_to(const T* p, int64_t count) {
  return count == kLanes<T> ? load(p) : load_part(p, count);
}
template <class T>
FASTDL_INLINE void store_up_to(T* p, Vec<T> v, int64_t count) {
  if (count == kLanes<T>)
    store(p, v);
  else
    store_part(p, v, count);
}

// v in the first `count` lanes, `other` in the rest.
template <class T>
FASTDL_INLINE Vec<T> first_lanes(Vec<T> v, int64_t count, T other) {
  if (count == kLanes<T>) return v;
  vmath::Ints<T> lane;
  for (int i = 0; i < kLanes<T>; ++i) lane[i] = i;
  return lane < static_cast<typename vmath::Math<T>::Int>(count) ? v : splat(other);
}

// f(i, count) for every vector of [begin, end): its first element and how many of its lanes are inside.
template <class T, class F>
FASTDL_INLINE void for_vectors(int64_t begin, int64_t end, const F& f) {
  constexpr int64_t W = kLanes<T>;
  int64_t i = begin;
  for (; i + W <= end; i += W) f(i, W);
  if (i < end) f(i, end - i);
}

// All lanes joined by op, halves first as in sum_lanes, in registers.
template <class T, int kHalf = kLanes<T> / 2, class F>
FASTDL_INLINE T fold_lanes(Vec<T> v, const F& op) {
  constexpr auto lanes = std::make_integer_sequence<int, kLanes<T>>{};
  v = op(exchange<T, kHalf, false>(v, v, lanes), exchange<T, kHalf, true>(v, v, lanes));
  if constexpr (kHalf > 1)
    return fold_lanes<T, kHalf / 2>(v, op);
  else
    return v[0];
}

// Sum of term(i, count) over the vectors of [begin, end), lanes past count taken as zero. Runs of kRun elements are
// summed apart, so that the rounding error stays that of some hundred additions.
template <class T, class F>
FASTDL_INLINE T sum_of(int64_t begin, int64_t end, const F& term) {
  constexpr int64_t kRun = 64 * kLanes<T>;
  Vec<T> total{};
  for (int64_t run = begin; run < end; run += kRun) {
    Vec<T> sum{};
    for_vectors<T>(run, min_of(end, run + kRun), [&](int64_t i, int64_t count) __attribute__((always_inline)) {
      sum += first_lanes<T>(term(i, count), count, T{0});
    });
    total += sum;
  }
  return fold_lanes<T>(total, [](Vec<T> a, Vec<T> b) __attribute__((always_inline)) { return a + b; });
}

// Maximum of x[0..n), n > 0; some element if there are NaN among them.
template <class T>
FASTDL_INLINE T max_of_row(const T* x, int64_t n) {
  Vec<T> top = splat(static_cast<T>(-__builtin_inf()));
  for_vectors<T>(0, n, [&](int64_t i, int64_t count) __attribute__((always_inline)) {
    top = maximum<T>(first_lanes<T>(load_up_to(x + i, count), count, static_cast<T>(-__builtin_inf())), top);
  });
  return fold_lanes<T>(top, [](Vec<T> a, Vec<T> b) __attribute__((always_inline)) { return maximum<T>(a, b); });
}

template <class T>
FASTDL_INLINE T log_of(T x) {
  return vmath::log<T>(splat(x))[0];
}

// How many rows of n elements make a task worth handing over.
FASTDL_INLINE int64_t rows_per_task(int64_t n) { return max_of(1, 8192 / max_of(n, 1)); }

}  // namespace fastdl::cpu::FASTDL_ISA
