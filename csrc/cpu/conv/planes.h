// A block's source positions, channel by channel, for convolutions with few input channels (the first layer of a
// network: 1 or 3). A tap's values for neighbouring outputs stand side by side, so a tile takes each tap and channel as
// one k: k = taps * channels has no borders inside, and channels need not fill anything.
//
// Positions along a row are split by their remainder by the stride: planes [image][channel][remainder][row][w].
#pragma once
#include "cpu/conv/taps.h"

namespace fastdl::cpu::FASTDL_ISA {

template <class T>
struct Planes {
  const T* p;
  int64_t image, row;     // strides in elements, of images and of output rows
  const int64_t* offset;  // [taps * channels]: of tap s and channel c at s * channels + c, from an output's place
};

FASTDL_INLINE int64_t plane_width(const Taps& tw) { return tw.outputs + (tw.span() - 1) / tw.step; }

FASTDL_INLINE int64_t planes_size(const Blocking& b, const Taps& th, const Taps& tw, int64_t channels) {
  return b.images * channels * tw.step * th.reach(b.rows) * plane_width(tw);
}

// Is a block read as planes? Only with few channels, a stride that the taps span, and attributes of an ordinary size.
FASTDL_INLINE bool reads_planes(const Taps& th, const Taps& tw, int64_t groups, int64_t channels, int64_t width) {
  constexpr int64_t kChannels = 4, kSpan = 64;
  return groups == 1 && channels <= kChannels && width > 1 && th.count * tw.count > 1 && tw.outputs >= 4 &&
         tw.step <= tw.span() && th.span() <= kSpan && tw.span() <= kSpan && th.step <= kSpan;
}

// out[c * plane + x] = in[x * stride + c]. Three colours at once are whole loads and shuffles to the compiler, one at a
// time they are single elements.
template <class T>
FASTDL_INLINE void part_channels(const T* __restrict in, int64_t stride, int64_t channels, int64_t count,
                                 T* __restrict out, int64_t plane) {
  if (channels == 1 && stride == 1) {
    for (int64_t x = 0; x < count; ++x) out[x] = in[x];
  } else if (channels == 3 && stride == 3) {
    T* __restrict second = out + plane, * __restrict third = second + plane;
    for (int64_t x = 0; x < count; ++x) {
      out[x] = in[3 * x];
      second[x] = in[3 * x + 1];
      third[x] = in[3 * x + 2];
    }
  } else {
    for (int64_t c = 0; c < channels; ++c)
      for (int64_t x = 0; x < count; ++x) out[c * plane + x] = in[x * stride + c];
  }
}

template <class T>
inline Planes<T> make_planes(const T* src, int64_t channels, const Taps& th, const Taps& tw, const Block& block,
                             T* memory, int64_t* offset) {
  const int64_t top = block.row * th.step + th.first(), left = tw.first();
  const int64_t height = th.reach(block.rows), width = plane_width(tw), plane = height * width;
  const int64_t stride = tw.step * channels, apart = tw.step * plane;  // of channels in memory
  T* images = memory;
  for (int64_t image = block.image; image < block.image + block.images; ++image, images += channels * apart)
    for (int64_t phase = 0; phase < tw.step; ++phase) {
      const int64_t start = left + phase;  // of x = 0; inside the image for from <= x < until
      const int64_t from = min_of(width, start < 0 ? ceil_div(-start, tw.step) : 0);
      const int64_t until = max_of(from, min_of(width, tw.size > start ? ceil_div(tw.size - start, tw.step) : 0));
      T* out = images + phase * plane;
      for (int64_t r = top; r < top + height; ++r, out += width) {
        const bool outside = r < 0 || r >= th.size;
        const int64_t first = outside ? width : from, last = outside ? width : until;
        for (int64_t c = 0; c < channels; ++c) {
          for (int64_t x = 0; x < first; ++x) out[c * apart + x] = T(0);
          for (int64_t x = last; x < width; ++x) out[c * apart + x] = T(0);
        }
        if (first == last) continue;
        const T* const in = src + ((image * th.size + r) * tw.size + start) * channels + first * stride;
        part_channels(in, stride, channels, last - first, out + first, apart);
      }
    }
  for (int64_t i = 0; i < th.count; ++i)
    for (int64_t j = 0; j < tw.count; ++j)
      for (int64_t c = 0; c < channels; ++c) {
        const int64_t down = th.offset[i] - th.offset[0], right = tw.offset[j] - tw.offset[0];
        *offset++ = (c * tw.step + right % tw.step) * plane + down * width + right / tw.step;
      }
  return {memory, channels * tw.step * plane, th.step * width, offset - th.count * tw.count * channels};
}

}  // namespace fastdl::cpu::FASTDL_ISA
