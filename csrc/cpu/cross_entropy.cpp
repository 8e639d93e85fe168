// Cross-entropy: forward reads each row twice while it is in cache (maximum; exp and sum), a third time for label
// smoothing. Backward makes the softmax again from the saved log-sum-exp, in one pass, so no (n, c) array is kept;
// forward does it right away where it is asked for the gradient.
// Of a few classes, where most lanes of a vector would be empty, forward takes a row per lane, and backward the rows of
// a group as one, with each row's numbers spread over its elements.
#include "core/cross_entropy.h"

#include "cpu/rows.h"

namespace fastdl::cpu::FASTDL_ISA {

namespace {

template <class T>
constexpr double kCost = 10.0 / kLanes<T>;  // ns per logit

template <class T>
struct Options {
  const T* weight;  // or null
  int64_t classes, ignore_index;
  T keep, smooth;  // 1 - label_smoothing, label_smoothing / classes

  Options(View weight_, int64_t c, const CrossEntropyAttrs& attrs)
      : weight(weight_ ? weight_.as<T>() : nullptr),
        classes(c),
        ignore_index(attrs.ignore_index),
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

constexpr int64_t kFewClasses = 32;

// The maxima of up to a vector of rows and their sums of exp(x - maximum).
template <class T>
FASTDL_INLINE void tops_and_sums(const T* x, int64_t classes, int64_t count, T* tops, T* sums) {
  if (classes > kFewClasses) {
    for (int64_t i = 0; i < count; ++i) {
      const T* row = x + i * classes;
      const T top = tops[i] = max_of_row(row, classes);
      sums[i] = sum_of<T>(0, classes, [&](int64_t c, int64_t some) __attribute__((always_inline)) {
        return vmath::exp_negative<T>(load_up_to(row + c, some) - top);
      });
    }
    return;
  }
  constexpr int64_t W = kLanes<T>;
  alignas(kVecBytes) T columns[kFewClasses * W];
  for (int64_t i = 0; i < W; ++i) {
    const T* row = x + (i < count ? i : 0) * classes;
    for (int64_t c = 0; c < classes; ++c) columns[c * W + i] = row[c];
  }
  Vec<T> top = load(columns), sum{};
  for (int64_t c = 1; c < classes; ++c) top = maximum<T>(load(columns + c * W), top);
  for (int64_t c = 0; c < classes; ++c) sum += vmath::exp_negative<T>(load(columns + c * W) - top);
  store(tops, top);
  store(sums, sum);
}

// The losses of `count` rows, at most a vector of them, whose logarithms are taken together; put(i, loss) gets each.
template <class T, class I, class Put>
FASTDL_INLINE void row_losses(const T* x, const I* label, int64_t count, const Options<T>& o, T* lse, const Put& put) {
  T tops[kLanes<T>] = {}, sums[kLanes<T>] = {};
  tops_and_sums(x, o.classes, count, tops, sums);
  const Vec<T> log_sums = vmath::log<T>(load(sums));
  store_up_to(lse, load(tops) + log_sums, count);
  store(sums, log_sums);
  for (int64_t i = 0; i < count; ++i)
    put(i, label[i] == o.ignore_index ? T{0} : row_loss(x + i * o.classes, label[i], tops[i], sums[i], o));
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

template <class T>
FASTDL_INLINE void clear(T* row, int64_t classes) {
  for (int64_t c = 0; c < classes; ++c) row[c] = 0;
}

// The gradients of up to a vector of rows of few classes without smoothing. g: of each row's loss, or of all (each).
template <class T, class I>
FASTDL_INLINE void few_gradients(const T* x, const I* label, int64_t count, const T* g, bool each, const T* lse,
                                 const Options<T>& o, T* dx) {
  constexpr int64_t W = kLanes<T>, kRoom = W * kFewClasses + W;
  T lses[kRoom], factors[kRoom], factor[W];
  for (int64_t r = 0; r < count; ++r) {
    factor[r] = label[r] == o.ignore_index ? T{0} : g[each ? r : 0] * (o.keep * o.weight_of(label[r]));
    for (int64_t c = 0; c < o.classes; c += W) {  // what goes beyond the row the next one overwrites
      store(lses + r * o.classes + c, splat(lse[r]));
      store(factors + r * o.classes + c, splat(factor[r]));
    }
  }
  const int64_t size = count * o.classes;
  store(lses + size, Vec<T>{});
  store(factors + size, Vec<T>{});
  for_vectors<T>(0, size, [&](int64_t i, int64_t some) __attribute__((always_inline)) {
    store_up_to(dx + i, vmath::exp_negative<T>(load_up_to(x + i, some) - load(lses + i)) * load(factors + i), some);
  });
  for (int64_t r = 0; r < count; ++r)
    if (label[r] == o.ignore_index)
      clear(dx + r * o.classes, o.classes);
    else
      dx[r * o.classes + label[r]] -= factor[r];
}

// What "mean" divides by: the weights of the labels that count, added in order.
template <class T, class I>
FASTDL_INLINE double divisor(const I* label, int64_t n, const Options<T>& o) {
  if (!o.weight) {
    int64_t count = 0;
    for (int64_t i = 0; i < n; ++i) count += label[i] != o.ignore_index;
    return static_cast<double>(count);
  }
  double sum = 0;
  for (int64_t i = 0; i < n; ++i)
    if (label[i] != o.ignore_index) sum += o.weight[label[i]];
  return sum;
}

// The gradients of up to a vector of rows. g: of each row's loss where `each`, or of all.
template <class T, class I>
struct Gradients {
  const Options<T>& o;
  const T* x;
  const I* label;
  const T *lse, *g;
  bool each;
  T* dx;
  T total;  // of the classes' weights

  Gradients(const Options<T>& options, View logits, View target, View lse_, const T* g_, bool each_, View dlogits)
      : o(options),
        x(logits.as<T>()),
        label(target.as<I>()),
        lse(lse_.as<T>()),
        g(g_),
        each(each_),
        dx(dlogits.as<T>()),
        total(o.weight ? sum_of<T>(0, o.classes,
                                   [&](int64_t i, int64_t count)
                                       __attribute__((always_inline)) { return load_up_to(o.weight + i, count); })
                       : static_cast<T>(o.classes)) {}

  FASTDL_INLINE void operator()(int64_t i, int64_t count) const {
    const int64_t classes = o.classes;
    if (classes <= kFewClasses && o.smooth == 0)
      return few_gradients(x + i * classes, label + i, count, g + (each ? i : 0), each, lse + i, o, dx + i * classes);
    for (int64_t r = i; r < i + count; ++r) {
      T* row = dx + r * classes;
      if (label[r] == o.ignore_index)
        clear(row, classes);
      else
        row_gradient<T>(x + r * classes, label[r], g[each ? r : 0], total, lse[r], o, row);
    }
  }
};

}  // namespace

void cross_entropy_forward(View logits, View target, View weight, CrossEntropyAttrs attrs, Out loss, Out lse_,
                           Out dlogits) {
  const int64_t n = logits.shape[0], classes = logits.shape[1], group = rows_per_task(classes);
  with_float(logits.dtype, [&](auto type) {
    with_index(target.dtype, [&](auto index_type) {
      using T = decltype(type);
      using I = decltype(index_type);
      const Options<T> o(weight, classes, attrs);
      const I* label = target.as<I>();
      const T* x = logits.as<T>();
      T* lse = lse_.as<T>();
      const bool reduced = attrs.reduction != Reduction::none;
      const double by = attrs.reduction == Reduction::mean ? divisor(label, n, o) : 1;
      const T one = static_cast<T>(1 / by);
      const Gradients<T, I> gradients(o, logits, target, lse_, &one, false, dlogits);
      Scratch<double> scratch(reduced ? n : 0);
      double* rows = scratch;
      const double cost = kCost<T> * static_cast<double>(group * classes) * (dlogits ? 2 : 1);
      parallel_for(ceil_div(n, group), cost, [&](int64_t task) {
        const int64_t end = min_of(n, (task + 1) * group);
        for (int64_t i = task * group; i < end; i += kLanes<T>) {
          const int64_t count = min_of(kLanes<T>, end - i);
          row_losses(x + i * classes, label + i, count, o, lse + i,
                     [&](int64_t r, T row) __attribute__((always_inline)) {
                       if (reduced)
                         rows[i + r] = row;
                       else
                         loss.as<T>()[i + r] = row;
                     });
          if (dlogits) gradients(i, count);
        }
      });
      if (!reduced) return;
      double sum = 0;
      for (int64_t i = 0; i < n; ++i) sum += rows[i];
      *loss.as<T>() = static_cast<T>(sum / by);
    });
  });
}

void cross_entropy_backward(View dloss_, View logits, View target, View lse, View weight, CrossEntropyAttrs attrs,
                            Out dlogits) {
  const int64_t n = logits.shape[0], classes = logits.shape[1], group = rows_per_task(classes);
  with_float(logits.dtype, [&](auto type) {
    with_index(target.dtype, [&](auto index_type) {
      using T = decltype(type);
      using I = decltype(index_type);
      const Options<T> o(weight, classes, attrs);
      const T* dloss = dloss_.as<T>();
      const bool each = attrs.reduction == Reduction::none;
      const double by = attrs.reduction == Reduction::mean ? divisor(target.as<I>(), n, o) : 1;
      const T all = each ? T{0} : static_cast<T>(static_cast<double>(dloss[0]) / by);
      const Gradients<T, I> gradients(o, logits, target, lse, each ? dloss : &all, each, dlogits);
      parallel_for(ceil_div(n, group), kCost<T> * static_cast<double>(group * classes), [&](int64_t task) {
        const int64_t end = min_of(n, (task + 1) * group);
        for (int64_t i = task * group; i < end; i += kLanes<T>) gradients(i, min_of(kLanes<T>, end - i));
      });
    });
  });
}

FASTDL_REGISTER(cross_entropy_forward)
FASTDL_REGISTER(cross_entropy_backward)

}  // namespace fastdl::cpu::FASTDL_ISA
