// Cross-entropy: forward reads each row twice while it is in cache (maximum; exp and sum), a third time for label
// smoothing. Backward makes the softmax again from the saved log-sum-exp, in one pass, so no (n, c) array is kept.
#include "core/cross_entropy.h"

#include "cpu/rows.h"

namespace fastdl::cpu::FASTDL_ISA {

namespace {

template <class T>
constexpr double kCost = 10.0 / kLanes<T>;  // ns per logit

template <class T>
struct Options {
  const T* weight;  // or null
  int64_t classes;
  T keep, smooth;  // 1 - label_smoothing, label_smoothing / classes

  Options(View weight_, int64_t c, const CrossEntropyAttrs& attrs)
      : weight(weight_ ? weight_.as<T>() : nullptr),
        classes(c),
        keep(static_cast<T>(1 - attrs.label_smoothing)),
        smooth(static_cast<T>(attrs.label_smoothing / static_cast<double>(c))) {}

  FASTDL_INLINE T weight_of(int64_t label) const { return weight ? weight[label] : T{1}; }
  FASTDL_INLINE Vec<T> weights(int64_t i, int64_t count) const {
    return weight ? load_up_to(weight + i, count) : splat(T{1});
  }
};

// The loss of one row, from its maximum and log(sum exp(x - maximum)). Costs are log_sum - (x - max): lse - x would
// carry the rounding of a large lse.
template <class T>
FASTDL_INLINE T row_loss(const T* x, int64_t label, T top, T log_sum, const Options<T>& o) {
  T loss = o.keep * o.weight_of(label) * (log_sum - (x[label] - top));
  if (o.smooth > 0)
    loss += o.smooth * sum_of<T>(0, o.classes, [&](int64_t i, int64_t count) __attribute__((always_inline)) {
              return o.weights(i, count) * (log_sum - (load_up_to(x + i, count) - top));
            });
  return loss;
}

// The losses of `count` rows, at most a vector of them, whose logarithms are taken together; put(i, loss) gets each.
template <class T, class I, class Put>
FASTDL_INLINE void row_losses(const T* x, const I* label, int64_t ignore_index, int64_t count, const Options<T>& o,
                              T* lse, const Put& put) {
  T tops[kLanes<T>] = {}, sums[kLanes<T>] = {};
  for (int64_t i = 0; i < count; ++i) {
    const T* row = x + i * o.classes;
    const T top = tops[i] = max_of_row(row, o.classes);
    sums[i] = sum_of<T>(0, o.classes, [&](int64_t c, int64_t some) __attribute__((always_inline)) {
      return vmath::exp_negative<T>(load_up_to(row + c, some) - top);
    });
  }
  const Vec<T> log_sums = vmath::log<T>(load(sums));
  store_up_to(lse, load(tops) + log_sums, count);
  store(sums, log_sums);
  for (int64_t i = 0; i < count; ++i)
    put(i, label[i] == ignore_index ? T{0} : row_loss(x + i * o.classes, label[i], tops[i], sums[i], o));
}

template <class T>
FASTDL_INLINE void row_gradient(const T* x, int64_t label, T g, T total, T lse, const Options<T>& o, T* dx) {
  const T factor = g * (o.keep * o.weight_of(label) + o.smooth * total), even = g * o.smooth;
  for_vectors<T>(0, o.classes, [&](int64_t i, int64_t count) __attribute__((always_inline)) {
    Vec<T> d = vmath::exp_negative<T>(load_up_to(x + i, count) - lse) * factor;
    if (o.smooth > 0) d -= o.weights(i, count) * even;
    store_up_to(dx + i, d, count);
  });
  dx[label] -= g * o.keep * o.weight_of(label);
}

// What "mean" divides by: the weights of the labels that count, added in order.
template <class T, class I>
FASTDL_INLINE double divisor(const I* label, int64_t n, int64_t ignore_index, const Options<T>& o) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i)
    if (label[i] != ignore_index) sum += o.weight_of(label[i]);
  return sum;
}

}  // namespace

void cross_entropy_forward(View logits, View target, View weight, CrossEntropyAttrs attrs, Out loss, Out lse_) {
  const int64_t n = logits.shape[0], classes = logits.shape[1], group = rows_per_task(classes);
  with_float(logits.dtype, [&](auto type) {
    with_index(target.dtype, [&](auto index_type) {
      using T = decltype(type);
      const Options<T> o(weight, classes, attrs);
      const auto* label = target.as<decltype(index_type)>();
      const T* x = logits.as<T>();
      T* lse = lse_.as<T>();
      const bool reduced = attrs.reduction != Reduction::none;
      Scratch<double> scratch(reduced ? n : 0);
      double* rows = scratch;
      parallel_for(ceil_div(n, group), kCost<T> * static_cast<double>(group * classes), [&](int64_t task) {
        const int64_t end = min_of(n, (task + 1) * group);
        for (int64_t i = task * group; i < end; i += kLanes<T>)
          row_losses(x + i * classes, label + i, attrs.ignore_index, min_of(kLanes<T>, end - i), o, lse + i,
                     [&](int64_t r, T row) __attribute__((always_inline)) {
                       if (reduced)
                         rows[i + r] = row;
                       else
                         loss.as<T>()[i + r] = row;
                     });
      });
      if (!reduced) return;
      double sum = 0;
      for (int64_t i = 0; i < n; ++i) sum += rows[i];
      if (attrs.reduction == Reduction::mean) sum /= divisor<T>(label, n, attrs.ignore_index, o);
      *loss.as<T>() = static_cast<T>(sum);
    });
  });
}

void cross_entropy_backward(View dloss_, View logits, View target, View lse_, View weight, CrossEntropyAttrs attrs,
                            Out dlogits) {
  const int64_t n = logits.shape[0], classes = logits.shape[1], group = rows_per_task(classes);
  with_float(logits.dtype, [&](auto type) {
    with_index(target.dtype, [&](auto index_type) {
      using T = decltype(type);
      const Options<T> o(weight, classes, attrs);
      const auto* label = target.as<decltype(index_type)>();
      const T *x = logits.as<T>(), *lse = lse_.as<T>(), *dloss = dloss_.as<T>();
      T* dx = dlogits.as<T>();
      const T total = o.weight
                          ? sum_of<T>(0, classes,
                                      [&](int64_t i, int64_t count)
                                          __attribute__((always_inline)) { return load_up_to(o.weight + i, count); })
                          : static_cast<T>(classes);
      const bool each = attrs.reduction == Reduction::none;
      const double by = attrs.reduction == Reduction::mean ? divisor<T>(label, n, attrs.ignore_index, o) : 1;
      parallel_for(ceil_div(n, group), kCost<T> * static_cast<double>(group * classes), [&](int64_t task) {
        for (int64_t i = task * group; i < min_of(n, (task + 1) * group); ++i) {
          T* row = dx + i * classes;
          if (label[i] == attrs.ignore_index) {
            for (int64_t c = 0; c < classes; ++c) row[c] = 0;
            continue;
          }
          const T g = each ? dloss[i] : static_cast<T>(static_cast<double>(dloss[0]) / by);
          row_gradient<T>(x + i * classes, label[i], g, total, lse[i], o, row);
        }
      });
    });
  });
}

FASTDL_REGISTER(cross_entropy_forward)
FASTDL_REGISTER(cross_entropy_backward)

}  // namespace fastdl::cpu::FASTDL_ISA
