// Cross-entropy: a block of threads per row. Forward reads a row twice (maximum; exp and sum), a third time for label
// smoothing; backward makes the softmax again from the saved log-sum-exp, in one pass. What "mean" divides by is added
// up on the device by one block, which is the last kernel forward and the first backward.
//
// The host can't look at labels in a GPU's memory: one that names no class makes its row's loss and gradient NaN.
// Scratch: n doubles forward, two numbers backward.
#include "core/cross_entropy.h"

#include <cmath>
#include <limits>

#include "cuda/math.h"
#include "cuda/rows.h"

namespace fastdl::cuda::gpu {

namespace {

template <class T, class Index>
struct Labels {
  const Index* label;
  const T* weight;  // or null
  int64_t rows, classes, ignore_index;

  FASTDL_DEVICE_ONLY bool ignored(int64_t row) const { return int64_t{label[row]} == ignore_index; }
  FASTDL_DEVICE_ONLY bool names_class(int64_t row) const { return label[row] >= 0 && int64_t{label[row]} < classes; }
  FASTDL_DEVICE_ONLY T weight_of(int64_t c) const { return weight != nullptr ? weight[c] : T(1); }
  // The weights of the labels that count, or how many there are: what "mean" divides by.
  FASTDL_DEVICE_ONLY double divisor(const Block& block) const {
    return block.sum_of(0, rows, [&](int64_t i) { return ignored(i) || !names_class(i) ? T(0) : weight_of(label[i]); });
  }
};

template <class T>
struct Smoothing {
  T keep, even;  // 1 - label_smoothing, label_smoothing / classes

  Smoothing(const CrossEntropyAttrs& attrs, int64_t classes)
      : keep(static_cast<T>(1 - attrs.label_smoothing)),
        even(static_cast<T>(attrs.label_smoothing / static_cast<double>(classes))) {}
};

// Costs are log_sum - (x - max): lse - x would carry the rounding of a large lse.
template <class T, class Index, class Loss>
struct RowLoss {
  const T* logits;
  Labels<T, Index> labels;
  Smoothing<T> smoothing;
  T* lse;
  Loss* loss;  // of each row

  FASTDL_DEVICE_ONLY void operator()(const Line& line) const {
    const T* const x = logits + line.start;
    const int64_t row = line.block.task;
    const T top = line.top(x);
    const T log_sum = std::log(line.sum([&](int64_t i) { return Math<T>::exp_negative(x[i] - top); }));
    const T spread =
        smoothing.even > 0 ? line.sum([&](int64_t i) { return labels.weight_of(i) * (log_sum - (x[i] - top)); }) : T(0);
    if (line.block.thread != 0) return;
    lse[row] = top + log_sum;
    T total = 0;
    if (!labels.ignored(row)) {
      const int64_t label = labels.label[row];
      total = labels.names_class(row)
                  ? smoothing.keep * labels.weight_of(label) * (log_sum - (x[label] - top)) + smoothing.even * spread
                  : not_a_number<T>();
    }
    loss[row] = static_cast<Loss>(total);
  }
};

template <class T, class Index>
struct FinishLoss {
  Labels<T, Index> labels;
  const double* rows;
  bool mean;
  T* loss;

  FASTDL_DEVICE_ONLY void operator()(const Block& block) const {
    double sum = block.sum_of(0, labels.rows, [&](int64_t i) { return rows[i]; });
    if (mean) sum /= labels.divisor(block);
    if (block.thread == 0) *loss = static_cast<T>(sum);
  }
};

// factors: what the loss of a row is multiplied with, unless each has its own; the sum of the classes' weights.
template <class T, class Index>
struct PrepareGradient {
  Labels<T, Index> labels;
  const T* dloss;
  Reduction reduction;
  T* factors;

