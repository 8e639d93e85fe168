// Element-wise loops: the innermost merged dimension is a row, rows are shared out among threads in blocks.
//
// Where every operand of a row is contiguous or one broadcast number, the loop is plain C++ that the compiler turns
// into vectors (arithmetic, comparisons, selection: exact per element, so the tail needs no care), or explicit vectors
// for exp and log. Bound by memory: 4 to 12 bytes per element and operand.
#include "core/elementwise.h"

#include "core/activation_math.h"
#include "cpu/convert.h"
#include "cpu/vmath.h"

namespace fastdl::cpu::FASTDL_ISA {

namespace {

constexpr int64_t kBlock = 8192;  // elements per task

// Calls row(n, offsets) for every row or piece of a row; offsets[j] are elements into operand j.
template <int operands, class Row>
FASTDL_INLINE void for_each_row(const Nest& nest, double cost, const Row& row) {
  const int inner = nest.ndim - 1;
  const int64_t n = nest.shape[inner];
  int64_t rows = 1;
  for (int d = 0; d < inner; ++d) rows *= nest.shape[d];
  const int64_t pieces = n > 2 * kBlock ? ceil_div(n, kBlock) : 1;
  const int64_t group = pieces > 1 ? 1 : max_of(1, kBlock / max_of(n, 1));
  const int64_t groups = ceil_div(rows, group);
  const double work = cost * static_cast<double>(pieces > 1 ? kBlock : min_of(group, rows) * n);
  parallel_for(groups * pieces, work, [&](int64_t task) {
    const int64_t first = task / pieces * group, last = min_of(rows, first + group);
    const int64_t begin = task % pieces * kBlock, length = pieces > 1 ? min_of(kBlock, n - begin) : n;
    int64_t position[kMaxDims], offsets[operands];
    for (int j = 0; j < operands; ++j) offsets[j] = begin * nest.strides[j][inner];
    int64_t rest = first;
    for (int d = inner - 1; d >= 0; --d) {
      position[d] = rest % nest.shape[d];
      rest /= nest.shape[d];
      for (int j = 0; j < operands; ++j) offsets[j] += position[d] * nest.strides[j][d];
    }
    for (int64_t r = first; r < last; ++r) {
      row(length, offsets);
      for (int d = inner - 1; d >= 0; --d) {  // the next row
        const bool wrap = ++position[d] == nest.shape[d];
        const int64_t steps = wrap ? 1 - nest.shape[d] : 1;
        for (int j = 0; j < operands; ++j) offsets[j] += steps * nest.strides[j][d];
        if (!wrap) break;
        position[d] = 0;
      }
    }
  });
}

// y[i] = f(a[i * sa], b[i * sb]) with the strides of the common cases known to the compiler. No dependence between
// iterations: y is one of the operands exactly or does not overlap them.
template <int sa, int sb, class Y, class T, class F>
FASTDL_INLINE void binary_row(int64_t n, Y* y, const T* a, const T* b, const F& f) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) y[i] = f(a[i * sa], b[i * sb]);
}

template <class Y, class T, class F>
void binary_loop(const Nest& nest, double cost, View y_, View a_, View b_, const F& f) {
  const int inner = nest.ndim - 1;
  const int64_t sy = nest.strides[0][inner], sa = nest.strides[1][inner], sb = nest.strides[2][inner];
  for_each_row<3>(nest, cost, [&](int64_t n, const int64_t* offsets) {
    Y* y = y_.as<Y>() + offsets[0];
    const T *a = a_.as<T>() + offsets[1], *b = b_.as<T>() + offsets[2];
    if (sy == 1 && sa == 1 && sb == 1)
      binary_row<1, 1>(n, y, a, b, f);
    else if (sy == 1 && sa == 1 && sb == 0)
      binary_row<1, 0>(n, y, a, b, f);
    else if (sy == 1 && sa == 0 && sb == 1)
      binary_row<0, 1>(n, y, a, b, f);
    else
      for (int64_t i = 0; i < n; ++i) y[i * sy] = f(a[i * sa], b[i * sb]);
  });
}

