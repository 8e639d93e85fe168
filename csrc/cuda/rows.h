// Lines along one axis of [outer, n, inner], of one array or of several in the same places. Where the axis is
// contiguous (inner 1) a line is a row: a short one is kept in the registers of a warp, a longer one in the shared
// memory of a block, and is read once however often it is gone through. Else each thread has a line of its own, and its
// neighbours the lines beside it.
//
// All three have, with x one value of each array, in what is computed in, and i its distance from the line's first:
//   each(f)            f(i, x...) for this thread's elements
//   sum(f)             the sum of f(i, x...) over the line, in a fixed order, on every thread
//   sum_of_values(f)   the same of f(x...), which is 0 where x is that of beyond() below
//   top()              the largest value of the only array
// Rows have first() and mine(i) as well: is this thread the row's first, or the one that has element i?
#pragma once
#include <limits>

#include "cuda/launch.h"

namespace fastdl::cuda::gpu {

template <class T, int K>
struct Arrays {
  using W = Wide<T>;
  const T* p[K];

  FASTDL_DEVICE_ONLY Arrays from(int64_t start) const {
    Arrays moved;
    for (int k = 0; k < K; ++k) moved.p[k] = p[k] + start;
    return moved;
  }
  FASTDL_DEVICE_ONLY Pack<W, K> at(int64_t i) const {
    Pack<W, K> values;
    for (int k = 0; k < K; ++k) values.v[k] = W(p[k][i]);
    return values;
  }
  // What stands for an element that isn't there: neither a maximum nor a share of one, or no product.
  FASTDL_DEVICE_ONLY static Pack<W, K> beyond() {
    return filled<K>(K == 1 ? -std::numeric_limits<W>::infinity() : W(0));
  }
};

template <class F, class W, int K>
FASTDL_DEVICE_ONLY auto call(const F& f, int64_t i, const Pack<W, K>& x) {
  if constexpr (K == 1)
    return f(i, x.v[0]);
  else
    return f(i, x.v[0], x.v[1]);
}
template <class F>
struct OfValues {
  const F& f;
  template <class... X>
  FASTDL_DEVICE_ONLY auto operator()(int64_t, X... x) const {
    return f(x...);
  }
};

// A row on the lanes of a warp, `kept` elements in the registers of each.
template <class T, int K, int kept>
struct WarpRow {
  using W = Wide<T>;
  int64_t lane;  // wide, so that places are distances from one address
  int left;      // elements from the lane's first on
  Pack<W, K> v[kept];

  FASTDL_DEVICE_ONLY WarpRow(const Arrays<T, K>& x, int64_t n, int thread)
      : lane(thread % kWarp), left(static_cast<int>(n) - thread % kWarp) {
    FASTDL_UNROLL
    for (int j = 0; j < kept; ++j) v[j] = j * kWarp < left ? x.at(lane + j * kWarp) : x.beyond();
  }
  FASTDL_DEVICE_ONLY bool first() const { return lane == 0; }
  FASTDL_DEVICE_ONLY bool mine(int64_t i) const { return i % kWarp == lane; }
  template <class F>
  FASTDL_DEVICE_ONLY void each(const F& f) const {
    FASTDL_UNROLL
    for (int j = 0; j < kept; ++j)
      if (j * kWarp < left) call(f, lane + j * kWarp, v[j]);
  }
  template <class F>
  FASTDL_DEVICE_ONLY W sum(const F& f) const {
    W total = 0;
    each([&](int64_t i, auto... x) { total += f(i, x...); });
    return reduce_lanes(total, [](W a, W b) { return a + b; });
  }
  template <class F>
  FASTDL_DEVICE_ONLY W sum_of_values(const F& f) const {
    W total = 0;
    FASTDL_UNROLL
    for (int j = 0; j < kept; ++j) total += call(OfValues<F>{f}, 0, v[j]);
    return reduce_lanes(total, [](W a, W b) { return a + b; });
  }
  FASTDL_DEVICE_ONLY W top() const {
    W best = v[0].v[0];
    FASTDL_UNROLL
    for (int j = 1; j < kept; ++j) best = max_of(best, v[j].v[0]);
    return reduce_lanes(best, [](W a, W b) { return max_of(a, b); });
  }
};

// What the other two have in common: elements in memory, every threads()-th of which is this thread's, in steps of
// `step`, and sums of them: kRun elements in their own type, runs in double.
template <class Row, class T, int K>
struct RowInMemory {
  using W = Wide<T>;
  Arrays<T, K> x;
  int64_t n;

