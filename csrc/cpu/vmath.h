// Elementary functions on vectors: exp, log, log1p on [0, 1], expm1 on (-inf, 0], tanh, sigmoid, softplus, and the
// normal distribution.
//
// Polynomials (Chebyshev fits; log after Sun's fdlibm) without tables or branches, so that every lane costs the same.
// Errors against long double, float and double, every instruction set: exp, log, log1p, expm1, softplus 2 ulp; tanh and
// sigmoid 3 ulp; normal_cdf 8 ulp (tests/kernels/test_vmath.py). Results that would be subnormal are zero; subnormal
// arguments count as zero, as everywhere in kernels. NaN gives NaN unless stated.
#pragma once
#include "cpu/simd.h"

namespace fastdl::cpu::FASTDL_ISA::vmath {

template <class T>
struct Math;

template <>
struct Math<float> {
  typedef std::int32_t Int;
  typedef std::uint32_t UInt;
  typedef Int Ints __attribute__((vector_size(kVecBytes)));
  typedef UInt UInts __attribute__((vector_size(kVecBytes)));
  static constexpr int kMantissa = 23, kBias = 127;
  static constexpr Int kSign = INT32_MIN, kOne = 0x3f800000, kSqrtHalf = 0x3f3504f3, kWholeBits = 0x4b000000;
  static constexpr Int kHighHalf = ~0xfff;      // a product of two numbers so masked is exact
  static constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to a whole number in the low bits
  static constexpr float kWhole = 8388608.0f;   // 2^23
  static constexpr float kExpLow = -87.33654f, kExpHigh = 88.72284f;  // results are normal and finite between them
  static constexpr float kExpZero = -88.0f;                           // n = -127: the exponent field is 0
  static constexpr float kExpm1Low = -20.0f;                          // exp of it is lost beside 1
  static constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  static constexpr float kExp[] = {1.392692661e-03f, 8.363773874e-03f, 4.166655011e-02f, 1.666657338e-01f, 0.5f};
  static constexpr float kLog[] = {0.24279078841f, 0.28498786688f, 0.40000972152f, 0.66666662693f};
  static constexpr float kTailCentre = 4.0f, kTailEnd = 14.0f;
  static constexpr float kTail[] = {-1.201844011e-04f, 2.012617303e-04f, 1.572317879e-03f,  -3.526183700e-03f,
                                    -7.529250703e-03f, 6.040668873e-02f, -1.865226849e-01f, 3.871366841e-01f,
                                    -6.078966183e-01f, 7.552851383e-01f};
};

template <>
struct Math<double> {
  typedef std::int64_t Int;
  typedef std::uint64_t UInt;
  typedef Int Ints __attribute__((vector_size(kVecBytes)));
  typedef UInt UInts __attribute__((vector_size(kVecBytes)));
  static constexpr int kMantissa = 52, kBias = 1023;
  static constexpr Int kSign = INT64_MIN, kOne = 0x3ff0000000000000, kSqrtHalf = 0x3fe6a09e667f3bcd,
                       kWholeBits = 0x4330000000000000;
  static constexpr Int kHighHalf = ~0x7ffffff;
  static constexpr double kRound = 6755399441055744.0;
  static constexpr double kWhole = 4503599627370496.0;
  static constexpr double kExpLow = -708.3964185322641, kExpHigh = 709.782712893384;
  static constexpr double kExpZero = -709.0;
  static constexpr double kExpm1Low = -40.0;
  static constexpr double kLn2High = 6.93145751953125e-1, kLn2Low = 1.42860682030941723212e-6;
  static constexpr double kExp[] = {2.51013469283503390e-08, 2.76213386691429246e-07, 2.75572664186123018e-06,
                                    2.48015186413959928e-05, 1.98412698643805132e-04, 1.38888889189391681e-03,
                                    8.33333333332979265e-03, 4.16666666666206387e-02, 1.66666666666666685e-01,
                                    5.00000000000000111e-01};
  static constexpr double kLog[] = {1.479819860511658591e-01, 1.531383769920937332e-01, 1.818357216161805012e-01,
                                    2.222219843214978396e-01, 2.857142874366239149e-01, 3.999999999940941908e-01,
                                    6.666666666666735130e-01};
  static constexpr double kTailCentre = 5.0, kTailEnd = 39.0;
  static constexpr double kTail[] = {
      -1.58774688274733645e-10, 1.75304840140823195e-09,  7.66307180076004027e-09,  -9.31356099432605938e-09,
      -6.59422166247722283e-08, 4.22749937400653460e-08,  4.33141035686258492e-07,  -3.36615368101247104e-07,
      -2.76926709599743007e-06, 3.98090215786804144e-06,  1.66812137420420625e-05,  -4.97628142705858022e-05,
      -5.93757280099158603e-05, 5.44899064773129841e-04,  -7.97869398466070131e-04, -2.99337677050854224e-03,
      2.07950667998831780e-02,  -6.91186387063101593e-02, 1.65020366170384708e-01,  -3.13533156671304547e-01,
      4.95305615969976409e-01,  -6.65382502890056737e-01, 7.69193049750062974e-01};
};

template <class T>
using Ints = typename Math<T>::Ints;
template <class T>
using UInts = typename Math<T>::UInts;

template <class T, int N>
FASTDL_INLINE Vec<T> polynomial(const T (&c)[N], Vec<T> x) {
  Vec<T> p = splat(c[0]);
#pragma GCC unroll 32
  for (int i = 1; i < N; ++i) p = p * x + c[i];
  return p;
}

template <class T>
FASTDL_INLINE Vec<T> absolute(Vec<T> x) {
  return (Vec<T>)((Ints<T>)x & ~Math<T>::kSign);
}

template <class T>
FASTDL_INLINE Vec<T> copy_sign(Vec<T> magnitude, Vec<T> sign) {
#if FASTDL_ISA_LEVEL == 2  // one instruction: bits of the first where the mask is 0, of the second where it is 1
  const __m512i mask = (__m512i)(Ints<T>{} + Math<T>::kSign);
  return (Vec<T>)_mm512_ternarylogic_epi64((__m512i)magnitude, (__m512i)sign, mask, 0xd8);
#else
  return (Vec<T>)(((Ints<T>)magnitude & ~Math<T>::kSign) | ((Ints<T>)sign & Math<T>::kSign));
#endif
}

// a / b for b of moderate size. With AVX-512 a division of 16 floats takes 16 cycles; an estimate and a correction of
// the quotient (2 cycles) are off by one unit in the last place at most.
template <class T>
FASTDL_INLINE Vec<T> divide(Vec<T> a, Vec<T> b) {
#if FASTDL_ISA_LEVEL == 2
  if constexpr (std::is_same_v<T, float>) {
    const Vec<T> inverse = (Vec<T>)_mm512_maskz_rcp14_ps(0xffff, (__m512)b), q = a * inverse;
    return q + inverse * (a - q * b);
  }
#endif
  return a / b;
}

// x = n ln 2 + r with n whole and |r| <= ln 2 / 2: the bits of n, shifted to the exponent, and exp(r) - 1.
template <class T>
FASTDL_INLINE Vec<T> reduce_exp(Vec<T> x, UInts<T>& shifted) {
  using M = Math<T>;
  const Vec<T> t = x * static_cast<T>(1.4426950408889634) + M::kRound;
  const Vec<T> n = t - M::kRound;
  Vec<T> r = x - n * M::kLn2High;
  r = r - n * M::kLn2Low;
  shifted = (UInts<T>)t << M::kMantissa;  // unsigned: lanes that the caller discards may wrap around
  return r + r * r * polynomial(M::kExp, r);
}

template <class T>
FASTDL_INLINE Vec<T> exp(Vec<T> x) {
  using M = Math<T>;
  UInts<T> shifted;
  const Vec<T> p = reduce_exp<T>(minimum<T>(maximum<T>(x, splat(M::kExpLow)), splat(M::kExpHigh)), shifted);
  Vec<T> y = (Vec<T>)((UInts<T>)(1 + p) + shifted);
  y = x > M::kExpHigh ? splat(static_cast<T>(__builtin_inf())) : y;
  y = x < M::kExpLow ? Vec<T>{} : y;
  return x == x ? y : x;
}

// exp(x) for x <= 0 (up to 88 it holds): a third of the work less. Zero from 0.7 above the smallest normal result down.
template <class T>
FASTDL_INLINE Vec<T> exp_negative(Vec<T> x) {
  using M = Math<T>;
  UInts<T> shifted;
  const Vec<T> p = reduce_exp<T>(maximum<T>(splat(M::kExpZero), x), shifted);  // in this order NaN stays NaN
  const Vec<T> scale = (Vec<T>)(shifted + static_cast<typename M::UInt>(M::kOne));
  return scale * (1 + p);  // not scale + scale * p: where the compiler does not fuse it, the product may be flushed
}

// exp(x) - 1 for x <= 0.
template <class T>
FASTDL_INLINE Vec<T> expm1_negative(Vec<T> x) {
  using M = Math<T>;
  UInts<T> shifted;
  const Vec<T> p = reduce_exp<T>(maximum<T>(splat(M::kExpm1Low), x), shifted);
  const Vec<T> scale = (Vec<T>)(shifted + static_cast<typename M::UInt>(M::kOne));
  return scale * p + (scale - 1);
}

// log(1 + f) + k ln 2 for sqrt(1/2) <= 1 + f < sqrt(2).
template <class T>
FASTDL_INLINE Vec<T> log_of_parts(Vec<T> f, Vec<T> k) {
  using M = Math<T>;
  const Vec<T> s = divide<T>(f, 2 + f), z = s * s, half = static_cast<T>(0.5) * f * f;
  const Vec<T> rest = s * (half + z * polynomial(M::kLog, z)) + k * M::kLn2Low;
  return k * M::kLn2High - ((half - rest) - f);
}

template <class T>
FASTDL_INLINE Vec<T> log(Vec<T> x) {
  using M = Math<T>;
  typedef UInts<T> U;
  const U bits = (U)x, bias = U{} + M::kBias;
  const U exponent = (bits - static_cast<typename M::UInt>(M::kSqrtHalf) + (bias << M::kMantissa)) >> M::kMantissa;
  const Vec<T> k = (Vec<T>)(exponent + static_cast<typename M::UInt>(M::kWholeBits)) - (M::kWhole + M::kBias);
  const Vec<T> m = (Vec<T>)(bits - ((exponent - bias) << M::kMantissa));
  Vec<T> y = log_of_parts<T>(m - 1, k);
  const Vec<T> infinity = splat(static_cast<T>(__builtin_inf()));
  y = x < infinity ? y : x;
  y = x > 0 ? y : splat(static_cast<T>(__builtin_nan("")));
  return x == 0 ? -infinity : y;
}

// log(1 + x) for 0 <= x <= 1.
template <class T>
FASTDL_INLINE Vec<T> log1p_unit(Vec<T> x) {
  const auto small = x < static_cast<T>(0.41421356);
  return log_of_parts<T>(small ? x : (x - 1) * static_cast<T>(0.5), small ? Vec<T>{} : splat(static_cast<T>(1)));
}

template <class T>
FASTDL_INLINE Vec<T> tanh(Vec<T> x) {
  const Vec<T> e = expm1_negative<T>(absolute<T>(x) * -2);
  return copy_sign<T>(divide<T>(e, e + 2), x);
}

template <class T>
FASTDL_INLINE Vec<T> sigmoid(Vec<T> x) {
  const Vec<T> e = exp_negative<T>(-absolute<T>(x));
  return divide<T>(x < 0 ? e : splat(static_cast<T>(1)), 1 + e);
}

// log(1 + exp(x))
template <class T>
FASTDL_INLINE Vec<T> softplus(Vec<T> x) {
  return (x < 0 ? Vec<T>{} : x) + log1p_unit<T>(exp_negative<T>(-absolute<T>(x)));
}

// The cumulative normal distribution, and exp(-x^2 / 2) of its density. NaN gives a number.
// For x < 0: exp(-x^2 / 2) * g((|x| - c) / (|x| + c)) / (|x| + c), which keeps its relative accuracy into the tail.
template <class T>
FASTDL_INLINE Vec<T> normal_cdf(Vec<T> x, Vec<T>& bell) {
  using M = Math<T>;
  const Vec<T> t = minimum<T>(absolute<T>(x), splat(M::kTailEnd));
  // t^2 as square + low, exact: one rounding of t^2 would show t^2 times as large in exp(-t^2 / 2).
  const Vec<T> high = (Vec<T>)((Ints<T>)t & M::kHighHalf), rest = t - high, square = t * t;
  const Vec<T> low = ((high * high - square) + 2 * high * rest) + rest * rest;
  bell = exp_negative<T>(square * static_cast<T>(-0.5)) * (1 - low * static_cast<T>(0.5));
  const Vec<T> inverse = divide<T>(splat(static_cast<T>(1)), t + M::kTailCentre);
  const Vec<T> tail = bell * inverse * polynomial(M::kTail, (t - M::kTailCentre) * inverse);
  return x > 0 ? 1 - tail : tail;
}

}  // namespace fastdl::cpu::FASTDL_ISA::vmath
