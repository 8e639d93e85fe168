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
    constexpr int64_t L = kLanes<T>;
    if constexpr (W % L != 0) {
      for (int64_t j = 0; j < W; ++j)
        for (int64_t k = 0; k < kc; ++k) dst[k * W + j] = j < count ? src[j * step + k * kstep] : T(0);
      return;
    }
    for (int64_t j = 0; j < W; j += L, dst += L, src += L * step) {
      const int64_t rows = max_of(0, min_of(L, count - j));
      const int64_t done = kstep == 1 && rows > 0 ? pack_squares<W>(dst, src, rows, kc) : 0;
      for (int64_t k = done; k < kc; ++k) {
        store(dst + k * W, Vec<T>{});
        for (int64_t i = 0; i < rows; ++i) dst[k * W + i] = src[i * step + k * kstep];
      }
    }
  }

  // Row-major source, kLanes<T> columns, zeros for those past `rows`: squares of vectors are transposed in registers.
  // Returns the k's done.
  template <int W>
  FASTDL_INLINE int64_t pack_squares(T* dst, const T* src, int64_t rows, int64_t kc) const {
    constexpr int L = kLanes<T>;
    int64_t k = 0;
    for (; k + L <= kc; k += L) {
      Vec<T> square[L];
      for (int i = 0; i < L; ++i) square[i] = i < rows ? load(src + i * step + k) : Vec<T>{};
      transpose<T>(square);
      for (int i = 0; i < L; ++i) store(dst + (k + i) * W, square[i]);
    }
    return k;
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
