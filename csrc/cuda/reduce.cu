// Sums and extrema. Bound by memory: every element is read once.
//
// Results are sums over elements counted through the reduced dimensions. Where the innermost dimension (smallest stride
// in x) is reduced, a block of threads goes along it together; where it is kept, neighbouring threads have neighbouring
// results. Few results of many elements are cut into pieces by the shape alone, whose sums are added in their order.
// Scratch: at most kMostPieces numbers, or one of each kind per result.
#include "core/reduce.h"

#include <limits>

#include "core/bfloat16.h"
#include "cuda/divide.h"
#include "cuda/launch.h"

namespace fastdl::cuda::gpu {

namespace {

constexpr int64_t kWarpRow = 1024;        // elements up to which a warp is enough
constexpr int64_t kPiece = 4096;          // elements of one result that a block of threads is worth
constexpr int64_t kMostPieces = 1024;     // of all results together, for blocks of threads
constexpr int64_t kThreadPiece = 64;      // elements of one result for a thread alone
constexpr int64_t kThreadPieces = 65536;  // of all results together, for threads

int64_t pieces_of(int64_t elements, int64_t results, int64_t piece, int64_t most) {
  return max_of(int64_t{1}, min_of(elements / piece, most / max_of(results, int64_t{1})));
}

// Calls f(I{}) with 32 bits where all numbers are below `most`, and divisions take a fraction of the time.
template <class F>
void with_width(int64_t most, const F& f) {
  most < int64_t{1} << 30 ? f(std::int32_t{}) : f(int64_t{});
}

// The dimensions of one kind in a plan, counted in C order.
template <class I>
struct Walk {
  struct Dim {
    DividerOf<I> size;
    I x_stride = 0, y_stride = 0;
  };
  int ndim = 0;
  Dim dims[kMaxDims];

  Walk(const SumPlan& plan, bool reduced) {
    for (int d = 0; d < plan.ndim; ++d)
      if (const SumDim& dim = plan.dims[d]; dim.reduced == reduced)
        dims[ndim++] = {DividerOf<I>(dim.size), static_cast<I>(dim.x_stride), static_cast<I>(dim.y_stride)};
  }
  struct Place {
    I x, y;
  };
  FASTDL_DEVICE_ONLY Place at(I index) const { return of_dims(index, ndim); }
  // The same for kDims of them: the compiler knows how many.
  template <int kDims>
  FASTDL_DEVICE_ONLY I x_at(I index) const {
    return of_dims(index, kDims).x;
  }

 private:
  FASTDL_DEVICE_ONLY Place of_dims(I index, int count) const {
    Place place{0, 0};
    for (int d = count - 1; d > 0; --d) {
      const I above = dims[d].size(index), here = index - above * static_cast<I>(dims[d].size.divisor);
      place.x += here * dims[d].x_stride;
      place.y += here * dims[d].y_stride;
      index = above;
    }
    if (count > 0) {
      place.x += index * dims[0].x_stride;
      place.y += index * dims[0].y_stride;
    }
    return place;
  }
};

int64_t count_of(const SumPlan& plan, bool reduced) {
  int64_t n = 1;
  for (int d = 0; d < plan.ndim; ++d)
    if (plan.dims[d].reduced == reduced) n *= plan.dims[d].size;
  return n;
}

// Piece p of result r: elements [p * piece, (p + 1) * piece) of it. y: of the results, if there is one piece.
template <class I, class T, class Y, bool squares>
struct Sum {
  Walk<I> kept, reduced;
  const T* x;
  Y* y;
  double divisor;
  double* partial;  // [piece][result], or null
  DividerOf<I> results;
  I elements, piece;