template <class Y, class T, class F>
void unary_loop(const Nest& nest, double cost, View y_, View x_, const F& f) {
  const int inner = nest.ndim - 1;
  const int64_t sy = nest.strides[0][inner], sx = nest.strides[1][inner];
  for_each_row<2>(nest, cost, [&](int64_t n, const int64_t* offsets) {
    Y* y = y_.as<Y>() + offsets[0];
    const T* x = x_.as<T>() + offsets[1];
    if (sy == 1 && sx == 1) {
#pragma GCC ivdep
      for (int64_t i = 0; i < n; ++i) y[i] = f(x[i]);
    } else {
      for (int64_t i = 0; i < n; ++i) y[i * sy] = f(x[i * sx]);
    }
  });
}

// f on vectors; strided rows go through a vector that is gathered element by element.
template <class T, class F>
void vector_loop(const Nest& nest, double cost, View y_, View x_, const F& f) {
  constexpr int64_t W = kLanes<T>;
  const int inner = nest.ndim - 1;
  const int64_t sy = nest.strides[0][inner], sx = nest.strides[1][inner];
  for_each_row<2>(nest, cost, [&](int64_t n, const int64_t* offsets) {
    T* y = y_.as<T>() + offsets[0];
    const T* x = x_.as<T>() + offsets[1];
    int64_t i = 0;
    if (sy == 1 && sx == 1) {
      for (; i + W <= n; i += W) store(y + i, f(load(x + i)));
      if (i < n) store_part(y + i, f(load_part(x + i, n - i)), n - i);
      return;
    }
    for (; i < n; i += W) {
      const int64_t count = min_of(W, n - i);
      Vec<T> v{};
      for (int64_t j = 0; j < count; ++j) v[j] = x[(i + j) * sx];
      v = f(v);
      for (int64_t j = 0; j < count; ++j) y[(i + j) * sy] = v[j];
    }
  });
}

// y[i] = c[i] ? a[i * sa] : b[i * sb] in explicit vectors: the compiler makes branches of it, and random conditions
// mispredict every other one.
template <int sa, int sb, class T>
FASTDL_INLINE void where_row(int64_t n, T* y, const std::uint8_t* c, const T* a, const T* b) {
  constexpr int64_t W = kLanes<T>;
  const Vec<T> one_a = splat(*a), one_b = splat(*b);
  int64_t i = 0;
  for (; i + W <= n; i += W) {
    const Vec<T> u = sa ? load(a + i) : one_a, v = sb ? load(b + i) : one_b;
    store(y + i, load_bytes(c + i, T{}) != 0 ? u : v);
  }
  for (; i < n; ++i) y[i] = c[i] ? a[i * sa] : b[i * sb];
}

FASTDL_INLINE Vec<double> all_of(double x) { return splat(x); }

// a ** b in double, which leaves a float result correctly rounded in all but rare cases: exp(b log |a|), then the sign
// for negative a (NaN unless b is whole) and the cases where a product of 0 and infinity has no value.
FASTDL_INLINE Vec<double> power_of(Vec<double> a, Vec<double> b) {
  typedef std::int64_t Ints __attribute__((vector_size(kVecBytes)));
  constexpr double kEven = 9007199254740992.0;  // 2^53: every double from here on is an even whole number
  constexpr double kRound = 6755399441055744.0;
  const Vec<double> size = vmath::absolute<double>(a), steps = vmath::absolute<double>(b);
  Vec<double> y = vmath::exp<double>(b * vmath::log<double>(size));
  y = ((b == 0) | (a == 1) | ((size == 1) & (steps == __builtin_inf()))) ? all_of(1) : y;
  // Adding kRound to |b| < 2^51 rounds it to a whole number that stands in the low bits; floats from 2^24 on are even.
  const Vec<double> shifted = (steps < kEven / 8 ? steps : Vec<double>{}) + kRound;
  const Ints whole = (shifted - kRound == steps) | (steps >= kEven / 8);
  const Ints odd = whole & (((Ints)shifted & 1) != 0);
  const Vec<double> negated = (Vec<double>)((Ints)y ^ (odd & ((Ints)a & INT64_MIN)));
  return ((a < 0) & ~whole & (size < __builtin_inf()) & (b != 0)) ? all_of(__builtin_nan("")) : negated;
}

