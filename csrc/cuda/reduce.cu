// Sums and extrema. Bound by memory: every element is read once.
//
// Results are sums over elements counted through the reduced dimensions. Where the innermost dimension (smallest stride
// in x) is reduced, a block of threads goes along it together; where it is kept, neighbouring threads have neighbouring
// results. Few results of many elements are cut into pieces by the shape alone, whose sums are added in their order.
// Scratch: at most kMostPieces numbers, or one of each kind per result.
#include "core/reduce.h"

#include <limits>

#include "core/bfloat16.h"
#include "cuda/rows.h"

namespace fastdl::cuda::gpu {

namespace {

constexpr int64_t kPiece = 4096;          // elements of one result that a block of threads is worth
constexpr int64_t kMostPieces = 1024;     // of all results together, for blocks of threads
constexpr int64_t kThreadPiece = 64;      // elements of one result for a thread alone
constexpr int64_t kThreadPieces = 65536;  // of all results together, for threads

int64_t pieces_of(int64_t elements, int64_t results, int64_t piece, int64_t most) {
  return max_of(int64_t{1}, min_of(elements / piece, most / max_of(results, int64_t{1})));
}

// The dimensions of one kind in a plan, counted in C order.
struct Walk {
  int ndim = 0;
  SumDim dims[kMaxDims];

  Walk(const SumPlan& plan, bool reduced) {
    for (int d = 0; d < plan.ndim; ++d)
      if (plan.dims[d].reduced == reduced) dims[ndim++] = plan.dims[d];
  }
  int64_t count() const {
    int64_t n = 1;
    for (int d = 0; d < ndim; ++d) n *= dims[d].size;
    return n;
  }
  struct Place {
    int64_t x, y;
  };
  FASTDL_BOTH Place at(int64_t index) const {
    Place place{0, 0};
    for (int d = ndim - 1; d > 0; --d) {
      const int64_t above = index / dims[d].size, here = index - above * dims[d].size;
      place.x += here * dims[d].x_stride;
      place.y += here * dims[d].y_stride;
      index = above;
    }
    if (ndim > 0) {
      place.x += index * dims[0].x_stride;
      place.y += index * dims[0].y_stride;
    }
    return place;
  }
};

// Piece p of result r: elements [p * piece, (p + 1) * piece) of it. y: of the results, if there is one piece.
template <class T, class Y, bool squares>
struct Sum {
  Walk kept, reduced;
  const T* x;
  Y* y;
  double divisor;
  double* partial;  // [piece][result], or null
  int64_t results, elements, piece;

  FASTDL_DEVICE_ONLY double add(int64_t r, int64_t p, int64_t first, int64_t step) const {
    const T* const from = x + kept.at(r).x;
    const int64_t end = min_of(elements, (p + 1) * piece);
    double sum = 0;
    for (int64_t i = p * piece + first; i < end; i += step) {
      const double value = static_cast<double>(from[reduced.at(i).x]);
      sum += squares ? value * value : value;
    }
    return sum;
  }
  FASTDL_DEVICE_ONLY void put(int64_t r, int64_t p, double sum) const {
    if (partial != nullptr)
      partial[p * results + r] = sum;
    else
      y[kept.at(r).y] = static_cast<Y>(sum / divisor);
  }
  FASTDL_DEVICE_ONLY void operator()(const Block& block) const {
    const int64_t r = block.task % results, p = block.task / results;
    const double sum = block.sum(add(r, p, block.thread, block.threads));
    if (block.thread == 0) put(r, p, sum);
  }
  FASTDL_DEVICE_ONLY void operator()(int64_t task) const {
    const int64_t r = task % results, p = task / results;
    put(r, p, add(r, p, 0, 1));
  }
};

template <class Y>
struct FinishSum {
  Walk kept;
  const double* partial;
  int64_t results, pieces;
  double divisor;
  Y* y;

  FASTDL_DEVICE_ONLY void operator()(const Block& block) const {
    const int64_t r = block.task;
    const double sum = block.sum_of(0, pieces, [&](int64_t p) { return partial[p * results + r]; });
    if (block.thread == 0) y[kept.at(r).y] = static_cast<Y>(sum / divisor);
  }
};

// All pieces of the only result.
template <class T, class Y, bool squares>
struct SumOfAll : Unprepared {
  static constexpr int kBlocks = 4;  // for 64 registers
  Sum<T, Y, squares> sum;
  FinishSum<Y> total;

  FASTDL_DEVICE_ONLY void operator()(const Block& block, int) const { sum(block); }
  FASTDL_DEVICE_ONLY void finish(const Block& block) const { total(block); }
};

template <bool squares, class T, class Y>
void sum_plan(const SumPlan& plan, const T* x, Y* y, double divisor) {
  const Walk kept(plan, false), reduced(plan, true);
  const int64_t results = kept.count(), elements = reduced.count();
  const bool along = plan.ndim == 0 || plan.dims[plan.ndim - 1].reduced;
  const int64_t pieces = along ? pieces_of(elements, results, kPiece, kMostPieces)
                               : pieces_of(elements, results, kThreadPiece, kThreadPieces);
  double* const partial = pieces > 1 ? workspace<double>(pieces * results) : nullptr;
  const Sum<T, Y, squares> sum{kept, reduced, x, y, divisor, partial, results, elements, ceil_div(elements, pieces)};
  const FinishSum<Y> total{kept, partial, results, pieces, divisor, y};
  if (along && results == 1 && pieces > 1) return for_tasks_finished(pieces, SumOfAll<T, Y, squares>{{}, sum, total});
  if (along)
    for_tasks(results * pieces, elements <= kWarpRow ? kWarp : kThreads, sum);
  else
    for_each(results * pieces, sum);
  if (pieces > 1) for_tasks(results, pieces < kThreads ? kWarp : kThreads, total);
}

// The best element so far and its place; NaN is better than any number, and of equals the first is.
template <class T>
struct Best {
  T value;
  int64_t index;  // -1: none yet
};

template <bool smallest>
struct Better {
  template <class T>
  FASTDL_BOTH bool operator()(T a, T b) const {
    return a != a ? b == b : smallest ? a < b : a > b;
  }
};

template <class T, bool smallest>
struct Extremum {
  const T* x;
  int64_t n, inner, piece, results;
  T* values;
  int64_t* index;  // [piece][result]