  // Every step-th element of [i, end), with kAhead loads under way together.
  template <int kAhead, class At>
  FASTDL_DEVICE_ONLY static double add(const T* from, I i, I end, I step, const At& at) {
    double sum = 0;
    FASTDL_UNROLL_BY(kAhead)
    for (; i < end; i += step) {
      const double value = static_cast<double>(from[at(i)]);
      sum += squares ? value * value : value;
    }
    return sum;
  }
  FASTDL_DEVICE_ONLY double add(I r, I p, I first, I step) const {
    const T* const from = x + kept.at(r).x;
    const I begin = p * piece + first, end = min_of(elements, (p + 1) * piece);
    if (reduced.ndim <= 1) return add<8>(from, begin, end, step, [&](I i) { return i * reduced.dims[0].x_stride; });
    if (reduced.ndim == 2) return add<8>(from, begin, end, step, [&](I i) { return reduced.template x_at<2>(i); });
    return add<1>(from, begin, end, step, [&](I i) { return reduced.at(i).x; });
  }
  FASTDL_DEVICE_ONLY void put(I r, I p, double sum) const {
    if (partial != nullptr)
      partial[int64_t{p} * results.divisor + r] = sum;
    else
      y[kept.at(r).y] = static_cast<Y>(sum / divisor);
  }
  FASTDL_DEVICE_ONLY void operator()(const Block& block) const {
    const I p = results(static_cast<I>(block.task)), r = static_cast<I>(block.task - int64_t{p} * results.divisor);
    const double sum = block.sum(add(r, p, static_cast<I>(block.thread), static_cast<I>(block.threads)));
    if (block.thread == 0) put(r, p, sum);
  }
  FASTDL_DEVICE_ONLY void operator()(int64_t task) const {
    const I p = results(static_cast<I>(task)), r = static_cast<I>(task - int64_t{p} * results.divisor);
    put(r, p, add(r, p, 0, 1));
  }
};

template <class I, class Y>
struct FinishSum {
  Walk<I> kept;
  const double* partial;
  int64_t results, pieces;
  double divisor;
  Y* y;

  FASTDL_DEVICE_ONLY void operator()(const Block& block) const {
    const int64_t r = block.task;
    const double sum = block.sum_of(0, pieces, [&](int64_t p) { return partial[p * results + r]; });
    if (block.thread == 0) y[kept.at(static_cast<I>(r)).y] = static_cast<Y>(sum / divisor);
  }
};

// All pieces of the only result.
template <class I, class T, class Y, bool squares>
struct SumOfAll : Unprepared {
  static constexpr int kBlocks = 4;  // for 64 registers
  Sum<I, T, Y, squares> sum;
  FinishSum<I, Y> total;

  FASTDL_DEVICE_ONLY void operator()(const Block& block, int) const { sum(block); }
  FASTDL_DEVICE_ONLY void finish(const Block& block) const { total(block); }
};

template <bool squares, class I, class T, class Y>
void sum_plan(const SumPlan& plan, const T* x, Y* y, double divisor) {
  const Walk<I> kept(plan, false), reduced(plan, true);
  const int64_t results = count_of(plan, false), elements = count_of(plan, true);
  const bool along = plan.ndim == 0 || plan.dims[plan.ndim - 1].reduced;
  const int64_t pieces = along ? pieces_of(elements, results, kPiece, kMostPieces)
                               : pieces_of(elements, results, kThreadPiece, kThreadPieces);
  double* const partial = pieces > 1 ? workspace<double>(pieces * results) : nullptr;
  const Sum<I, T, Y, squares> sum{kept,
                                  reduced,
                                  x,
                                  y,
                                  divisor,
                                  partial,
                                  DividerOf<I>(results),
                                  static_cast<I>(elements),
                                  static_cast<I>(ceil_div(elements, pieces))};
  const FinishSum<I, Y> total{kept, partial, results, pieces, divisor, y};
  if (along && results == 1 && pieces > 1)
    return for_tasks_finished(pieces, SumOfAll<I, T, Y, squares>{{}, sum, total});
  if (along)
    for_tasks(results * pieces, elements <= kWarpRow ? kWarp : kThreads, sum);
  else
    for_each(results * pieces, sum);
  if (pieces > 1) for_tasks(results, pieces < kThreads ? kWarp : kThreads, total);
}

// More than all places and counts of a sum.
int64_t span_of(const SumPlan& plan) {
  int64_t count = 1, x = 0, y = 0;
  for (int d = 0; d < plan.ndim; ++d) {
    const SumDim& dim = plan.dims[d];
    count *= dim.size;
    x += dim.size * dim.x_stride;
    y += dim.size * (dim.y_stride < 0 ? -dim.y_stride : dim.y_stride);
  }
  return max_of(count, max_of(x, y));
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
    return !(smallest ? a >= b : a <= b) && b == b;
  }
};

// The lines along n, cut into pieces of so many elements.
template <class I, class T, bool smallest>
struct Extremum {
  const T* x;
  I n, piece;
  DividerOf<I> inner, results;
  T* values;
  int64_t* index;  // [piece][result]

