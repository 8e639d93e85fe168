// Cross-entropy, forward in one kernel: a row is kept in registers or shared memory while its maximum, sum and, where
// it is wanted, gradient are taken, a warp to a short row, a block to a longer one; the block that is done last adds up
// the rows. Backward by itself makes the softmax again from the saved log-sum-exp, in one pass, after a kernel for what
// "mean" divides by.
//
// The host can't look at labels in a GPU's memory: one that names no class makes its row's loss and gradient NaN.
// Scratch: n doubles forward, two numbers backward. Arrays are of T, numbers beside them and what is computed of W.
#include "core/cross_entropy.h"

#include <cmath>

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
    label = is_class ? int64_t{of.label[row]} : -1;
    const W g = is_class ? by : not_a_number<W>(), weight = is_class ? of.weight_of(label) : W(1);
    own = g * s.keep * weight;
    even = g * s.even;
    factor = g * std::fma(s.keep, weight, s.even * total);
  }
  // Of a row, x in memory, to `to`. The label's is written last, over one that knows of no label, by the thread that
  // wrote that.
  template <class Row, class T>
  FASTDL_DEVICE_ONLY void along(const Row& row, const T* x, T* to) const {
    const auto share = [&](W x) { return Math<W>::exp_share(x - lse); };
    if (ignored) return row.each([&](int64_t i, W) { to[i] = static_cast<T>(W(0)); });
    if (smoothed)
      row.each(
          [&](int64_t i, W x) { to[i] = static_cast<T>(std::fma(share(x), factor, -(labels.weight_of(i) * even))); });
    else
      row.each([&](int64_t i, W x) { to[i] = static_cast<T>(share(x) * factor); });
    if (label >= 0 && row.mine(label))
      to[label] = static_cast<T>(std::fma(share(W(x[label])), factor, -std::fma(labels.weight_of(label), even, own)));
  }
};

#if defined(__CUDACC__)
constexpr int64_t kMostTeams = 32768;  // each adds up the losses of its rows
#else
constexpr int64_t kMostTeams = 40;
#endif
constexpr int64_t kLabelsOfBlock = 8192;  // labels that every block may count for itself
constexpr int64_t kLabelsOfTask = 16384;
constexpr int64_t kWholeDoubles = 2;  // that a Whole takes
FASTDL_BOTH int64_t parts_of(int64_t rows) { return ceil_div(rows, kLabelsOfTask); }

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
    const W log_sum = std::log(row.sum_of_values([&](W x) { return Math<W>::exp_share(x - top); }));
    const W spread = smoothing.even > 0
                         ? row.sum([&](int64_t i, W x) { return labels.weight_of(i) * (log_sum - (x - top)); })
                         : W(0);
    if (dlogits != nullptr) {
      const Slope<W, Index> slope(labels, smoothing, which, static_cast<W>(1 / all.divisor), all.weight, top + log_sum);
      slope.along(row, logits + begin, dlogits + begin);
    }
    if (row.first()) lse[which] = top + log_sum;
    if (labels.ignored(which)) return 0;
    if (!labels.names_class(which)) return not_a_number<W>();
    const int64_t label = labels.label[which];
    return smoothing.keep * labels.weight_of(label) * (log_sum - (W(logits[begin + label]) - top)) +
           smoothing.even * spread;
  }

  // make(x) is the row of x.
  template <class Make>
  FASTDL_DEVICE_ONLY void take_all(int64_t team, const Whole<W>& all, const Make& make) const {
    double total = 0;
    for (int64_t which = team; which < labels.rows; which += teams) {
      const auto row = make(Arrays<T, 1>{{logits + which * labels.classes}});
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
    const int64_t team = block.task * kTeams + block.thread / kWarp;
    if (team < this->teams)
      this->take_all(team, all,
                     [&](const auto& x) { return WarpRow<T, 1, kept>(x, this->labels.classes, block.thread); });
  }
};

template <class T, class Index>
struct BlockLosses : Losses<T, Index> {
  static constexpr int kBlocks = sizeof(Wide<T>) <= 4 ? 4 : 2;  // for the shared memory, and for the registers
  FASTDL_DEVICE_ONLY void operator()(const Block& block, const Whole<Wide<T>>& all) const {
    this->take_all(block.task, all, [&](const auto& x) { return keep_row(x, this->labels.classes, block); });
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
  using Element = T;
  static constexpr int kArrays = 1;
  static constexpr bool kOnce = true;
  const W *dloss, *lse;
  const T* logits;
  Labels<W, Index> labels;
  Smoothing<W> smoothing;
  bool each;
  const Whole<W>* whole;
  T* dlogits;

  FASTDL_DEVICE_ONLY Arrays<T, 1> arrays() const { return {{logits}}; }
  template <class Row>
  FASTDL_DEVICE_ONLY void operator()(const Row& row, int64_t number, int64_t start) const {
    const W by = each ? dloss[number] : static_cast<W>(static_cast<double>(dloss[0]) / whole->divisor);
    const Slope<W, Index> slope(labels, smoothing, number, by, whole->weight, lse[number]);
    slope.along(row, logits + start, dlogits + start);
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
  with_row_length<Wide<T>, 1>(losses.labels.classes, [&](auto kept) {
    if constexpr (kept.value > 0)
      for_tasks_finished(ceil_div(losses.teams, kTeams), WarpLosses<T, Index, kept.value>{losses});
    else
      for_tasks_finished(losses.teams, BlockLosses<T, Index>{losses});
  });
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
