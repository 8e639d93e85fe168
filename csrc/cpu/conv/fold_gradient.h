// Input gradient where a group has few input channels (the first layer of a network: 1 or 3), which would fill a
// fraction of a tile's columns: for a band of output rows the product with the weight gives each output pixel's
// contribution to all its taps and channels, and a fold adds them to the pixels of dx.
//
//   columns[pixel][c * taps + tap] = sum over o of dy[pixel][o] * weight[o][c][tap]
//   dx[pixel's tap][c]            += columns[pixel][c * taps + tap]
//
// One task per image, bands and taps in order: the same bits for any number of threads.
// Scratch per thread: a band's columns, about 128 K elements.
#pragma once
#include "cpu/conv/taps.h"
#include "cpu/gemm/engine.h"

namespace fastdl::cpu::FASTDL_ISA {

template <class T>
struct FoldGradient {
  Axis h, w;
  int64_t images, groups;
  int64_t depth, width;  // output and input channels per group
  const T* dy;
  const T* weight;
  T* dx;
};

template <class T>
inline void fold_band(const FoldGradient<T>& f, const T* columns, int64_t row0, int64_t row1, T* dx) {
  const int64_t channels = f.groups * f.width, taps = f.h.kernel * f.w.kernel, length = f.width * taps;
  for (int64_t i = 0; i < f.h.kernel; ++i)
    for (int64_t j = 0; j < f.w.kernel; ++j) {
      const int64_t down = i * f.h.dilation - f.h.padding, right = j * f.w.dilation - f.w.padding;
      const Range rows = outputs_inside(down, f.h.stride, f.h.input, row0, row1);
      const Range cols = outputs_inside(right, f.w.stride, f.w.input, 0, f.w.output);
      for (int64_t p = rows.first; p < rows.last; ++p) {
        const T* from = columns + ((p - row0) * f.w.output + cols.first) * length + i * f.w.kernel + j;
        T* to = dx + ((p * f.h.stride + down) * f.w.input + cols.first * f.w.stride + right) * channels;
        for (int64_t q = cols.first; q < cols.last; ++q, from += length, to += f.w.stride * channels)
          for (int64_t c = 0; c < f.width; ++c) to[c] += from[c * taps];
      }
    }
}

template <class T>
inline void fold_gradient(const FoldGradient<T>& f) {
  constexpr int64_t kColumns = 131072;
  const int64_t length = f.width * f.h.kernel * f.w.kernel, channels = f.groups * f.width;
  const int64_t filters = f.groups * f.depth, image = f.h.input * f.w.input * channels;
  const int64_t band = max_of(1, min_of(f.h.output, kColumns / max_of(1, f.w.output * length)));
  const double work = static_cast<double>(f.h.output * f.w.output) * static_cast<double>(filters * length) / 32;
  parallel_for(f.images, work + static_cast<double>(image), [&](int64_t n) {
    T* dx = f.dx + n * image;
    __builtin_memset(dx, 0, static_cast<std::size_t>(image) * sizeof(T));
    Scratch<T> columns(band * f.w.output * length);
    for (int64_t row = 0; row < f.h.output; row += band) {
      const int64_t rows = min_of(band, f.h.output - row);
      for (int64_t g = 0; g < f.groups; ++g) {
        const T* dy = f.dy + (n * f.h.output + row) * f.w.output * filters + g * f.depth;
        const T* weight = f.weight + g * f.depth * length;
        run_gemm(Gemm<T>{rows * f.w.output, length, f.depth, dy, filters, 1, weight, length, 1, columns, length});
        fold_band(f, columns.operator T*(), row, row + rows, dx + g * f.width);
      }
    }
  });
}

}  // namespace fastdl::cpu::FASTDL_ISA