  template <class F>
  FASTDL_DEVICE_ONLY void each(const F& f) const {
    each(row().thread(), n, f);
  }
  template <class F>
  FASTDL_DEVICE_ONLY W sum(const F& f) const {
    constexpr int kRun = 32;
    const int64_t run = kRun * row().threads();
    double total = 0;
    for (int64_t i = row().thread(); i < n; i += run) {
      W part = 0;
      each(i, min_of(n, i + run), [&](int64_t at, auto... u) { part += f(at, u...); });
      total += static_cast<double>(part);
    }
    return static_cast<W>(row().reduce(total, [](double a, double b) { return a + b; }));
  }
  template <class F>
  FASTDL_DEVICE_ONLY W sum_of_values(const F& f) const {
    return sum(OfValues<F>{f});
  }
  FASTDL_DEVICE_ONLY W top() const {
    W best = -std::numeric_limits<W>::infinity();
    each([&](int64_t, W u) { best = max_of(best, u); });
    return row().reduce(best, [](W a, W b) { return max_of(a, b); });
  }

 private:
  FASTDL_DEVICE_ONLY const Row& row() const { return static_cast<const Row&>(*this); }
  // This thread's elements from `begin` on, a few at a time, all loaded before the first is used.
  template <class F>
  FASTDL_DEVICE_ONLY void each(int64_t begin, int64_t end, const F& f) const {
    constexpr int kTogether = 16 / sizeof(W);
    const int threads = row().threads();
    const int64_t step = row().step();
    int64_t i = begin;
    for (; i + (kTogether - 1) * threads < end; i += kTogether * threads) {
      Pack<W, K> values[kTogether];
      FASTDL_UNROLL
      for (int a = 0; a < kTogether; ++a) values[a] = x.at((i + a * threads) * step);
      FASTDL_UNROLL
      for (int a = 0; a < kTogether; ++a) call(f, (i + a * threads) * step, values[a]);
    }
    for (; i < end; i += threads) call(f, i * step, x.at(i * step));
  }
};

// A row that the kThreads threads of a block go through together.
template <class T, int K>
struct BlockRow : RowInMemory<BlockRow<T, K>, T, K> {
  Block block;

  FASTDL_DEVICE_ONLY BlockRow(const Arrays<T, K>& x, int64_t n, const Block& by)
      : RowInMemory<BlockRow, T, K>{x, n}, block(by) {}
  FASTDL_DEVICE_ONLY bool first() const { return block.thread == 0; }
  FASTDL_DEVICE_ONLY bool mine(int64_t i) const { return i % kThreads == block.thread; }
  FASTDL_DEVICE_ONLY int thread() const { return block.thread; }
  FASTDL_DEVICE_ONLY static int threads() { return kThreads; }
  FASTDL_DEVICE_ONLY static int64_t step() { return 1; }
  template <class V, class F>
  FASTDL_DEVICE_ONLY V reduce(V value, const F& f) const {
    return block.reduce(value, f);
  }
};

// A thread's line, elements `step` apart.
template <class T, int K>
struct ThreadLine : RowInMemory<ThreadLine<T, K>, T, K> {
  int64_t apart;

