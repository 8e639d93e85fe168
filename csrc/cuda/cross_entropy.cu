// Cross-entropy, forward in one kernel: a row is kept in registers or shared memory while its maximum, sum and, where
// it is wanted, gradient are taken, a warp to a short row, a block to a longer one; the block that is done last adds up
// the rows. Backward by itself makes the softmax again from the saved log-sum-exp, in one pass, after a kernel for what
// "mean" divides by.
//
// The host can't look at labels in a GPU's memory: one that names no class makes its row's loss and gradient NaN.
// Scratch: n doubles forward, two numbers backward. Arrays are of T, numbers beside them and what is computed of W.
#include "core/cross_entropy.h"

#include <cmath>
#include <limits>

#include "cuda/math.h"
#include "cuda/rows.h"

namespace fastdl::cuda::gpu {

namespace {

template <class W, class Index>
struct Labels {
  const Index* label;
  const W* weight;  // or null
  int64_t rows, classes, ignore_index;

  FASTDL_DEVICE_ONLY bool ignored(int64_t row) const { return int64_t{label[row]} == ignore_index; }
  FASTDL_DEVICE_ONLY bool names_class(int64_t row) const { return label[row] >= 0 && int64_t{label[row]} < classes; }
  FASTDL_DEVICE_ONLY W weight_of(int64_t c) const { return weight != nullptr ? weight[c] : W(1); }
  // The weights of the labels that count, or how many there are: what "mean" divides by.
  FASTDL_DEVICE_ONLY double divisor(const Block& block) const { return divisor(block, 0, rows); }
  FASTDL_DEVICE_ONLY double divisor(const Block& block, int64_t begin, int64_t end) const {
    return block.sum_of(begin, end,
                        [&](int64_t i) { return ignored(i) || !names_class(i) ? W(0) : weight_of(label[i]); });
  }
  FASTDL_DEVICE_ONLY W total_weight(const Block& block) const {
    if (weight == nullptr) return static_cast<W>(classes);
    return static_cast<W>(block.sum_of(0, classes, [&](int64_t c) { return weight[c]; }));
  }
};

template <class W>
struct Smoothing {
  W keep, even;  // 1 - label_smoothing, label_smoothing / classes

  Smoothing(const CrossEntropyAttrs& attrs, int64_t classes)
      : keep(static_cast<W>(1 - attrs.label_smoothing)),
        even(static_cast<W>(attrs.label_smoothing / static_cast<double>(classes))) {}
};

// The gradient of a row of the logits, whose loss is multiplied with `by`; total: of the classes' weights. Sums of
// products are written as what they are to become: nvcc makes one or the other of them a multiply-add, another in each
// kernel, and both kernels are to give the same bits.
template <class W, class Index>
struct Slope {
  const Labels<W, Index>& labels;
  bool ignored, smoothed;
  int64_t label;
  W own, even, factor, lse;

  FASTDL_DEVICE_ONLY Slope(const Labels<W, Index>& of, const Smoothing<W>& s, int64_t row, W by, W total, W log_sum_exp)
      : labels(of), ignored(of.ignored(row)), smoothed(s.even > 0), lse(log_sum_exp) {
    const bool is_class = of.names_class(row);
    label = is_class ? int64_t{of.label[row]} : 0;
    const W g = is_class ? by : not_a_number<W>();
    own = g * s.keep * of.weight_of(label);
    even = g * s.even;
    factor = g * std::fma(s.keep, of.weight_of(label), s.even * total);
  }
  // Of a row to `to`. The label's is written last, over one that knows of no label, by the thread that wrote that.
  template <class Row, class T>
  FASTDL_DEVICE_ONLY void along(const Row& row, T* to) const {
    const auto share = [&](W x) { return Math<W>::exp_share(x - lse); };
    if (ignored) return row.each([&](int64_t i, W) { to[i] = static_cast<T>(W(0)); });
    if (smoothed)
      row.each(
          [&](int64_t i, W x) { to[i] = static_cast<T>(std::fma(share(x), factor, -(labels.weight_of(i) * even))); });
    else
      row.each([&](int64_t i, W x) { to[i] = static_cast<T>(share(x) * factor); });
    if (row.mine(label))
      to[label] =
          static_cast<T>(std::fma(share(W(row.x[label])), factor, -std::fma(labels.weight_of(label), even, own)));
  }
};

constexpr int kTeams = kThreads / kWarp;  // warps of a block that have rows of their own
#if defined(__CUDACC__)
constexpr int64_t kMostTeams = 32768;  // each adds up the losses of its rows
#else
constexpr int64_t kMostTeams = 40;
#endif
template <class W>
constexpr int kKept = 128 / static_cast<int>(sizeof(W));  // elements of a row on a lane
constexpr int64_t kRowBytes = 47 << 10;                   // of a row in shared memory, beside the block's sums
constexpr int64_t kLabelsOfBlock = 8192;                  // labels that every block may count for itself
constexpr int64_t kLabelsOfTask = 16384;
constexpr int64_t kWholeDoubles = 2;  // that a Whole takes
FASTDL_BOTH int64_t parts_of(int64_t rows) { return ceil_div(rows, kLabelsOfTask); }

// A row at x on the lanes of a warp, `kept` elements in the registers of each.
template <class T, int kept>
struct WarpRow {
  using W = Wide<T>;
  static constexpr W kBeyond = -std::numeric_limits<W>::infinity();  // the end: neither a maximum nor a share of one
  const T* x;
  int64_t lane;
  int left;  // from the lane's first element on
  W v[kept];

