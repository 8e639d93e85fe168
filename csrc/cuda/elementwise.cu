// Element-wise arithmetic with broadcasting: contiguous operands a pack per thread, others element by element.
#include "core/elementwise.h"

#include "core/activation_math.h"
#include "core/bfloat16.h"
#include "cuda/map.h"
#include "cuda/math.h"

namespace fastdl::cuda::gpu {

namespace {

// Element i of a nest, counted in its order: where each operand has it.
template <int operands>
struct Places {
  Nest nest;

  FASTDL_BOTH void find(int64_t i, int64_t (&at)[operands]) const {
    for (int j = 0; j < operands; ++j) at[j] = 0;
    for (int d = nest.ndim - 1; d >= 0; --d) {
      const int64_t rest = i / nest.shape[d], position = i - rest * nest.shape[d];
      for (int j = 0; j < operands; ++j) at[j] += position * nest.strides[j][d];
      i = rest;
    }
  }
};

int64_t size_of(const Nest& nest) {
  int64_t n = 1;
  for (int d = 0; d < nest.ndim; ++d) n *= nest.shape[d];
  return n;
}

bool all_contiguous(const Nest& nest, int operands) {
  bool all = nest.ndim == 1;
  for (int j = 0; j < operands; ++j) all = all && (nest.strides[j][0] == 1 || nest.shape[0] == 1);
  return all;
}

template <class Y, class A, class B, class F>
struct Binary {
  Places<3> places;
  Y* y;
  const A* a;
  const B* b;
  F f;
  FASTDL_DEVICE_ONLY void operator()(int64_t i) const {
    int64_t at[3];
    places.find(i, at);
    y[at[0]] = static_cast<Y>(f(wide(a[at[1]]), wide(b[at[2]])));
  }
};

template <class Y, class T, class F>
struct Unary {
  Places<2> places;
  Y* y;
  const T* x;
  F f;
  FASTDL_DEVICE_ONLY void operator()(int64_t i) const {
    int64_t at[2];
    places.find(i, at);
    y[at[0]] = static_cast<Y>(f(wide(x[at[1]])));
  }
};

template <class Y, class T, class F>
void apply(const Nest& nest, const View& y, const View& a, const View& b, const F& f) {
  const T *const left = a.as<T>(), *const right = b.as<T>();
  if (all_contiguous(nest, 3)) return map(size_of(nest), y.as<Y>(), f, left, right);
  for_each(size_of(nest), Binary<Y, T, T, F>{{nest}, y.as<Y>(), left, right, f});
}

template <class T, class F>
void apply(const Nest& nest, const View& y, const View& x, const F& f) {
  const T* const from = x.as<T>();
  if (all_contiguous(nest, 2)) return map(size_of(nest), y.as<T>(), f, from);
  for_each(size_of(nest), Unary<T, T, F>{{nest}, y.as<T>(), from, f});
}

template <BinaryOp op>
struct BinaryFormula {
  template <class T>
  FASTDL_BOTH auto operator()(T u, T v) const {
    if constexpr (op == BinaryOp::kAdd) return u + v;
    if constexpr (op == BinaryOp::kSubtract) return u - v;
    if constexpr (op == BinaryOp::kMultiply) return u * v;
    if constexpr (op == BinaryOp::kDivide) return u / v;
    if constexpr (op == BinaryOp::kPower) return power(u, v);
    if constexpr (op == BinaryOp::kMaximum) return u > v || u != u ? u : v;  // NaN wins, on either side
    if constexpr (op == BinaryOp::kMinimum) return u < v || u != u ? u : v;
    if constexpr (op == BinaryOp::kAddRelu) return activation::relu(u + v);
    if constexpr (op == BinaryOp::kEqual) return u == v;
    if constexpr (op == BinaryOp::kNotEqual) return u != v;
    if constexpr (op == BinaryOp::kLess) return u < v;
    if constexpr (op == BinaryOp::kLessEqual) return u <= v;
    if constexpr (op == BinaryOp::kGreater) return u > v;
    if constexpr (op == BinaryOp::kGreaterEqual) return u >= v;
  }

