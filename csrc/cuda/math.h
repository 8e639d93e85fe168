// Elementary functions of one element, in the form that the formulas of csrc/core ask for (M). On the device CUDA's own
// functions, at most 2 ulp off in float and in double; elsewhere the C library's.
#pragma once
#include <cmath>
#include <type_traits>

#include "core/view.h"

namespace fastdl::cuda::gpu {

template <class T>
struct Math {
  static FASTDL_BOTH T exp_negative(T x) { return std::exp(x); }
  // exp(x) for x <= 0 that is added to, or a share of, exp(0): the device's float takes three instructions instead of
  // nine and is at most 2 + |x| ulp off, and 0 below 2^-126.
  static FASTDL_BOTH T exp_share(T x) {
#if defined(__CUDA_ARCH__)
    if constexpr (std::is_same_v<T, float>) {
      float y;
      asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x * 1.4426950408889634f));
      return y;
    } else {
      return std::exp(x);
    }
#else
    return std::exp(x);
#endif
  }
  static FASTDL_BOTH T expm1_negative(T x) { return std::expm1(x); }
  static FASTDL_BOTH T tanh(T x) { return std::tanh(x); }
  static FASTDL_BOTH T sigmoid(T x) {
    const T e = std::exp(x < 0 ? x : -x), share = 1 / (1 + e);
    return x < 0 ? e * share : share;
  }
  static FASTDL_BOTH T softplus(T x) {  // log(1 + exp(x)) without overflow
    const T rest = std::log1p(std::exp(x < 0 ? x : -x));
    return x > 0 ? x + rest : rest + (x != x ? x : T(0));
  }
  // Phi(x), and bell = exp(-x^2 / 2).
  static FASTDL_BOTH T normal_cdf(T x, T& bell) {
    bell = std::exp(x * x * T(-0.5));
    return std::erfc(x * T(-0.7071067811865476)) * T(0.5);
  }
  static FASTDL_BOTH T root(T x) { return std::sqrt(x); }
};

}  // namespace fastdl::cuda::gpu