  FASTDL_DEVICE_ONLY WarpRow(const T* at, int64_t n, int on) : x(at), lane(on), left(static_cast<int>(n) - on) {
    FASTDL_UNROLL
    for (int j = 0; j < kept; ++j) v[j] = j * kWarp < left ? W(x[lane + j * kWarp]) : kBeyond;
  }
  FASTDL_DEVICE_ONLY bool first() const { return lane == 0; }
  FASTDL_DEVICE_ONLY bool mine(int64_t i) const { return i % kWarp == lane; }
  template <class F>
  FASTDL_DEVICE_ONLY void each(const F& f) const {
    FASTDL_UNROLL
    for (int j = 0; j < kept; ++j)
      if (j * kWarp < left) f(lane + j * kWarp, v[j]);
  }
  FASTDL_DEVICE_ONLY W top() const {
    W best = kBeyond;
    FASTDL_UNROLL
    for (int j = 0; j < kept; ++j) best = max_of(best, v[j]);
    return reduce_lanes(best, [](W a, W b) { return max_of(a, b); });
  }
  // The sum of exp(x - top).
  FASTDL_DEVICE_ONLY W shares(W top) const {
    W total = 0;
    FASTDL_UNROLL
    for (int j = 0; j < kept; ++j) total += Math<W>::exp_share(v[j] - top);
    return reduce_lanes(total, [](W a, W b) { return a + b; });
  }
  template <class F>
  FASTDL_DEVICE_ONLY W sum(const F& f) const {
    W total = 0;
    each([&](int64_t i, W x) { total += f(i, x); });
    return reduce_lanes(total, [](W a, W b) { return a + b; });
  }
};

// A row at x that the threads of a block go through together, kThreads or a number that is known when they do.
template <class T, int known>
struct BlockRow {
  using W = Wide<T>;
  const T* x;
  Block block;
  int64_t n;

  FASTDL_DEVICE_ONLY bool first() const { return block.thread == 0; }
  FASTDL_DEVICE_ONLY int step() const { return known > 0 ? known : block.threads; }
  FASTDL_DEVICE_ONLY bool mine(int64_t i) const { return i % step() == block.thread; }
  template <class F>
  FASTDL_DEVICE_ONLY void each(const F& f) const {
    each(block.thread, n, f);
  }
  FASTDL_DEVICE_ONLY W top() const {
    const W none = -std::numeric_limits<W>::infinity();
    W best = none;
    each([&](int64_t, W u) { best = max_of(best, u); });
    return block.reduce(best, [](W a, W b) { return max_of(a, b); });
  }
  FASTDL_DEVICE_ONLY W shares(W top) const {
    return sum([&](int64_t, W u) { return Math<W>::exp_share(u - top); });
  }
  // In a fixed order: kRun elements of a thread in their own type, runs in double.
  template <class F>
  FASTDL_DEVICE_ONLY W sum(const F& f) const {
    constexpr int kRun = 32;
    double total = 0;
    for (int64_t i = block.thread; i < n; i += kRun * step()) {
      W run = 0;
      each(i, min_of(n, i + kRun * step()), [&](int64_t k, W u) { run += f(k, u); });
      total += static_cast<double>(run);
    }
    return static_cast<W>(block.sum(total));
  }

 private:
  // f(i, x[i]) for this thread's i from `begin` on, a few at a time.
  template <class F>
  FASTDL_DEVICE_ONLY void each(int64_t begin, int64_t end, const F& f) const {
    constexpr int kTogether = 16 / sizeof(W);
    int64_t i = begin;
    for (; i + (kTogether - 1) * step() < end; i += kTogether * step()) {
      FASTDL_UNROLL
      for (int a = 0; a < kTogether; ++a) f(i + a * step(), W(x[i + a * step()]));
    }
    for (; i < end; i += step()) f(i, W(x[i]));
  }
};

// What rows need to know of all: what the sum of their losses is divided by, and the sum of the classes' weights.
template <class W>
struct Whole {
  double divisor;
  W weight;
};

template <class T, class Index>
struct Losses {
  using W = Wide<T>;
  const T* logits;
  Labels<W, Index> labels;
  Smoothing<W> smoothing;
  Reduction reduction;
  int64_t teams;          // take every so-and-so-many-th row
  const Whole<W>* whole;  // or null: each block finds it out
  W *lse, *loss;
  double* partial;  // of each team; null where every row has its loss
  T* dlogits;       // or null