  FASTDL_DEVICE_ONLY void operator()(const Block& block) const {
    const double by = reduction == Reduction::mean ? labels.divisor(block) : 1;
    const double total = block.sum_of(0, labels.classes, [&](int64_t c) { return labels.weight_of(c); });
    if (block.thread != 0) return;
    factors[0] = reduction == Reduction::none ? T(0) : static_cast<T>(static_cast<double>(dloss[0]) / by);
    factors[1] = static_cast<T>(total);
  }
};

template <class T, class Index>
struct RowGradient {
  const T *dloss, *logits, *lse, *factors;
  Labels<T, Index> labels;
  Smoothing<T> smoothing;
  bool each;
  T* dlogits;

  FASTDL_DEVICE_ONLY void operator()(const Line& line) const {
    const T* const x = logits + line.start;
    T* const dx = dlogits + line.start;
    const int64_t row = line.block.task;
    if (labels.ignored(row)) {
      line.each([&](int64_t i) { dx[i] = 0; });
      return;
    }
    const bool is_class = labels.names_class(row);
    const int64_t label = is_class ? int64_t{labels.label[row]} : 0;
    const T g = is_class ? (each ? dloss[row] : factors[0]) : not_a_number<T>();
    const T own = g * smoothing.keep * labels.weight_of(label), even = g * smoothing.even;
    const T factor = g * (smoothing.keep * labels.weight_of(label) + smoothing.even * factors[1]), top = lse[row];
    line.each([&](int64_t i) {
      T d = Math<T>::exp_negative(x[i] - top) * factor;
      if (smoothing.even > 0) d -= labels.weight_of(i) * even;
      dx[i] = i == label ? d - own : d;
    });
  }
};

// f(labels) with the types of the logits and of the labels.
template <class F>
void with_labels(const View& logits, const View& target, const View& weight, int64_t ignore_index, const F& f) {
  with_float(logits.dtype, [&](auto type) {
    with_index(target.dtype, [&](auto index_type) {
      using T = decltype(type);
      using Index = decltype(index_type);
      f(Labels<T, Index>{target.as<Index>(), weight ? weight.as<T>() : nullptr, logits.shape[0], logits.shape[1],
                         ignore_index});
    });
  });
}

}  // namespace

void cross_entropy_forward(View logits, View target, View weight, CrossEntropyAttrs attrs, Out loss, Out lse) {
  with_labels(logits, target, weight, attrs.ignore_index, [&]<class T, class Index>(const Labels<T, Index>& labels) {
    const Smoothing<T> smoothing(attrs, labels.classes);
    const auto run = [&]<class Loss>(Loss* rows) {
      for_rows(labels.rows, labels.classes,
               RowLoss<T, Index, Loss>{logits.as<T>(), labels, smoothing, lse.as<T>(), rows});
    };
    if (attrs.reduction == Reduction::none) return run(loss.as<T>());
    double* const rows = workspace<double>(labels.rows);
    run(rows);
    for_tasks(1, kThreads, FinishLoss<T, Index>{labels, rows, attrs.reduction == Reduction::mean, loss.as<T>()});
  });
}

void cross_entropy_backward(View dloss, View logits, View target, View lse, View weight, CrossEntropyAttrs attrs,
                            Out dlogits) {
  with_labels(logits, target, weight, attrs.ignore_index, [&]<class T, class Index>(const Labels<T, Index>& labels) {
    T* const factors = workspace<T>(2);
    for_tasks(1, kThreads, PrepareGradient<T, Index>{labels, dloss.as<T>(), attrs.reduction, factors});
    for_rows(labels.rows, labels.classes,
             RowGradient<T, Index>{dloss.as<T>(), logits.as<T>(), lse.as<T>(), factors, labels,
                                   Smoothing<T>(attrs, labels.classes), attrs.reduction == Reduction::none,
                                   dlogits.as<T>()});
  });
}

FASTDL_REGISTER(cross_entropy_forward)
FASTDL_REGISTER(cross_entropy_backward)

}  // namespace fastdl::cuda::gpu
