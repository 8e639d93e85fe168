// Vectors of the instruction set this file is compiled for, as GCC/Clang vector types: + - * / and comparisons work on
// them directly, and a * b + c contracts to a fused multiply-add where there is one.
//
// Included only by csrc/cpu/*.cpp, which are compiled once per set with FASTDL_ISA (a namespace) and FASTDL_ISA_LEVEL.
// No std:: containers or algorithms in those files: a shared copy of a library template could be the AVX-512 one.
#pragma once
#include <cstdint>
#include <type_traits>
#include <utility>

#include "core/kernel.h"
#include "core/parallel.h"
#include "core/view.h"

#if FASTDL_ISA_LEVEL == 2 || FASTDL_ISA_LEVEL == 1 || defined(__SSE2__)
#include <immintrin.h>
#endif

namespace fastdl::cpu::FASTDL_ISA {

using std::int64_t;

constexpr int kVecBytes = FASTDL_ISA_LEVEL == 2 ? 64 : FASTDL_ISA_LEVEL == 1 ? 32 : 16;

template <class T>
struct VecOf {
  typedef T type __attribute__((vector_size(kVecBytes)));
  typedef T loose __attribute__((vector_size(kVecBytes), aligned(alignof(T)), may_alias));
};

template <class T>
using Vec = typename VecOf<T>::type;

template <class T>
constexpr int kLanes = kVecBytes / static_cast<int>(sizeof(T));

template <class T>
FASTDL_INLINE Vec<T> load(const T* p) {
  return *reinterpret_cast<const typename VecOf<T>::loose*>(p);
}

template <class T>
FASTDL_INLINE void store(T* p, Vec<T> v) {
  *reinterpret_cast<typename VecOf<T>::loose*>(p) = v;
}

template <class T>
FASTDL_INLINE Vec<T> splat(T x) {
  return x - Vec<T>{};  // x - 0 keeps every bit of x, x + 0 would turn -0 into 0
}

#if FASTDL_ISA_LEVEL == 2
FASTDL_INLINE unsigned lane_mask(int64_t count) { return (1u << count) - 1; }
#elif FASTDL_ISA_LEVEL == 1
FASTDL_INLINE __m256i lane_mask(int64_t count, float) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
FASTDL_INLINE __m256i lane_mask(int64_t count, double) {
  return _mm256_cmpgt_epi64(_mm256_set1_epi64x(count), _mm256_setr_epi64x(0, 1, 2, 3));
}
#endif

// The first `count` lanes from memory, zero in the rest; nothing past them is read. Masked where the set can: a memcpy
// of unknown length is a call, ten times as dear.
template <class T>
FASTDL_INLINE Vec<T> load_part(const T* p, int64_t count) {
#if FASTDL_ISA_LEVEL == 2
  if constexpr (std::is_same_v<T, float>)
    return (Vec<T>)_mm512_maskz_loadu_ps(static_cast<__mmask16>(lane_mask(count)), p);
  if constexpr (std::is_same_v<T, double>)
    return (Vec<T>)_mm512_maskz_loadu_pd(static_cast<__mmask8>(lane_mask(count)), p);
#elif FASTDL_ISA_LEVEL == 1
  if constexpr (std::is_same_v<T, float>) return (Vec<T>)_mm256_maskload_ps(p, lane_mask(count, T{}));
  if constexpr (std::is_same_v<T, double>) return (Vec<T>)_mm256_maskload_pd(p, lane_mask(count, T{}));
#endif
  Vec<T> v{};
  __builtin_memcpy(&v, p, static_cast<std::size_t>(count) * sizeof(T));
  return v;
}

template <class T>
FASTDL_INLINE void store_part(T* p, Vec<T> v, int64_t count) {
#if FASTDL_ISA_LEVEL == 2
  if constexpr (std::is_same_v<T, float>)
    return _mm512_mask_storeu_ps(p, static_cast<__mmask16>(lane_mask(count)), (__m512)v);
  if constexpr (std::is_same_v<T, double>)
    return _mm512_mask_storeu_pd(p, static_cast<__mmask8>(lane_mask(count)), (__m512d)v);
#elif FASTDL_ISA_LEVEL == 1
  // In halves: a masked store takes AMD's cores more than ten cycles.
  if (count >= kLanes<T>) return store(p, v);
  const int64_t bytes = count * static_cast<int64_t>(sizeof(T));
  __m128i rest = _mm256_castsi256_si128((__m256i)v);
  char* to = reinterpret_cast<char*>(p);
  if (bytes & 16) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), rest);
    rest = _mm256_extracti128_si256((__m256i)v, 1);
    to += 16;
  }
  if (bytes & 8) {
    _mm_storel_epi64(reinterpret_cast<__m128i*>(to), rest);
    rest = _mm_unpackhi_epi64(rest, rest);
    to += 8;
  }
  if (bytes & 4) {
    const int last = _mm_cvtsi128_si32(rest);
    __builtin_memcpy(to, &last, 4);
  }
  return;
