// Vectors of one type from memory of another. Spelt out because GCC 12 takes __builtin_convertvector apart into halves
// or single lanes; with the mask form of AVX-512, whose plain intrinsics make it warn about its own header.
#pragma once
#include "cpu/simd.h"

namespace fastdl::cpu::FASTDL_ISA {

typedef std::int32_t Ints32 __attribute__((vector_size(kVecBytes)));
typedef std::int64_t Ints64 __attribute__((vector_size(kVecBytes)));

FASTDL_INLINE Vec<double> load_doubles(const double* p) { return load(p); }

#if FASTDL_ISA_LEVEL == 2

// As many floats as a vector has doubles.
FASTDL_INLINE Vec<double> load_doubles(const float* p) {
  return (Vec<double>)_mm512_maskz_cvtps_pd(0xff, _mm256_loadu_ps(p));
}
FASTDL_INLINE void store_floats(float* p, Vec<double> v) {
  _mm256_storeu_ps(p, _mm512_maskz_cvtpd_ps(0xff, (__m512d)v));
}
// One lane per byte: 0 where the byte is 0.
FASTDL_INLINE Ints32 load_bytes(const std::uint8_t* p, float) {
  return (Ints32)_mm512_maskz_cvtepu8_epi32(0xffff, _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
FASTDL_INLINE Ints64 load_bytes(const std::uint8_t* p, double) {
  return (Ints64)_mm512_maskz_cvtepu8_epi64(0xff, _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}

#elif FASTDL_ISA_LEVEL == 1

FASTDL_INLINE Vec<double> load_doubles(const float* p) { return (Vec<double>)_mm256_cvtps_pd(_mm_loadu_ps(p)); }
FASTDL_INLINE void store_floats(float* p, Vec<double> v) { _mm_storeu_ps(p, _mm256_cvtpd_ps((__m256d)v)); }
FASTDL_INLINE Ints32 load_bytes(const std::uint8_t* p, float) {
  return (Ints32)_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}
FASTDL_INLINE Ints64 load_bytes(const std::uint8_t* p, double) {
  int four;
  __builtin_memcpy(&four, p, sizeof four);
  return (Ints64)_mm256_cvtepu8_epi64(_mm_cvtsi32_si128(four));
}

#else

FASTDL_INLINE Vec<double> load_doubles(const float* p) {
  Vec<double> v{};
  for (int i = 0; i < kLanes<double>; ++i) v[i] = p[i];
  return v;
}
FASTDL_INLINE void store_floats(float* p, Vec<double> v) {
  for (int i = 0; i < kLanes<double>; ++i) p[i] = static_cast<float>(v[i]);
}
FASTDL_INLINE Ints32 load_bytes(const std::uint8_t* p, float) {
  Ints32 v{};
  for (int i = 0; i < kLanes<float>; ++i) v[i] = p[i];
  return v;
}
FASTDL_INLINE Ints64 load_bytes(const std::uint8_t* p, double) {
  Ints64 v{};
  for (int i = 0; i < kLanes<double>; ++i) v[i] = p[i];
  return v;
}

#endif

}  // namespace fastdl::cpu::FASTDL_ISA