// A vector of doubles from a row of floats; the lanes past `count` repeat the first.
FASTDL_INLINE Vec<double> take_doubles(const float* x, int64_t stride, int64_t count) {
  if (stride == 1 && count == kLanes<double>) return load_doubles(x);
  double lane[kLanes<double>];
  for (int64_t i = 0; i < kLanes<double>; ++i) lane[i] = x[i < count ? i * stride : 0];
  return load(lane);
}

void power_floats(const Nest& nest, View y_, View a_, View b_) {
  constexpr int64_t W = kLanes<double>;
  const int inner = nest.ndim - 1;
  const int64_t sy = nest.strides[0][inner], sa = nest.strides[1][inner], sb = nest.strides[2][inner];
  for_each_row<3>(nest, 2, [&](int64_t n, const int64_t* offsets) {
    float* y = y_.as<float>() + offsets[0];
    const float *a = a_.as<float>() + offsets[1], *b = b_.as<float>() + offsets[2];
    const Vec<double> exponent = all_of(*b);
    for (int64_t i = 0; i < n; i += W) {
      const int64_t count = min_of(W, n - i);
      const Vec<double> e = sb == 0 ? exponent : take_doubles(b + i * sb, sb, count);
      const Vec<double> v = power_of(take_doubles(a + i * sa, sa, count), e);
      if (sy == 1 && count == W)
        store_floats(y + i, v);
      else
        for (int64_t j = 0; j < count; ++j) y[(i + j) * sy] = static_cast<float>(v[j]);
    }
  });
}

// Small whole exponents, by far the most common use, are products. Doubles otherwise go through the C library, some
// 20 ns each: exp(b log a) in double would lose up to 10 bits.
template <class T>
void power(const Nest& nest, View y, View a, View b) {
  bool one_exponent = true;
  for (int d = 0; d < nest.ndim; ++d) one_exponent = one_exponent && (nest.strides[2][d] == 0 || nest.shape[d] == 1);
  const T e = one_exponent ? *b.as<T>() : T(0);
  if (e == 2)
    binary_loop<T, T>(nest, 0.2, y, a, b, [](T x, T) { return x * x; });
  else if (e == 3)
    binary_loop<T, T>(nest, 0.2, y, a, b, [](T x, T) { return x * x * x; });
  else if (e == T(0.5))  // as NumPy and PyTorch: differs from pow at -0 and -infinity
    binary_loop<T, T>(nest, 0.3, y, a, b, [](T x, T) { return square_root(x); });
  else if (e == -1)
    binary_loop<T, T>(nest, 0.3, y, a, b, [](T x, T) { return 1 / x; });
  else if constexpr (sizeof(T) == 4)
    power_floats(nest, y, a, b);
  else
    binary_loop<T, T>(nest, 20, y, a, b, [](T x, T exponent) { return __builtin_pow(x, exponent); });
}

}  // namespace

void binary(BinaryOp op, const Nest& nest, Out y, View a, View b) {
  constexpr double cost = 0.25;
  with_float(a.dtype, [&](auto type) {
    using T = decltype(type);
    const auto arithmetic = [&](const auto& f) { binary_loop<T, T>(nest, cost, y, a, b, f); };
    const auto comparison = [&](const auto& f) { binary_loop<bool, T>(nest, cost, y, a, b, f); };
    switch (op) {
      case BinaryOp::kAdd:
        return arithmetic([](T u, T v) { return u + v; });
      case BinaryOp::kSubtract:
        return arithmetic([](T u, T v) { return u - v; });
      case BinaryOp::kMultiply:
        return arithmetic([](T u, T v) { return u * v; });
      case BinaryOp::kDivide:
        return arithmetic([](T u, T v) { return u / v; });
      case BinaryOp::kPower:
        return power<T>(nest, y, a, b);
      case BinaryOp::kMaximum:  // the comparison is false where v is NaN, which then is the result
        return arithmetic([](T u, T v) { return u > v || u != u ? u : v; });
      case BinaryOp::kMinimum:
        return arithmetic([](T u, T v) { return u < v || u != u ? u : v; });
      case BinaryOp::kAddRelu:
        return arithmetic([](T u, T v) { return activation::relu(u + v); });
      case BinaryOp::kEqual:
        return comparison([](T u, T v) { return u == v; });
      case BinaryOp::kNotEqual:
        return comparison([](T u, T v) { return u != v; });
      case BinaryOp::kLess:
        return comparison([](T u, T v) { return u < v; });
      case BinaryOp::kLessEqual:
        return comparison([](T u, T v) { return u <= v; });
      case BinaryOp::kGreater:
        return comparison([](T u, T v) { return u > v; });
      case BinaryOp::kGreaterEqual:
        return comparison([](T u, T v) { return u >= v; });
    }
  });
}