#endif
  __builtin_memcpy(p, &v, static_cast<std::size_t>(count) * sizeof(T));
}

// b where one of them is NaN. GCC makes a comparison and a blend of the plain form with AVX-512.
template <class T>
FASTDL_INLINE Vec<T> maximum(Vec<T> a, Vec<T> b) {
#if FASTDL_ISA_LEVEL == 2
  if constexpr (std::is_same_v<T, float>) return (Vec<T>)_mm512_maskz_max_ps(0xffff, (__m512)a, (__m512)b);
  if constexpr (std::is_same_v<T, double>) return (Vec<T>)_mm512_maskz_max_pd(0xff, (__m512d)a, (__m512d)b);
#endif
  return a > b ? a : b;
}

template <class T>
FASTDL_INLINE Vec<T> minimum(Vec<T> a, Vec<T> b) {
#if FASTDL_ISA_LEVEL == 2
  if constexpr (std::is_same_v<T, float>) return (Vec<T>)_mm512_maskz_min_ps(0xffff, (__m512)a, (__m512)b);
  if constexpr (std::is_same_v<T, double>) return (Vec<T>)_mm512_maskz_min_pd(0xff, (__m512d)a, (__m512d)b);
#endif
  return a < b ? a : b;
}

FASTDL_INLINE float square_root(float x) { return __builtin_sqrtf(x); }
FASTDL_INLINE double square_root(double x) { return __builtin_sqrt(x); }
// With the mask spelt out, because the plain intrinsic makes GCC 12 warn about its own header.
#if FASTDL_ISA_LEVEL == 2
FASTDL_INLINE Vec<float> square_root(Vec<float> x) { return (Vec<float>)_mm512_maskz_sqrt_ps(0xffff, (__m512)x); }
FASTDL_INLINE Vec<double> square_root(Vec<double> x) { return (Vec<double>)_mm512_maskz_sqrt_pd(0xff, (__m512d)x); }
#elif FASTDL_ISA_LEVEL == 1
FASTDL_INLINE Vec<float> square_root(Vec<float> x) { return (Vec<float>)_mm256_sqrt_ps((__m256)x); }
FASTDL_INLINE Vec<double> square_root(Vec<double> x) { return (Vec<double>)_mm256_sqrt_pd((__m256d)x); }
#elif defined(__SSE2__)
FASTDL_INLINE Vec<float> square_root(Vec<float> x) { return (Vec<float>)_mm_sqrt_ps((__m128)x); }
FASTDL_INLINE Vec<double> square_root(Vec<double> x) { return (Vec<double>)_mm_sqrt_pd((__m128d)x); }
#else
FASTDL_INLINE Vec<float> square_root(Vec<float> x) {
  for (int i = 0; i < kLanes<float>; ++i) x[i] = square_root(x[i]);
  return x;
}
FASTDL_INLINE Vec<double> square_root(Vec<double> x) {
  for (int i = 0; i < kLanes<double>; ++i) x[i] = square_root(x[i]);
  return x;
}
#endif

