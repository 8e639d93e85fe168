// Which source positions an output position reads, one axis at a time, and the zero-padded block they are read from.
//
// Convolution and its input gradient are both correlations: output t sums source[t * step + offset[s]] over taps s.
//   forward: source x, step = stride, tap i at i * dilation - padding
//   dx:      source dy, and one correlation per remainder r of the position by the stride: position h = r + t * stride
//            receives from output row t + (r + padding - i * dilation) / stride of those taps i that divide evenly
#pragma once
#include "cpu/simd.h"

namespace fastdl::cpu::FASTDL_ISA {

struct Taps {
  int64_t* tap;     // [count] kernel positions, in the order of their offsets
  int64_t* offset;  // [count] ascending
  int64_t count;
  int64_t outputs;  // output positions along this axis
  int64_t step;
  int64_t size;  // of the source along this axis

  FASTDL_INLINE int64_t first() const { return count ? offset[0] : 0; }
  FASTDL_INLINE int64_t span() const { return count ? offset[count - 1] - offset[0] + 1 : 1; }
  // Source positions, from first() on, that `n` outputs next to each other touch.
  FASTDL_INLINE int64_t reach(int64_t n) const { return (n - 1) * step + span(); }
  FASTDL_INLINE bool inside() const { return first() >= 0 && first() + reach(outputs) <= size; }
  FASTDL_INLINE bool consecutive() const { return span() == count; }
};

struct Range {  // [first, last)
  int64_t first, last;
  FASTDL_INLINE int64_t count() const { return last - first; }
};

// The taps that lie inside the source at output position t.
FASTDL_INLINE Range taps_inside(const Taps& taps, int64_t t) {
  Range range{0, taps.count};
  while (range.first < range.last && t * taps.step + taps.offset[range.first] < 0) ++range.first;
  while (range.last > range.first && t * taps.step + taps.offset[range.last - 1] >= taps.size) --range.last;
  return range;
}

// Output positions of [begin, end) at which a tap at `offset` lies inside a source of `size`.
FASTDL_INLINE Range outputs_inside(int64_t offset, int64_t step, int64_t size, int64_t begin, int64_t end) {
  const int64_t first = max_of(begin, offset >= 0 ? 0 : ceil_div(-offset, step));
  const int64_t last = min_of(end, size - offset <= 0 ? 0 : ceil_div(size - offset, step));
  return {first, max_of(first, last)};
}

// Taps inside, summed over the output positions of an axis.
FASTDL_INLINE int64_t taps_inside(const Taps& taps) {
  int64_t sum = 0;
  for (int64_t t = 0; t < taps.outputs; ++t) sum += taps_inside(taps, t).count();
  return sum;
}

// The share of the products that would be with zeros around the image.
FASTDL_INLINE double zeros_read(const Taps& th, const Taps& tw) {
  constexpr int64_t kTaps = 64, kOutputs = int64_t{1} << 16;  // of an axis: with more, counting takes too long
  if (th.count > kTaps || tw.count > kTaps || th.outputs > kOutputs || tw.outputs > kOutputs) return 0;
  const double all = static_cast<double>(th.count * th.outputs) * static_cast<double>(tw.count * tw.outputs);
  return all > 0 ? 1 - static_cast<double>(taps_inside(th)) * static_cast<double>(taps_inside(tw)) / all : 0;
}

struct Axis {  // of a convolution
  int64_t input, output, kernel, stride, padding, dilation;
};

FASTDL_INLINE Taps forward_taps(const Axis& axis, int64_t* memory) {  // memory [2 * kernel]
  Taps taps{memory, memory + axis.kernel, axis.kernel, axis.output, axis.stride, axis.input};
  for (int64_t i = 0; i < axis.kernel; ++i) {
    taps.tap[i] = i;
    taps.offset[i] = i * axis.dilation - axis.padding;
  }
  return taps;
}

FASTDL_INLINE Taps backward_taps(const Axis& axis, int64_t remainder, int64_t* memory) {
  Taps taps{memory, memory + axis.kernel, 0, ceil_div(axis.input - remainder, axis.stride), 1, axis.output};
  for (int64_t i = axis.kernel - 1; i >= 0; --i) {
    const int64_t distance = remainder + axis.padding - i * axis.dilation;
    if (distance % axis.stride != 0) continue;
    taps.tap[taps.count] = i;
    taps.offset[taps.count++] = distance / axis.stride;
  }
  return taps;
}

// A block of output pixels: whole images [image, image + images), or rows [row, row + rows) of one image.
struct Block {
  int64_t image, images, row, rows;
};

struct Blocking {
  int64_t images, rows;  // per block at most; rows < all only with one image
  int64_t bands;         // blocks per image
  int64_t count;         // blocks altogether
};

// Blocks of about `pixels` output pixels, cut by shape only.
FASTDL_INLINE Blocking cut_blocks(int64_t n, const Taps& th, const Taps& tw, int64_t channels, int64_t pixels) {
  constexpr int64_t kLargestBand = int64_t{1} << 22;  // elements; a single row may need more
  const int64_t image = th.outputs * tw.outputs;
  Blocking b{1, th.outputs, 1, n};
  if (image <= pixels) {
    b.images = max_of(1, min_of(n, pixels / max_of(image, 1)));
    b.count = ceil_div(n, b.images);
    return b;
  }
  b.rows = max_of(1, min_of(th.outputs, pixels / tw.outputs));
  while (b.rows > 1 && th.reach(b.rows) > kLargestBand / max_of(1, tw.reach(tw.outputs) * channels)) b.rows /= 2;
  b.rows = ceil_div(th.outputs, ceil_div(th.outputs, b.rows));  // even bands
  b.bands = ceil_div(th.outputs, b.rows);
  b.count = n * b.bands;
  return b;
}

FASTDL_INLINE Block block_at(const Blocking& b, int64_t n, int64_t outputs, int64_t index) {
  if (b.bands == 1) {
    const int64_t image = index * n / b.count;
    return {image, (index + 1) * n / b.count - image, 0, outputs};
  }
  const int64_t row = index % b.bands * b.rows;
  return {index / b.bands, 1, row, min_of(b.rows, outputs - row)};
}

// The source pixels that a block reads. Where all of them exist they are read in place; otherwise they are copied with
// zeros around, once for all taps and output channels, so that the inner loops know no borders.
template <class T>
struct Band {
  const T* p;                 // source position (first row of the block + th.first(), tw.first()) of its first image
  int64_t image, row, pixel;  // strides in elements
};

template <class T>
FASTDL_INLINE int64_t band_size(const Blocking& b, const Taps& th, const Taps& tw, int64_t channels) {
  if (th.inside() && tw.inside()) return 0;
  int64_t size = 0;
  const bool over = __builtin_mul_overflow(b.images * th.reach(b.rows), tw.reach(tw.outputs), &size) ||
                    __builtin_mul_overflow(size, channels, &size) || size > (int64_t{1} << 56);
  return over ? int64_t{1} << 56 : size;  // which no allocation can serve
}

template <class T>
inline Band<T> make_band(const T* src, int64_t channels, const Taps& th, const Taps& tw, const Block& block,
                         T* memory) {
  const int64_t top = block.row * th.step + th.first(), left = tw.first();
  if (th.inside() && tw.inside()) {
    const int64_t row = tw.size * channels;
    return {src + block.image * th.size * row + top * row + left * channels, th.size * row, row, channels};
  }
  const int64_t height = th.reach(block.rows), width = tw.reach(tw.outputs), row = width * channels;
  const int64_t from = min_of(max_of(-left, 0), width), until = max_of(from, min_of(width, tw.size - left));
  T* out = memory;
  for (int64_t image = block.image; image < block.image + block.images; ++image) {
    const T* in = src + image * th.size * tw.size * channels;
    for (int64_t r = top; r < top + height; ++r, out += row) {
      const bool outside = r < 0 || r >= th.size;
      const int64_t begin = outside ? width : from, end = outside ? width : until;
      __builtin_memset(out, 0, static_cast<std::size_t>(begin * channels) * sizeof(T));
      if (end > begin)
        __builtin_memcpy(out + begin * channels, in + (r * tw.size + left + begin) * channels,
                         static_cast<std::size_t>((end - begin) * channels) * sizeof(T));
      __builtin_memset(out + end * channels, 0, static_cast<std::size_t>((width - end) * channels) * sizeof(T));
    }
  }
  return {memory, height * row, row, channels};
}

// Runs of k: a tap's channels, or a whole row of the kernel where its taps stand side by side in memory.
struct Runs {
  int64_t* offset;  // [count], from a pixel's place in the band
  int64_t count;
  int64_t length;
};

template <class T>
FASTDL_INLINE Runs make_runs(const Band<T>& band, const Taps& th, const Taps& tw, int64_t depth, bool join,
                             int64_t* memory) {
  const bool joined = join && depth == band.pixel && tw.consecutive();
  Runs runs{memory, 0, joined ? depth * tw.count : depth};
  for (int64_t i = 0; i < th.count; ++i)
    for (int64_t j = 0; j < (joined ? 1 : tw.count); ++j)
      runs.offset[runs.count++] = (th.offset[i] - th.offset[0]) * band.row + (tw.offset[j] - tw.offset[0]) * band.pixel;
  return runs;
}

}  // namespace fastdl::cpu::FASTDL_ISA