  FASTDL_DEVICE_ONLY double divisor(const Block& block) const {
    if (reduction != Reduction::mean) return 1;
    return whole != nullptr ? whole->divisor : labels.divisor(block);
  }
  FASTDL_DEVICE_ONLY Whole<W> prepare(const Block& block) const {
    if (dlogits == nullptr) return {};
    if (whole != nullptr) return *whole;
    return {divisor(block), smoothing.even > 0 ? labels.total_weight(block) : W(0)};
  }

  // Costs are log_sum - (x - max): lse - x would carry the rounding of a large lse.
  template <class Row>
  FASTDL_DEVICE_ONLY W take(const Row& row, int64_t which, const Whole<W>& all) const {
    const int64_t begin = which * labels.classes;
    const W top = row.top();
    const W log_sum = std::log(row.shares(top));
    const W spread = smoothing.even > 0
                         ? row.sum([&](int64_t i, W x) { return labels.weight_of(i) * (log_sum - (x - top)); })
                         : W(0);
    if (dlogits != nullptr) {
      const Slope<W, Index> slope(labels, smoothing, which, static_cast<W>(1 / all.divisor), all.weight, top + log_sum);
      slope.along(row, dlogits + begin);
    }
    if (row.first()) lse[which] = top + log_sum;
    if (labels.ignored(which)) return 0;
    if (!labels.names_class(which)) return not_a_number<W>();
    const int64_t label = labels.label[which];
    return smoothing.keep * labels.weight_of(label) * (log_sum - (W(logits[begin + label]) - top)) +
           smoothing.even * spread;
  }

  // make(x) is the row at x.
  template <class Make>
  FASTDL_DEVICE_ONLY void take_all(int64_t team, const Whole<W>& all, const Make& make) const {
    double total = 0;
    for (int64_t which = team; which < labels.rows; which += teams) {
      const auto row = make(logits + which * labels.classes);
      const W cost = take(row, which, all);
      total += static_cast<double>(cost);
      if (partial == nullptr && row.first()) loss[which] = cost;
      if (partial != nullptr && row.first()) partial[team] = total;
    }
  }

  FASTDL_DEVICE_ONLY void finish(const Block& block) const {
    if (partial == nullptr) return;
    const double sum = block.sum_of(0, teams, [&](int64_t team) { return partial[team]; }), by = divisor(block);
    if (block.thread == 0) *loss = static_cast<W>(sum / by);
  }
};

template <class T, class Index, int kept>
struct WarpLosses : Losses<T, Index> {
  static constexpr int kBlocks = sizeof(Wide<T>) <= 4 ? 2 : 1;  // for 128 registers, or twice as many
  FASTDL_DEVICE_ONLY void operator()(const Block& block, const Whole<Wide<T>>& all) const {
    for (int warp = block.thread / kWarp; warp < kTeams; warp += block.threads / kWarp)
      if (const int64_t team = block.task * kTeams + warp; team < this->teams)
        this->take_all(team, all,
                       [&](const T* x) { return WarpRow<T, kept>(x, this->labels.classes, block.thread % kWarp); });
  }
};

template <class T, class Index>
struct BlockLosses : Losses<T, Index> {
  static constexpr int kBlocks = sizeof(Wide<T>) <= 4 ? 4 : 2;  // for the shared memory, and for the registers
  FASTDL_DEVICE_ONLY void operator()(const Block& block, const Whole<Wide<T>>& all) const {
    constexpr int64_t kMost = kRowBytes / static_cast<int64_t>(sizeof(T));
    FASTDL_SHARED(T, kept, [kMost]);  // each thread reads what it wrote
    this->take_all(block.task, all, [&](const T* x) {
      BlockRow<T, kThreads> row{x, block, this->labels.classes};
      if (row.n > kMost) return row;
      row.each([&](int64_t i, Wide<T> u) { kept[i] = static_cast<T>(u); });
      row.x = kept;
      return row;
    });
  }
};

// `whole` from the parts of many labels.
template <class W, class Index>
struct FindWhole : Unprepared {
  static constexpr int kBlocks = 4;  // as many as the smallest processors hold
  Labels<W, Index> labels;
  bool mean;
  double* partial;
  Whole<W>* whole;