  FASTDL_DEVICE_ONLY Best<T> find(const T* from, int64_t begin, int64_t end, int64_t step) const {
    Best<T> best{T(0), -1};
    for (int64_t i = begin; i < end; i += step)
      if (best.index < 0 || Better<smallest>{}(from[i * inner], best.value)) best = {from[i * inner], i};
    return best;
  }
  FASTDL_DEVICE_ONLY void put(int64_t at, const Best<T>& best) const {
    values[at] = best.value;
    index[at] = best.index;
  }
  // inner 1: the threads find the best value, then the first place of those that have it.
  FASTDL_DEVICE_ONLY void operator()(const Block& block) const {
    constexpr int64_t kNone = std::numeric_limits<int64_t>::max();
    const int64_t r = block.task % results, begin = block.task / results * piece, end = min_of(n, begin + piece);
    const Best<T> mine = find(x + r * n, begin + block.thread, end, block.threads);
    const T none = smallest ? std::numeric_limits<T>::infinity() : -std::numeric_limits<T>::infinity();
    const T value = block.reduce(mine.index < 0 ? none : mine.value, none,
                                 [](T a, T b) { return Better<smallest>{}(b, a) ? b : a; });
    const bool has = mine.index >= 0 && !Better<smallest>{}(value, mine.value);
    const int64_t first =
        block.reduce(has ? mine.index : kNone, kNone, [](int64_t a, int64_t b) { return min_of(a, b); });
    if (block.thread == 0) put(block.task, {value, first});
  }
  FASTDL_DEVICE_ONLY void operator()(int64_t r) const { put(r, find(x + r / inner * n * inner + r % inner, 0, n, 1)); }
};

template <class T, bool smallest>
struct FinishExtremum {
  const T* values;
  const int64_t* index;
  int64_t results, pieces;
  T* to_values;
  int64_t* to_index;

  FASTDL_DEVICE_ONLY void operator()(int64_t r) const {
    Best<T> best{values[r], index[r]};
    FASTDL_UNROLL_BY(16)
    for (int64_t p = 1; p < pieces; ++p) {
      const Best<T> of_piece{values[p * results + r], index[p * results + r]};
      if (Better<smallest>{}(of_piece.value, best.value)) best = of_piece;
    }
    to_values[r] = best.value;
    to_index[r] = best.index;
  }
};

template <bool smallest, class T>
void find_extrema(const T* x, T* values, int64_t* index, const AxisSplit& s) {
  const int64_t results = s.outer * s.inner;
  if (s.inner > 1) return for_each(results, Extremum<T, smallest>{x, s.n, s.inner, s.n, results, values, index});
  const int64_t pieces = pieces_of(s.n, results, kPiece, kMostPieces), piece = ceil_div(s.n, pieces);
  const int threads = piece <= kWarpRow ? kWarp : kThreads;
  if (pieces == 1) return for_tasks(results, threads, Extremum<T, smallest>{x, s.n, 1, piece, results, values, index});
  const int64_t used = ceil_div(s.n, piece);  // no piece is empty
  int64_t* const places = workspace<int64_t>(2 * used * results);
  T* const found = reinterpret_cast<T*>(places + used * results);
  for_tasks(results * used, threads, Extremum<T, smallest>{x, s.n, 1, piece, results, found, places});
  for_each(results, FinishExtremum<T, smallest>{found, places, results, used, values, index});
}

template <class T, class Index>
struct PutBack {
  const T* dy;
  const Index* index;
  int64_t n, inner;
  T* dx;

  FASTDL_DEVICE_ONLY void operator()(int64_t i) const {
    const int64_t line = i / inner, result = line / n * inner + (i - line * inner);
    dx[i] = int64_t{index[result]} == line % n ? dy[result] : T(0);
  }
};

}  // namespace

void sum(const SumPlan& plan, View x_, Out y_, bool squares, double divisor) {
  with_any_float(x_.dtype, [&](auto type) {
    using T = decltype(type);
    const T* const x = x_.as<T>() + plan.x_start;
    if (squares) return sum_plan<true>(plan, x, y_.as<double>() + plan.y_start, divisor);
    sum_plan<false>(plan, x, y_.as<T>() + plan.y_start, divisor);
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

void max_backward(View dy, View index, Out dx, const AxisSplit& s) {
  with_float(dy.dtype, [&](auto type) {
    with_index(index.dtype, [&](auto index_type) {
      using T = decltype(type);
      using Index = decltype(index_type);
      for_each(s.outer * s.n * s.inner, PutBack<T, Index>{dy.as<T>(), index.as<Index>(), s.n, s.inner, dx.as<T>()});
    });
  });
}

FASTDL_REGISTER(sum)
FASTDL_REGISTER(extremum)
FASTDL_REGISTER(max_backward)

}  // namespace fastdl::cuda::gpu