  // Whole and half exponents as on the CPU; floats by double, which rounds correctly in all but rare cases.
  template <class T>
  static FASTDL_BOTH T power(T base, T exponent) {
    if (exponent == 2) return base * base;
    if (exponent == 3) return base * base * base;
    if (exponent == T(0.5)) return Math<T>::root(base);
    if (exponent == -1) return 1 / base;
    return static_cast<T>(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
};

template <UnaryOp op>
struct UnaryFormula {
  template <class T>
  FASTDL_BOTH T operator()(T v) const {
    if constexpr (op == UnaryOp::kNegative) return -v;
    if constexpr (op == UnaryOp::kExp) return std::exp(v);
    if constexpr (op == UnaryOp::kLog) return std::log(v);
    if constexpr (op == UnaryOp::kSqrt) return Math<T>::root(v);
    if constexpr (op == UnaryOp::kAbsolute) return v < 0 ? -v : v + T(0);         // v + 0 turns -0 into 0
    if constexpr (op == UnaryOp::kSign) return v > 0 ? T(1) : v < 0 ? T(-1) : v;  // 0 and NaN as they are
  }
};

template <class T>
struct Clip {
  T low, high;
  FASTDL_BOTH T operator()(T v) const {
    v = low > v ? low : v;
    return high < v ? high : v;
  }
};

template <class T>
struct Where {
  Places<4> places;
  T* y;
  const bool* condition;
  const T *a, *b;
  FASTDL_DEVICE_ONLY void operator()(int64_t i) const {
    int64_t at[4];
    places.find(i, at);
    y[at[0]] = condition[at[1]] ? a[at[2]] : b[at[3]];
  }
};

template <class T>
struct Scale {  // the factor may lie in device memory
  Places<1> places;
  T* x;
  Number<double> factor;
  FASTDL_DEVICE_ONLY void operator()(int64_t i) const {
    int64_t at[1];
    places.find(i, at);
    x[at[0]] = static_cast<T>(wide(x[at[0]]) * static_cast<Wide<T>>(static_cast<double>(factor)));
  }
};

// A number in float32 beside an array of bfloat16.
template <class A, class B, class F>
void with_number(const Nest& nest, const View& y, const View& a, const View& b, const F& f) {
  for_each(size_of(nest), Binary<bfloat16, A, B, F>{{nest}, y.as<bfloat16>(), a.as<A>(), b.as<B>(), f});
}

template <BinaryOp op>
void binary_of(const Nest& nest, const View& y, const View& a, const View& b) {
  if constexpr (takes_numbers(op)) {
    const BinaryFormula<op> f{};
    if (a.dtype == DType::bf16 && b.dtype == DType::f32) return with_number<bfloat16, float>(nest, y, a, b, f);
    if (a.dtype == DType::f32 && b.dtype == DType::bf16) return with_number<float, bfloat16>(nest, y, a, b, f);
  }
  with_any_float(a.dtype, [&](auto type) {
    using T = decltype(type);
    using Y = std::conditional_t<(op >= BinaryOp::kEqual), bool, T>;
    apply<Y, T>(nest, y, a, b, BinaryFormula<op>{});
  });
}

template <UnaryOp op>
void unary_of(const Nest& nest, const View& y, const View& x) {
  with_any_float(x.dtype, [&](auto type) { apply<decltype(type)>(nest, y, x, UnaryFormula<op>{}); });
}

}  // namespace

void binary(BinaryOp op, const Nest& nest, Out y, View a, View b) {
  switch (op) {
#define FASTDL_CASE(name) \
  case BinaryOp::name:    \
    return binary_of<BinaryOp::name>(nest, y, a, b);
    FASTDL_CASE(kAdd)
    FASTDL_CASE(kSubtract)
    FASTDL_CASE(kMultiply)
    FASTDL_CASE(kDivide)
    FASTDL_CASE(kPower)
    FASTDL_CASE(kMaximum)
    FASTDL_CASE(kMinimum)
    FASTDL_CASE(kAddRelu)
    FASTDL_CASE(kEqual)
    FASTDL_CASE(kNotEqual)
    FASTDL_CASE(kLess)
    FASTDL_CASE(kLessEqual)
    FASTDL_CASE(kGreater)
    FASTDL_CASE(kGreaterEqual)
#undef FASTDL_CASE
  }
}

void unary(UnaryOp op, const Nest& nest, Out y, View x) {
  switch (op) {
#define FASTDL_CASE(name) \
  case UnaryOp::name:     \
    return unary_of<UnaryOp::name>(nest, y, x);
    FASTDL_CASE(kNegative)
    FASTDL_CASE(kExp)
    FASTDL_CASE(kLog)
    FASTDL_CASE(kSqrt)
    FASTDL_CASE(kAbsolute)
    FASTDL_CASE(kSign)
#undef FASTDL_CASE
  }
}

void clip(const ClipBounds& bounds, const Nest& nest, Out y, View x) {
  with_any_float(x.dtype, [&](auto type) {
    using T = decltype(type);
    using W = Wide<T>;
    const W most = static_cast<W>(__builtin_inf());
    apply<T>(nest, y, x,
             Clip<W>{bounds.has_low ? static_cast<W>(bounds.low) : -most,
                     bounds.has_high ? static_cast<W>(bounds.high) : most});
  });
}

void where(const Nest& nest, Out y, View condition, View a, View b) {
  with_any_float(a.dtype, [&](auto type) {
    using T = decltype(type);
    for_each(size_of(nest), Where<T>{{nest}, y.as<T>(), condition.as<bool>(), a.as<T>(), b.as<T>()});
  });
}

void scale(const Nest& nest, InOut x, Number<double> factor) {
  with_any_float(x.dtype, [&](auto type) {
    using T = decltype(type);
    for_each(size_of(nest), Scale<T>{{nest}, x.as<T>(), factor});
  });
}

FASTDL_REGISTER(binary)
FASTDL_REGISTER(unary)
FASTDL_REGISTER(clip)
FASTDL_REGISTER(where)
FASTDL_REGISTER(scale)

}  // namespace fastdl::cuda::gpu
