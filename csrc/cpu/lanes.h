// One text for vector and scalar code: a kernel written with Lanes<T, true> works on a vector of T, with Lanes<T,
// false> on one T, for the ends of rows and for rows shorter than a vector.
#pragma once
#include "cpu/simd.h"

namespace fastdl::cpu::FASTDL_ISA {

template <class T, bool kWide>
struct Lanes {
  static constexpr int64_t count = kLanes<T>;
  using Value = Vec<T>;
  static FASTDL_INLINE Value read(const T* p) { return load(p); }
  static FASTDL_INLINE void write(T* p, Value v) { store(p, v); }
  static FASTDL_INLINE Value all(T x) { return splat(x); }
};

template <class T>
struct Lanes<T, false> {
  static constexpr int64_t count = 1;
  using Value = T;
  static FASTDL_INLINE Value read(const T* p) { return *p; }
  static FASTDL_INLINE void write(T* p, Value v) { *p = v; }
  static FASTDL_INLINE Value all(T x) { return x; }
};

template <int kBytes>
struct IntOf;
template <>
struct IntOf<4> {
  using type = std::int32_t;
};
template <>
struct IntOf<8> {
  using type = int64_t;
};
template <class T>
using Int = typename IntOf<sizeof(T)>::type;

#if FASTDL_ISA_LEVEL > 0
typedef std::uint8_t Bytes4 __attribute__((vector_size(4)));
typedef std::uint8_t Bytes8 __attribute__((vector_size(8)));
typedef std::uint8_t Bytes16 __attribute__((vector_size(16)));

template <class Narrow>
FASTDL_INLINE __m128i low_bytes(Narrow v) {
  __m128i wide = _mm_setzero_si128();
  __builtin_memcpy(&wide, &v, sizeof v);
  return wide;
}
#endif
#if FASTDL_ISA_LEVEL == 1
FASTDL_INLINE Vec<std::int32_t> widen(Bytes8 v) { return Vec<std::int32_t>(_mm256_cvtepu8_epi32(low_bytes(v))); }
FASTDL_INLINE Vec<int64_t> widen(Bytes4 v) { return Vec<int64_t>(_mm256_cvtepu8_epi64(low_bytes(v))); }
#elif FASTDL_ISA_LEVEL == 2
FASTDL_INLINE Vec<std::int32_t> widen(Bytes16 v) {
  return Vec<std::int32_t>(_mm512_maskz_cvtepu8_epi32(0xffff, low_bytes(v)));
}
FASTDL_INLINE Vec<int64_t> widen(Bytes8 v) { return Vec<int64_t>(_mm512_maskz_cvtepu8_epi64(0xff, low_bytes(v))); }
#endif

// Lanes of T, and of the integer beside it that counts taps.
template <class T, bool kWide>
struct Marked : Lanes<T, true> {
  using Mark = Vec<Int<T>>;
  static FASTDL_INLINE Mark mark(int64_t tap) { return splat(static_cast<Int<T>>(tap)); }
  template <class O>
  static FASTDL_INLINE Mark read_mark(const O* p) {
    typedef O Narrow __attribute__((vector_size(kLanes<T> * sizeof(O))));
    Narrow v;
    __builtin_memcpy(&v, p, sizeof v);
#if FASTDL_ISA_LEVEL > 0  // GCC takes bytes apart one by one in __builtin_convertvector
    if constexpr (sizeof(O) == 1) return widen(v);
#endif
    return __builtin_convertvector(v, Mark);
  }
  template <class O>
  static FASTDL_INLINE void write_mark(O* p, Mark m) {
    typedef O Narrow __attribute__((vector_size(kLanes<T> * sizeof(O))));
    const Narrow v = __builtin_convertvector(m, Narrow);
    __builtin_memcpy(p, &v, sizeof v);
  }
  static FASTDL_INLINE bool any_nan(Vec<T> v) {
    const T sum = sum_lanes<T>(v);
    return sum != sum;
  }
};

template <class T>
struct Marked<T, false> : Lanes<T, false> {
  using Mark = Int<T>;
  static FASTDL_INLINE Mark mark(int64_t tap) { return static_cast<Mark>(tap); }
  template <class O>
  static FASTDL_INLINE Mark read_mark(const O* p) {
    return static_cast<Mark>(*p);
  }
  template <class O>
  static FASTDL_INLINE void write_mark(O* p, Mark m) {
    *p = static_cast<O>(m);
  }
  static FASTDL_INLINE bool any_nan(T v) { return v != v; }
};

}  // namespace fastdl::cpu::FASTDL_ISA
