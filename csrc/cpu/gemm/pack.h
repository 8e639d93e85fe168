// Packing: a block of an operand becomes panels [k][W], W values of the panel index side by side for each k, zeros in
// the columns past the end. W is a tile's row or column count.
#pragma once
#include "cpu/simd.h"

namespace fastdl::cpu::FASTDL_ISA {

// dst[k][W] = src[k * step .. + W) for k < count. Where W is not a whole number of vectors, each store runs over into
// what the next one writes: a copy of W elements exactly would take several.
template <int W, class T>
FASTDL_INLINE void copy_rows(T* dst, const T* src, int64_t step, int64_t count) {
  constexpr int64_t L = kLanes<T>;
  const int64_t over = W % L == 0 ? count : step >= W ? count - 1 : 0;  // they read over too, into the next row
  int64_t k = 0;
  for (; k < over; ++k, dst += W, src += step)
#pragma GCC unroll 4
    for (int64_t v = 0; v < W; v += L) store(dst + v, load(src + v));
  for (; k < count; ++k, dst += W, src += step) __builtin_memcpy(dst, src, W * sizeof(T));
}

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
    if (step == 1 && count == W) return copy_rows<W>(dst, src, kstep, kc);
    if (step == 1) {
      for (int64_t k = 0; k < kc; ++k)
        for (int64_t j = 0; j < W; ++j) dst[k * W + j] = j < count ? src[k * kstep + j] : T(0);
      return;
    }
    constexpr int64_t L = kLanes<T>;
    for (int64_t j = 0; j < W; j += L, src += L * step) {
      const int64_t rows = max_of(0, min_of(L, count - j)), width = min_of(L, W - j);
      const auto put = [&](int64_t k, Vec<T> v) __attribute__((always_inline)) {
        width == L ? store(dst + k * W + j, v) : store_part(dst + k * W + j, v, W % L);
      };
      if (kstep != 1)
        for (int64_t k = 0; k < kc; ++k)
          for (int64_t i = 0; i < width; ++i) dst[k * W + j + i] = i < rows ? src[i * step + k * kstep] : T(0);
      else if (rows == W % L)
        for_each_column<T, W % L>(src, step, rows, kc, put);
      else
        for_each_column(src, step, rows, kc, put);
    }
  }

  // Indices [first, first + count) as tiles [count / W][kc][W]; some k's at a time for all tiles, so that a source
  // whose k's are pages apart touches each page once.
  template <int W>
  FASTDL_INLINE void pack_tiles(T* dst, int64_t first, int64_t count, int64_t k0, int64_t kc) const {
    const int64_t some = kstep == 1 ? kc : 32;
    for (int64_t k = 0; k < kc; k += some)
      for (int64_t i = 0; i < count; i += W)
        pack<W>(dst + i * kc + k * W, first + i, min_of(W, count - i), k0 + k, min_of(some, kc - k));
  }

  // Fetches part `part` of `parts` of what pack<W> will read into the second-level cache, while a product runs.
  template <int W>
  FASTDL_INLINE void prefetch(int64_t first, int64_t count, int64_t k0, int64_t kc, int64_t part, int64_t parts) const {
    constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(T));
    const T* src = p + first * step + k0 * kstep;
    const int64_t across = step == 1 ? ceil_div(count, kLine) : count, along = step == 1 ? kc : ceil_div(kc, kLine);
    const int64_t far = step == 1 ? kstep : kLine, near = step == 1 ? kLine : step;
    for (int64_t k = along * part / parts; k < along * (part + 1) / parts; ++k)
      for (int64_t j = 0; j < across; ++j) __builtin_prefetch(src + k * far + j * near, 0, 2);
  }
};

}  // namespace fastdl::cpu::FASTDL_ISA
