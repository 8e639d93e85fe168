// A correlation: the product that a convolution's forward pass and its input gradient share, and its weights as packed
// panels.
//
//   dst[pixel][g * width + j] = bias[g * width + j] + sum over taps s and k < depth of
//                               source[place(pixel) + offset[s]][g * depth + k] * weight(g, s, k, j), then ReLU
//
// or, of an input gradient, plus another array, then a ReLU's backward.
#pragma once
#include "cpu/conv/taps.h"
#include "cpu/gemm/pack.h"
#include "cpu/gemm/tile.h"

namespace fastdl::cpu::FASTDL_ISA {

template <class T>
struct Weights {  // element (g, tap, k, j) at p[g * group + k * k_step + j * column + tap]
  const T* p;
  int64_t group, k_step, column;
  int64_t taps, kernel_width;  // of the kernel; tap (i, j) is number i * kernel_width + j
};

template <class T>
struct Correlation {
  int64_t images, groups;
  int64_t depth, width;  // channels per group of source and destination
  Taps th, tw;
  const T* src;
  Weights<T> weights;
  const T* bias;
  bool relu;
  const T* addend;  // laid out like dst, or nullptr
  const T* gate;    // likewise: what a ReLU made of dst
  T* dst;
  int64_t dst_image, dst_row, dst_pixel;  // strides in elements

  // The place in an array laid out like dst (or nullptr) of what goes to `to`.
  FASTDL_INLINE const T* beside(const T* array, const T* to) const { return array ? array + (to - dst) : nullptr; }

  FASTDL_INLINE bool direct() const {  // neighbours in dst follow each other
    return dst_row == tw.outputs * dst_pixel && dst_image == th.outputs * dst_row;
  }
};

// packed[g][panel][tap][k][NR], taps in the order of th and tw, zeros past the last column. A column's taps stand side
// by side, in the forward pass also those of its k's: they are transposed a vector of columns at a time.
template <class T>
inline void pack_weights(const Correlation<T>& c, T* packed) {
  constexpr int64_t NR = TileSize<T>::cols, L = kLanes<T>;
  const Weights<T>& w = c.weights;
  const int64_t panels = ceil_div(c.width, NR), taps = c.th.count * c.tw.count, size = taps * c.depth * NR;
  Scratch<int64_t> memory(w.taps);
  int64_t* const place = memory;  // of each of the kernel's taps in th and tw, -1 where it is none of them
  for (int64_t tap = 0; tap < w.taps; ++tap) place[tap] = -1;
  for (int64_t s = 0; s < taps; ++s) place[c.th.tap[s / c.tw.count] * w.kernel_width + c.tw.tap[s % c.tw.count]] = s;
  const bool joined = w.k_step == w.taps && w.column != 1;
  parallel_for(c.groups * panels, static_cast<double>(size) / 4, [&](int64_t task) {
    for (int64_t half = 0; half < NR; half += L) {
      const int64_t first = task % panels * NR + half, lanes = max_of(0, min_of(L, c.width - first));
      const T* in = w.p + task / panels * w.group + (lanes > 0 ? first * w.column : 0);
      T* const out = packed + task * size + half;
      for (int64_t k0 = 0; k0 < (joined ? 1 : c.depth); ++k0, in += w.k_step) {
        int64_t k = k0, tap = 0;
        const auto put = [&](int64_t, Vec<T> v) __attribute__((always_inline)) {
          if (place[tap] >= 0) store(out + (place[tap] * c.depth + k) * NR, v);
          if (++tap == w.taps) tap = 0, ++k;
        };
        if (w.column == 1)
          put(0, load_part(in, lanes));
        else
          for_each_column(in, w.column, lanes, joined ? c.depth * w.taps : w.taps, put);
      }
    }
  });
}

}  // namespace fastdl::cpu::FASTDL_ISA
