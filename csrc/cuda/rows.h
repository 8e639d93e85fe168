// Lines along one axis of [outer, n, inner]: where the axis is contiguous (inner 1), the threads of a block go through
// a line together; else each thread has a line of its own, and its neighbours the lines beside it.
#pragma once
#include <limits>

#include "cuda/launch.h"

namespace fastdl::cuda::gpu {

constexpr int64_t kWarpRow = 1024;  // elements up to which a warp is enough for a line

// n elements, `step` apart, of which this thread takes every threads-th. start: the first one's place.
struct Line {
  Block block;
  int64_t start, n, step;

  // f(i) for this thread's elements, with i their distance from the first.
  template <class F>
  FASTDL_DEVICE_ONLY void each(const F& f) const {
    for (int64_t k = block.thread; k < n; k += block.threads) f(k * step);
  }
  // The sum of f(i) over the line, in a fixed order, on every thread: kRun elements in their own type, runs in double.
  template <class F>
  FASTDL_DEVICE_ONLY auto sum(const F& f) const {
    constexpr int kRun = 32;
    using T = decltype(f(int64_t{}));
    double total = 0;
    for (int64_t k = block.thread; k < n;) {
      T run = 0;
      for (int i = 0; i < kRun && k < n; ++i, k += block.threads) run += f(k * step);
      total += static_cast<double>(run);
    }
    return static_cast<T>(threads_share() ? block.sum(total) : total);
  }
  // The largest element of x, which points at the first.
  template <class T, class W = Wide<T>>
  FASTDL_DEVICE_ONLY W top(const T* x) const {
    const W none = -std::numeric_limits<W>::infinity();
    W best = none;
    each([&](int64_t i) { best = max_of(best, W(x[i])); });
    return threads_share() ? block.reduce(best, [](W a, W b) { return max_of(a, b); }) : best;
  }

 private:
  FASTDL_DEVICE_ONLY bool threads_share() const { return block.threads > 1; }
};

template <class F>
struct RowTask {
  int64_t n;
  F f;
  FASTDL_DEVICE_ONLY void operator()(const Block& block) const { f(Line{block, block.task * n, n, 1}); }
};

template <class F>
struct LineEach {
  int64_t n, inner;
  F f;
  FASTDL_DEVICE_ONLY void operator()(int64_t line) const {
    f(Line{{line, 0, 1}, line / inner * n * inner + line % inner, n, inner});
  }
};

// f(line) for every row of n.
template <class F>
void for_rows(int64_t rows, int64_t n, const F& f) {
  for_tasks(rows, n <= kWarpRow ? kWarp : kThreads, RowTask<F>{n, f});
}

// f(line) for every line.
template <class F>
void for_lines(int64_t outer, int64_t n, int64_t inner, const F& f) {
  if (inner == 1)
    for_rows(outer, n, f);
  else
    for_each(outer * inner, LineEach<F>{n, inner, f});
}

}  // namespace fastdl::cuda::gpu