  FASTDL_DEVICE_ONLY ThreadLine(const Arrays<T, K>& x, int64_t n, int64_t step)
      : RowInMemory<ThreadLine, T, K>{x, n}, apart(step) {}
  FASTDL_DEVICE_ONLY static int thread() { return 0; }
  FASTDL_DEVICE_ONLY static int threads() { return 1; }
  FASTDL_DEVICE_ONLY int64_t step() const { return apart; }
  template <class V, class F>
  FASTDL_DEVICE_ONLY static V reduce(V value, const F&) {
    return value;
  }
};

constexpr int kTeams = kThreads / kWarp;  // warps of a block that have rows of their own
template <class W>
constexpr int kKept = 128 / static_cast<int>(sizeof(W));  // values on a lane
constexpr int64_t kRowBytes = 47 << 10;                   // of a row in shared memory, beside the block's sums

// The row at x, kept in shared memory where it fits: each thread reads what it wrote.
template <class T, int K>
FASTDL_DEVICE_ONLY BlockRow<T, K> keep_row(const Arrays<T, K>& x, int64_t n, const Block& block) {
  constexpr int64_t kMost = kRowBytes / static_cast<int64_t>(sizeof(T)) / K;
  FASTDL_SHARED(T, kept, [K][kMost]);
  BlockRow<T, K> row(x, n, block);
  if (n > kMost) return row;
  row.each([&](int64_t i, auto... values) {
    const Wide<T> all[] = {values...};
    for (int k = 0; k < K; ++k) kept[k][i] = static_cast<T>(all[k]);
  });
  for (int k = 0; k < K; ++k) row.x.p[k] = kept[k];
  return row;
}

// f(kept): how many elements of a row of n a lane of a warp keeps of each array, or 0 where a block is needed.
template <class W, int K, class F>
void with_row_length(int64_t n, const F& f) {
  constexpr int kFew = 4, kMost = kKept<W> / K;
  if (n <= kWarp)
    f(std::integral_constant<int, 1>{});
  else if (n <= kFew * kWarp)
    f(std::integral_constant<int, kFew>{});
  else if (n <= kMost * kWarp)
    f(std::integral_constant<int, kMost>{});
  else
    f(std::integral_constant<int, 0>{});
}

// F::arrays() gives what a line is of, and f(row, number, start) does what there is to do with one. F::kOnce: it goes
// through the line once.
template <class F, int kept>
struct WarpRows {
  using T = typename F::Element;
  static constexpr int kThreads = gpu::kThreads, kSharedBytes = 0;
  static constexpr int kBlocks = kept > 4 ? (sizeof(Wide<T>) <= 4 ? 2 : 1) : 4;
  int64_t rows, n;
  F f;
  FASTDL_DEVICE_ONLY void operator()(const Block& block) const {
    const int64_t number = block.task * kTeams + block.thread / kWarp;
    if (number < rows)
      f(WarpRow<T, F::kArrays, kept>(f.arrays().from(number * n), n, block.thread), number, number * n);
  }
};
template <class F>
struct BlockRows {
  using T = typename F::Element;
  static constexpr int kThreads = gpu::kThreads, kBlocks = sizeof(Wide<T>) <= 4 ? 4 : 2, kSharedBytes = 0;
  int64_t n;
  F f;
  FASTDL_DEVICE_ONLY void operator()(const Block& block) const {
    const Arrays<T, F::kArrays> x = f.arrays().from(block.task * n);
    if constexpr (F::kOnce)
      f(BlockRow<T, F::kArrays>(x, n, block), block.task, block.task * n);
    else
      f(keep_row(x, n, block), block.task, block.task * n);
  }
};
template <class F>
struct ThreadLines {
  int64_t n, inner;
  F f;
  FASTDL_DEVICE_ONLY void operator()(int64_t line) const {
    const int64_t start = line / inner * n * inner + line % inner;
    f(ThreadLine<typename F::Element, F::kArrays>(f.arrays().from(start), n, inner), line, start);
  }
};

template <class F>
void for_rows(int64_t rows, int64_t n, const F& f) {
  with_row_length<Wide<typename F::Element>, F::kArrays>(n, [&](auto kept) {
    if constexpr (kept.value > 0)
      for_tasks(ceil_div(rows, kTeams), kThreads, WarpRows<F, kept.value>{rows, n, f});
    else
      for_tasks(rows, kThreads, BlockRows<F>{n, f});
  });
}
template <class F>
void for_lines(int64_t outer, int64_t n, int64_t inner, const F& f) {
  if (inner == 1)
    for_rows(outer, n, f);
  else
    for_each(outer * inner, ThreadLines<F>{n, inner, f});
}

}  // namespace fastdl::cuda::gpu