void unary(UnaryOp op, const Nest& nest, Out y, View x) {
  constexpr double cost = 0.2;
  with_float(x.dtype, [&](auto type) {
    using T = decltype(type);
    const auto simple = [&](const auto& f) { unary_loop<T, T>(nest, cost, y, x, f); };
    switch (op) {
      case UnaryOp::kNegative:
        return simple([](T v) { return -v; });
      case UnaryOp::kExp:
        return vector_loop<T>(nest, 4 * cost, y, x, [](Vec<T> v) { return vmath::exp<T>(v); });
      case UnaryOp::kLog:
        return vector_loop<T>(nest, 6 * cost, y, x, [](Vec<T> v) { return vmath::log<T>(v); });
      case UnaryOp::kSqrt:
        return vector_loop<T>(nest, 2 * cost, y, x, [](Vec<T> v) { return square_root(v); });
      case UnaryOp::kAbsolute:
        return simple([](T v) { return v < 0 ? -v : v + T(0); });  // v + 0 turns -0 into 0
      case UnaryOp::kSign:
        return simple([](T v) { return v > 0 ? T(1) : v < 0 ? T(-1) : v; });  // 0 and NaN as they are
    }
  });
}

void clip(const ClipBounds& bounds, const Nest& nest, Out y, View x) {
  with_float(x.dtype, [&](auto type) {
    using T = decltype(type);
    const T low = bounds.has_low ? static_cast<T>(bounds.low) : -static_cast<T>(__builtin_inf());
    const T high = bounds.has_high ? static_cast<T>(bounds.high) : static_cast<T>(__builtin_inf());
    unary_loop<T, T>(nest, 0.2, y, x, [low, high](T v) {
      v = low > v ? low : v;  // the operands of max and min instructions, which return the second where one is NaN
      return high < v ? high : v;
    });
  });
}

void where(const Nest& nest, Out y_, View condition_, View a_, View b_) {
  const int inner = nest.ndim - 1;
  const int64_t sy = nest.strides[0][inner], sc = nest.strides[1][inner], sa = nest.strides[2][inner],
                sb = nest.strides[3][inner];
  with_float(a_.dtype, [&](auto type) {
    using T = decltype(type);
    for_each_row<4>(nest, 0.3, [&](int64_t n, const int64_t* offsets) {
      T* y = y_.as<T>() + offsets[0];
      const std::uint8_t* c = condition_.as<std::uint8_t>() + offsets[1];
      const T *a = a_.as<T>() + offsets[2], *b = b_.as<T>() + offsets[3];
      if (sy == 1 && sc == 1 && sa == 1 && sb == 1)
        where_row<1, 1>(n, y, c, a, b);
      else if (sy == 1 && sc == 1 && sa == 1 && sb == 0)
        where_row<1, 0>(n, y, c, a, b);
      else if (sy == 1 && sc == 1 && sa == 0 && sb == 1)
        where_row<0, 1>(n, y, c, a, b);
      else
        for (int64_t i = 0; i < n; ++i) y[i * sy] = c[i * sc] ? a[i * sa] : b[i * sb];
    });
  });
}

void scale(const Nest& nest, InOut x, Number<double> factor) {
  with_float(x.dtype, [&](auto type) {
    using T = decltype(type);
    const T f = static_cast<T>(static_cast<double>(factor));
    unary_loop<T, T>(nest, 0.2, x, x, [f](T v) { return v * f; });
  });
}

FASTDL_REGISTER(binary)
FASTDL_REGISTER(unary)
FASTDL_REGISTER(clip)
FASTDL_REGISTER(where)
FASTDL_REGISTER(scale)

}  // namespace fastdl::cpu::FASTDL_ISA
