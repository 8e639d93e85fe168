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
    constexpr int L = kLanes<T>;
    for (int64_t j = 0; j < W;) {
      if (W % L == 0 && kstep == 1 && j + L <= count) {
        const int64_t done = pack_squares<W>(dst + j, src + j * step, kc);
        for (int i = 0; i < L; ++i, ++j) pack_column<W>(dst + j, src + j * step, done, kc);
      } else if (j < count) {
        pack_column<W>(dst + j, src + j * step, 0, kc);
        ++j;
      } else {
        for (int64_t k = 0; k < kc; ++k) dst[k * W + j] = T(0);
        ++j;
      }
    }
  }

  // Row-major source, kLanes<T> columns: squares of vectors are transposed in registers. Returns the k's done.
  template <int W>
  FASTDL_INLINE int64_t pack_squares(T* dst, const T* src, int64_t kc) const {
    constexpr int L = kLanes<T>;
    int64_t k = 0;
    for (; k + L <= kc; k += L) {
      Vec<T> square[L];
      for (int i = 0; i < L; ++i) square[i] = load(src + i * step + k);
      transpose<T>(square);
      for (int i = 0; i < L; ++i) store(dst + (k + i) * W, square[i]);
    }
    return k;
  }

  template <int W>
  FASTDL_INLINE void pack_column(T* dst, const T* src, int64_t k, int64_t kc) const {
    for (; k < kc; ++k) dst[k * W] = src[k * kstep];
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