  FASTDL_DEVICE_ONLY void operator()(const Block& block, int) const {
    const int64_t begin = block.task * kLabelsOfTask;
    const double part = labels.divisor(block, begin, min_of(labels.rows, begin + kLabelsOfTask));
    if (block.thread == 0) partial[block.task] = part;
  }
  FASTDL_DEVICE_ONLY void finish(const Block& block) const {
    const int64_t parts = mean ? parts_of(labels.rows) : 0;
    const double sum = block.sum_of(0, parts, [&](int64_t i) { return partial[i]; });
    const W weight = labels.total_weight(block);
    if (block.thread == 0) *whole = {mean ? sum : 1, weight};
  }
};

template <class W, class Index>
Whole<W>* find_whole(const Labels<W, Index>& labels, bool mean, double* partial, Whole<W>* whole) {
  for_tasks_finished(mean ? parts_of(labels.rows) : 0, FindWhole<W, Index>{{}, labels, mean, partial, whole});
  return whole;
}

template <class T, class Index>
struct RowGradient {
  using W = Wide<T>;
  const W *dloss, *lse;
  const T* logits;
  Labels<W, Index> labels;
  Smoothing<W> smoothing;
  bool each;
  const Whole<W>* whole;
  T* dlogits;

  FASTDL_DEVICE_ONLY void operator()(const Line& line) const {
    const int64_t row = line.block.task;
    const W by = each ? dloss[row] : static_cast<W>(static_cast<double>(dloss[0]) / whole->divisor);
    const Slope<W, Index> slope(labels, smoothing, row, by, whole->weight, lse[row]);
    slope.along(BlockRow<T, 0>{logits + line.start, line.block, line.n}, dlogits + line.start);
  }
};

// f(T{}, labels) with the types of the logits and of the labels.
template <class F>
void with_labels(const View& logits, const View& target, const View& weight, int64_t ignore_index, const F& f) {
  with_any_float(logits.dtype, [&](auto type) {
    with_index(target.dtype, [&](auto index_type) {
      using W = Wide<decltype(type)>;
      using Index = decltype(index_type);
      f(type, Labels<W, Index>{target.as<Index>(), weight ? weight.as<W>() : nullptr, logits.shape[0], logits.shape[1],
                               ignore_index});
    });
  });
}

template <class T, class Index>
void take_losses(const Losses<T, Index>& losses) {
  const int64_t classes = losses.labels.classes;
  if (classes <= kWarp)
    for_tasks_finished(ceil_div(losses.teams, kTeams), WarpLosses<T, Index, 1>{losses});
  else if (classes <= kKept<Wide<T>> * kWarp)
    for_tasks_finished(ceil_div(losses.teams, kTeams), WarpLosses<T, Index, kKept<Wide<T>>>{losses});
  else
    for_tasks_finished(losses.teams, BlockLosses<T, Index>{losses});
}

}  // namespace

void cross_entropy_forward(View logits, View target, View weight, CrossEntropyAttrs attrs, Out loss, Out lse,
                           Out dlogits) {
  with_labels(logits, target, weight, attrs.ignore_index,
              [&]<class T, class W, class Index>(T, const Labels<W, Index>& labels) {
                const bool each = attrs.reduction == Reduction::none, mean = attrs.reduction == Reduction::mean;
                const int64_t teams = min_of(labels.rows, kMostTeams), parts = parts_of(labels.rows);
                double* const partial = workspace<double>(teams + parts + kWholeDoubles);
                Whole<W>* whole = nullptr;
                if (mean && labels.rows > kLabelsOfBlock)
                  whole =
                      find_whole(labels, mean, partial + teams, reinterpret_cast<Whole<W>*>(partial + teams + parts));
                take_losses(Losses<T, Index>{logits.as<T>(), labels, Smoothing<W>(attrs, labels.classes),
                                             attrs.reduction, teams, whole, lse.as<W>(), loss.as<W>(),
                                             each ? nullptr : partial, dlogits ? dlogits.as<T>() : nullptr});
              });
}

void cross_entropy_backward(View dloss, View logits, View target, View lse, View weight, CrossEntropyAttrs attrs,
                            Out dlogits) {
  with_labels(logits, target, weight, attrs.ignore_index,
              [&]<class T, class W, class Index>(T, const Labels<W, Index>& labels) {
                const int64_t parts = parts_of(labels.rows);
                double* const partial = workspace<double>(parts + kWholeDoubles);
                const Whole<W>* const whole = find_whole(labels, attrs.reduction == Reduction::mean, partial,
                                                         reinterpret_cast<Whole<W>*>(partial + parts));
                for_rows(labels.rows, labels.classes,
                         RowGradient<T, Index>{dloss.as<W>(), lse.as<W>(), logits.as<T>(), labels,
                                               Smoothing<W>(attrs, labels.classes), attrs.reduction == Reduction::none,
                                               whole, dlogits.as<T>()});
              });
}

FASTDL_REGISTER(cross_entropy_forward)
FASTDL_REGISTER(cross_entropy_backward)

}  // namespace fastdl::cuda::gpu
