// Packing: a block of an operand becomes panels [k][W], W values of the panel index side by side for each k, zeros in
// the columns past the end. W is a tile's row or column count.
#pragma once
#include "cpu/simd.h"

namespace fastdl::cpu::FASTDL_ISA {

// A plain operand: element (index, k) at p[index * step + k * kstep]. Either stride may be 1 (row-major, transposed).
template <class T>
struct PlainSource {
  const T* p;
  int64_t step;
  int64_t kstep;

  // dst[k][j] = element (first + j, k0 + k) for j < count, 0 for count <= j < W.
  template <int W>
  FASTDL_INLINE void pack(T* dst, int64_t first, int64_t count, int64_t k0, int64_t kc) const {
    const T* src = p + first * step + k0 * kstep;
    if (step == 1) {
      for (int64_t k = 0; k < kc; ++k) pack_row<W>(dst + k * W, src + k * kstep, count);
      return;
    }
    constexpr int64_t kBlock = 16;  // k's at a time: one cache line of each source row
    for (int64_t k = 0; k < kc; k += kBlock) {
      const int64_t length = min_of(kBlock, kc - k);
      for (int64_t j = 0; j < W; ++j) {
        T* out = dst + k * W + j;
        if (j >= count) {
          for (int64_t i = 0; i < length; ++i) out[i * W] = T(0);
        } else {
          const T* in = src + j * step + k * kstep;
          for (int64_t i = 0; i < length; ++i) out[i * W] = in[i * kstep];
        }
      }
    }
  }

  template <int W>
  static FASTDL_INLINE void pack_row(T* dst, const T* src, int64_t count) {
    if (count == W) {
      for (int j = 0; j < W; ++j) dst[j] = src[j];
      return;
    }
    for (int j = 0; j < W; ++j) dst[j] = j < count ? src[j] : T(0);
  }
};

}  // namespace fastdl::cpu::FASTDL_ISA
