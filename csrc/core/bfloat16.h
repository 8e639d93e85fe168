// bfloat16 in memory: the upper half of a float, rounded to nearest, ties to even; 8 bits of precision and the range of
// float. What computes with it converts to float first. Which NaN a NaN becomes is not said: GPUs from 8.0 on have an
// instruction for it all, and one NaN.
#pragma once
#include "core/view.h"

namespace fastdl {

struct bfloat16 {
  std::uint16_t bits;

  bfloat16() = default;
  template <class X>
  FASTDL_BOTH explicit bfloat16(X x) : bits(round(static_cast<float>(x))) {}
  FASTDL_BOTH operator float() const {
    const std::uint32_t word = std::uint32_t{bits} << 16;
    float x;
    __builtin_memcpy(&x, &word, sizeof x);
    return x;
  }

 private:
  FASTDL_BOTH static std::uint16_t round(float x) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    std::uint16_t half;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(half) : "f"(x));
    return half;
#else
    std::uint32_t word;
    __builtin_memcpy(&word, &x, sizeof x);
    const std::uint32_t nan = (word >> 16 & 0x8000) | 0x7fc0, rounded = (word + 0x7fff + (word >> 16 & 1)) >> 16;
    return static_cast<std::uint16_t>(x != x ? nan : rounded);
#endif
  }
};
static_assert(sizeof(bfloat16) == 2);

// What is computed in for arrays of T.
template <class T>
struct Arithmetic {
  using Type = T;
};
template <>
struct Arithmetic<bfloat16> {
  using Type = float;
};
template <class T>
using Wide = typename Arithmetic<T>::Type;
// The same of dtypes: that of the gradients of weights.
FASTDL_BOTH DType wide_dtype(DType dtype) { return dtype == DType::bf16 ? DType::f32 : dtype; }

template <class T>
FASTDL_BOTH Wide<T> wide(T x) {
  return x;
}

// with_float for kernels that take bfloat16 as it is.
template <class F>
FASTDL_INLINE void with_any_float(DType dtype, F&& f) {
  if (dtype == DType::bf16)
    f(bfloat16{});
  else
    with_float(dtype, f);
}

}  // namespace fastdl