  // Of every step-th element of [i, end). Loads are under way together.
  FASTDL_DEVICE_ONLY Best<T> find(const T* from, I i, I end, I step) const {
    if (i >= end) return {T(0), -1};
    const I stride = static_cast<I>(inner.divisor);
    T best = from[i * stride];
    I place = i;
    FASTDL_UNROLL_BY(8)
    for (i += step; i < end; i += step) {
      const T value = from[i * stride];
      const bool better = Better<smallest>{}(value, best);
      best = better ? value : best;
      place = better ? i : place;
    }
    return {best, place};
  }
  FASTDL_DEVICE_ONLY void put(int64_t at, const Best<T>& best) const {
    values[at] = best.value;
    index[at] = best.index;
  }
  // inner 1: the threads find the best value, then the first place of those that have it.
  FASTDL_DEVICE_ONLY void operator()(const Block& block) const {
    constexpr int64_t kNone = std::numeric_limits<int64_t>::max();
    const I p = results(static_cast<I>(block.task)), r = static_cast<I>(block.task - int64_t{p} * results.divisor);
    const I begin = p * piece + static_cast<I>(block.thread), end = min_of(n, (p + 1) * piece);
    const Best<T> mine = find(x + r * n, begin, end, static_cast<I>(block.threads));
    const T none = smallest ? std::numeric_limits<T>::infinity() : -std::numeric_limits<T>::infinity();
    const T value =
        block.reduce(mine.index < 0 ? none : mine.value, [](T a, T b) { return Better<smallest>{}(b, a) ? b : a; });
    const bool has = mine.index >= 0 && !Better<smallest>{}(value, mine.value);
    const int64_t first = block.reduce(has ? mine.index : kNone, [](int64_t a, int64_t b) { return min_of(a, b); });
    if (block.thread == 0) put(block.task, {value, first});
  }
  FASTDL_DEVICE_ONLY void operator()(int64_t task) const {
    const I p = results(static_cast<I>(task)), r = static_cast<I>(task - int64_t{p} * results.divisor);
    const I line = inner(r), start = (line * n - line) * static_cast<I>(inner.divisor) + r;
    put(task, find(x + start, p * piece, min_of(n, (p + 1) * piece), 1));
  }
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

template <bool smallest, class I, class T>
void find_extrema(const T* x, T* values, int64_t* index, const AxisSplit& s) {
  const bool along = s.inner == 1;
  const int64_t results = s.outer * s.inner;
  const int64_t piece = ceil_div(
      s.n, along ? pieces_of(s.n, results, kPiece, kMostPieces) : pieces_of(s.n, results, kThreadPiece, kThreadPieces));
  const int64_t pieces = ceil_div(s.n, piece);  // none is empty
  int64_t* const places = pieces > 1 ? workspace<int64_t>(2 * pieces * results) : index;
  T* const found = pieces > 1 ? reinterpret_cast<T*>(places + pieces * results) : values;
  const Extremum<I, T, smallest> extremum{
      x, static_cast<I>(s.n), static_cast<I>(piece), DividerOf<I>(s.inner), DividerOf<I>(results), found, places};
  if (along)
    for_tasks(results * pieces, piece <= kWarpRow ? kWarp : kThreads, extremum);
  else
    for_each(results * pieces, extremum);
  if (pieces > 1) for_each(results, FinishExtremum<T, smallest>{found, places, results, pieces, values, index});
}

// kCount elements of a line along n, which in memory are `inner` apart; packed: 1.
template <int kCount, bool packed, class I, class T, class Index>
struct PutBack {
  const T* dy;
  const Index* index;
  DividerOf<I> inner, parts;
  I n;
  T* dx;