// Sum of the lanes, halves first, so that the order is the same in every call.
template <class T>
FASTDL_INLINE T sum_lanes(Vec<T> v) {
  T lane[kLanes<T>];
  __builtin_memcpy(lane, &v, sizeof v);
  for (int half = kLanes<T> / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) lane[i] += lane[i + half];
  return lane[0];
}

// The two halves of a 2 x 2 block exchange between rows a and b: lanes with bit `kHalf` clear come from the first
// operand. Log2(lanes) rounds of it transpose a square of vectors.
template <class T, int kHalf, bool kSecond, int... I>
FASTDL_INLINE Vec<T> exchange(Vec<T> a, Vec<T> b, std::integer_sequence<int, I...>) {
  constexpr int L = kLanes<T>;
#if defined(__clang__) || __GNUC__ >= 12
  if constexpr (kSecond)
    return __builtin_shufflevector(a, b, ((I & kHalf) ? L + I : I + kHalf)...);
  else
    return __builtin_shufflevector(a, b, ((I & kHalf) ? L + I - kHalf : I)...);
#else
  typedef std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t> Lane;
  typedef Lane Mask __attribute__((vector_size(kVecBytes)));
  if constexpr (kSecond)
    return __builtin_shuffle(a, b, Mask{((I & kHalf) ? L + I : I + kHalf)...});
  else
    return __builtin_shuffle(a, b, Mask{((I & kHalf) ? L + I - kHalf : I)...});
#endif
}

template <class T, int kHalf>
FASTDL_INLINE void transpose_round(Vec<T> (&v)[kLanes<T>]) {
  constexpr int L = kLanes<T>;
  constexpr auto lanes = std::make_integer_sequence<int, L>{};
#pragma GCC unroll 16
  for (int i = 0; i < L; ++i) {
    if (i & kHalf) continue;
    const Vec<T> a = v[i], b = v[i + kHalf];
    v[i] = exchange<T, kHalf, false>(a, b, lanes);
    v[i + kHalf] = exchange<T, kHalf, true>(a, b, lanes);
  }
  if constexpr (kHalf > 1) transpose_round<T, kHalf / 2>(v);
}

// v[i][j] becomes v[j][i].
template <class T>
FASTDL_INLINE void transpose(Vec<T> (&v)[kLanes<T>]) {
  transpose_round<T, kLanes<T> / 2>(v);
}

// Calls put(e, v) for each e < count: v holds element e of `rows` rows, `stride` apart, and zeros in the other lanes.
// kRows: `rows` if known, which saves asking for each.
template <class T, int kRows = 0, class Put>
FASTDL_INLINE void for_each_column(const T* src, int64_t stride, int64_t rows, int64_t count, const Put& put) {
  constexpr int64_t L = kLanes<T>;
  if constexpr (kRows > 0) rows = kRows;
  int64_t e = 0;
  for (; e + L <= count; e += L) {
    Vec<T> square[L];
#pragma GCC unroll 16
    for (int64_t i = 0; i < L; ++i) square[i] = i < rows ? load(src + i * stride + e) : Vec<T>{};
    transpose<T>(square);
#pragma GCC unroll 16
    for (int64_t i = 0; i < L; ++i) put(e + i, square[i]);
  }
  if (e == count) return;
  Vec<T> square[L];
  for (int64_t i = 0; i < L; ++i) square[i] = i < rows ? load_part(src + i * stride + e, count - e) : Vec<T>{};
  transpose<T>(square);
  for (int64_t i = 0; i < count - e; ++i) put(e + i, square[i]);
}

FASTDL_INLINE int64_t min_of(int64_t a, int64_t b) { return a < b ? a : b; }
FASTDL_INLINE int64_t max_of(int64_t a, int64_t b) { return a > b ? a : b; }
FASTDL_INLINE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace fastdl::cpu::FASTDL_ISA
