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

}  // namespace fastdl::cpu::FASTDL_ISA