  FASTDL_DEVICE_ONLY void operator()(int64_t task) const {
    const I i = static_cast<I>(task), part = inner(i), r = i - part * static_cast<I>(inner.divisor);
    const I outer = parts(part), first = (part - outer * static_cast<I>(parts.divisor)) * kCount;
    const I result = outer * static_cast<I>(inner.divisor) + r;
    const int64_t away = int64_t{index[result]} - first;
    const int here = away >= 0 && away < kCount ? static_cast<int>(away) : -1;
    const T value = dy[result];
    T* const to = dx + ((outer * n + first) * static_cast<I>(inner.divisor) + r);
    const auto at = [&](int k) { return k == here ? value : T(0); };
    if constexpr (packed) {
      Pack<T, kCount> pack;
      for (int k = 0; k < kCount; ++k) pack.v[k] = at(k);
      store_pack(to, pack);
    } else {
      for (int k = 0; k < kCount && first + k < n; ++k) to[k * static_cast<I>(inner.divisor)] = at(k);
    }
  }
};

template <class I, class T, class Index>
void put_back(const T* dy, const Index* index, const AxisSplit& s, T* dx) {
  constexpr int64_t kBeside = 8;  // elements that lie together; where fewer do, threads write beside each other instead
  constexpr int kPacked = kPack<T>, kApart = 16;
  const auto run = [&](auto count, auto packed) {
    const int64_t parts = ceil_div(s.n, count.value);
    const PutBack<count.value, packed.value, I, T, Index> part{
        dy, index, DividerOf<I>(s.inner), DividerOf<I>(parts), static_cast<I>(s.n), dx};
    for_each(s.outer * parts * s.inner, part);
  };
  if (s.inner >= kBeside) return run(std::integral_constant<int, kApart>{}, std::false_type{});
  if (s.inner == 1 && s.n % kPacked == 0 && on_border(dx))
    return run(std::integral_constant<int, kPacked>{}, std::true_type{});
  run(std::integral_constant<int, 1>{}, std::false_type{});
}

}  // namespace

void sum(const SumPlan& plan, View x_, Out y_, bool squares, double divisor) {
  with_any_float(x_.dtype, [&](auto type) {
    with_width(span_of(plan), [&](auto width) {
      using T = decltype(type);
      using I = decltype(width);
      const T* const x = x_.as<T>() + plan.x_start;
      if (squares) return sum_plan<true, I>(plan, x, y_.as<double>() + plan.y_start, divisor);
      sum_plan<false, I>(plan, x, y_.as<T>() + plan.y_start, divisor);
    });
  });
}

void extremum(View x, Out values, Out index, const AxisSplit& s, bool smallest) {
  with_float(x.dtype, [&](auto type) {
    with_width(s.outer * s.n * s.inner, [&](auto width) {
      using T = decltype(type);
      using I = decltype(width);
      if (smallest)
        find_extrema<true, I>(x.as<T>(), values.as<T>(), index.as<int64_t>(), s);
      else
        find_extrema<false, I>(x.as<T>(), values.as<T>(), index.as<int64_t>(), s);
    });
  });
}

void max_backward(View dy, View index, Out dx, const AxisSplit& s) {
  with_float(dy.dtype, [&](auto type) {
    with_index(index.dtype, [&](auto index_type) {
      with_width(s.outer * s.n * s.inner, [&](auto width) {
        using T = decltype(type);
        put_back<decltype(width)>(dy.as<T>(), index.as<decltype(index_type)>(), s, dx.as<T>());
      });
    });
  });
}

FASTDL_REGISTER(sum)
FASTDL_REGISTER(extremum)
FASTDL_REGISTER(max_backward)

}  // namespace fastdl::cuda::gpu
