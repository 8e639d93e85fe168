// A convolution's operands for the product on tensor cores (tensor_product.h), on channels-last memory: pixels seen
// through taps, and the weight in the order of k. Where channels (filters) of a group are a multiple of a vector, a
// vector never leaves its tap. Few channels that are not, those of first layers, are gathered one by one: what lies in
// shared memory is a tile of the column matrix, whose rows zeros fill up to whole vectors.
#pragma once
#include "cuda/conv2d_windows.h"
#include "cuda/tensor_product.h"

namespace fastdl::cuda::gpu {

// x by output pixels, or dy by input pixels (`backward`: those of its pixels that saw this one): a line is a pixel, k
// runs over taps and channels.
template <class E, bool backward>
struct PixelLines {
  static constexpr bool k_near = true;
  const E* x;
  Shape s;
  int64_t pixels;

  struct Line {
    const E* image;  // null: none
    int down, right;
  };

  FASTDL_BOTH int64_t width() const { return backward ? s.filters : s.channels; }
  FASTDL_BOTH int64_t all() const { return backward ? s.all_filters : s.all_channels; }
  FASTDL_DEVICE_ONLY PixelLines of(int64_t group) const { return {x + group * width(), s, pixels}; }
  FASTDL_DEVICE_ONLY Line line(int64_t pixel) const {
    if (pixel >= pixels) return {nullptr, 0, 0};
    const int64_t columns = backward ? s.w : s.ow, rows = backward ? s.h : s.oh;
    const int64_t row = pixel / columns, image = row / rows;
    const int64_t down = row - image * rows, right = pixel - row * columns;
    if constexpr (backward)
      return {x + image * s.oh * s.ow * all(), static_cast<int>(down + s.padding[0]),
              static_cast<int>(right + s.padding[1])};
    else
      return {x + image * s.h * s.w * all(), static_cast<int>(down * s.stride[0] - s.padding[0]),
              static_cast<int>(right * s.stride[1] - s.padding[1])};
  }
  FASTDL_DEVICE_ONLY Pack<E, kVector<E>> vector(const Line& line, int64_t k) const {
    const auto zeros = filled<kVector<E>>(E(0));
    if (line.image == nullptr) return zeros;
    const int64_t tap = k / width(), i = tap / s.kernel_width, j = tap - i * s.kernel_width;
    int64_t row, column;
    if constexpr (backward) {
      const int64_t down = line.down - i * s.dilation[0], right = line.right - j * s.dilation[1];
      row = down / s.stride[0], column = right / s.stride[1];
      if (down < 0 || right < 0 || row >= s.oh || column >= s.ow || row * s.stride[0] != down ||
          column * s.stride[1] != right)
        return zeros;
    } else {
      row = line.down + i * s.dilation[0], column = line.right + j * s.dilation[1];
      if (row < 0 || row >= s.h || column < 0 || column >= s.w) return zeros;
    }
    const int64_t place = row * (backward ? s.ow : s.w) + column;
    return load_pack<kVector<E>>(line.image + place * all() + (k - tap * width()));
  }
};

// x by taps and channels, a vector of channels at a time; k runs over output pixels.
template <class E>
struct TapLines {
  static constexpr bool k_near = false;
  const E* x;
  Shape s;

  struct Line {
    int64_t channel;  // below 0: none
    int down, right;
  };

  FASTDL_DEVICE_ONLY TapLines of(int64_t group) const { return {x + group * s.channels, s}; }
  FASTDL_DEVICE_ONLY Line line(int64_t column) const {
    const int64_t tap = column / s.channels, i = tap / s.kernel_width, j = tap - i * s.kernel_width;
    if (tap >= s.taps()) return {-1, 0, 0};
    return {column - tap * s.channels, static_cast<int>(i * s.dilation[0] - s.padding[0]),
            static_cast<int>(j * s.dilation[1] - s.padding[1])};
  }
  FASTDL_DEVICE_ONLY Pack<E, kVector<E>> vector(const Line& line, int64_t pixel) const {
    if (line.channel < 0) return filled<kVector<E>>(E(0));
    const int64_t row = pixel / s.ow, image = row / s.oh;
    const int64_t y = (row - image * s.oh) * s.stride[0] + line.down,
                  z = (pixel - row * s.ow) * s.stride[1] + line.right;
    if (y < 0 || y >= s.h || z < 0 || z >= s.w) return filled<kVector<E>>(E(0));
    return load_pack<kVector<E>>(x + ((image * s.h + y) * s.w + z) * s.all_channels + line.channel);
  }
};

constexpr int64_t kMostGathered = 64;  // channels of a group, each with an entry per tap in the table

// The same two with channels that vectors can't read; a vector of k or of columns may be of several taps.
template <class E>
struct GatheredPixels {
  static constexpr bool k_near = true;
  Windows<E> windows;
  int64_t pixels;
  using Line = typename Windows<E>::Place;

  FASTDL_DEVICE_ONLY GatheredPixels of(int64_t group) const { return {windows.of(group), pixels}; }
  FASTDL_DEVICE_ONLY Line line(int64_t pixel) const {
    return pixel < pixels ? windows.place(pixel) : windows.nowhere();
  }
  FASTDL_DEVICE_ONLY Pack<E, kVector<E>> vector(const Line& line, int64_t k) const {
    return windows.template gather<kVector<E>>(line, windows.taps + k);
  }
};

template <class E>
struct GatheredTaps {
  static constexpr bool k_near = false;
  Windows<E> windows;
  int64_t count;  // of columns in the table
  struct Line {
    const Tap* taps;  // null: none
  };

  FASTDL_DEVICE_ONLY GatheredTaps of(int64_t group) const { return {windows.of(group), count}; }
  FASTDL_DEVICE_ONLY Line line(int64_t column) const { return {column < count ? windows.taps + column : nullptr}; }
  FASTDL_DEVICE_ONLY Pack<E, kVector<E>> vector(const Line& line, int64_t pixel) const {
    if (line.taps == nullptr) return filled<kVector<E>>(E(0));
    return windows.template gather<kVector<E>>(windows.place(pixel), line.taps);
  }
};

// The weight as lines of filters by taps and channels, or (backward) of channels by taps and filters, with zeros up to
// `depth`.
template <class E, bool backward>
struct OrderWeight {
  const E* weight;
  Shape s;
  int64_t depth;
  E* lines;

  FASTDL_DEVICE_ONLY void operator()(int64_t at) const {
    const int64_t near = backward ? s.filters : s.channels;
    const int64_t line = at / depth, tap = (at - line * depth) / near, place = at - line * depth - tap * near;
    const int64_t group = line / (backward ? s.channels : s.filters);
    const int64_t of_group = line - group * (backward ? s.channels : s.filters);
    const int64_t filter = backward ? place : of_group, channel = backward ? of_group : place;
    lines[at] = tap < s.taps() ? weight[s.weight_at(group * s.filters + filter, tap, channel)] : E(0);
  }
};

// Pixels times the weight, both with k up to `depth`.
template <bool backward, class E, class Pixels, class Put>
void multiply_by_weight(const Pixels& x, const E* weight, int64_t groups, int64_t pixels, int64_t depth, const Shape& s,
                        const Put& put) {
  const int64_t across = backward ? s.channels : s.filters, elements = groups * across * depth;
  const TensorTiling<E> t(groups, pixels, across, depth);
  const int64_t sums = ceil_div(t.scratch(), 64) * 64;
  const bool ordered =
      !backward && (s.of_channel == 1 || s.channels == 1) && by_vectors(weight, s.taps() * s.channels, depth, depth);
  float* const memory = workspace<float>(sums + (ordered ? 0 : elements));
  E* const lines = reinterpret_cast<E*>(memory + sums);
  if (!ordered) for_each(elements, OrderWeight<E, backward>{weight, s, depth, lines});
  multiply_on_tensor_cores<E>(t, x, Lines<E, true>{ordered ? weight : lines, across, depth, across * depth}, put,
                              memory);
}

// The convolution (backward: its input gradient) on tensor cores; false where types or borders don't allow it.
template <bool backward, class E, class Put>
bool pixels_on_tensor_cores(const E* x, const E* weight, int64_t groups, int64_t pixels, const Shape& s,
                            const Put& put) {
  if constexpr (sizeof(E) <= 4) {
    if (!on_tensor_cores<E>()) return false;
    const int64_t near = backward ? s.filters : s.channels, depth = s.taps() * near;
    if (by_vectors(x, near, backward ? s.all_filters : s.all_channels, near)) {
      multiply_by_weight<backward>(PixelLines<E, backward>{x, s, pixels}, weight, groups, pixels, depth, s, put);
      return true;
    }
    if constexpr (!backward)
      if (s.channels <= kMostGathered) {
        const std::vector<Tap> taps = tap_table(s, s.channels, ceil_div(depth, kVector<E>) * kVector<E>);
        multiply_by_weight<false>(GatheredPixels<E>{Windows<E>(x, taps, s), pixels}, weight, groups, pixels,
                                  static_cast<int64_t>(taps.size()), s, put);
        return true;
      }
  }
  return false;
}

// The weight gradient likewise.
template <class E, class Put>
bool weights_on_tensor_cores(const E* dy, const E* x, int64_t groups, int64_t pixels, const Shape& s, const Put& put) {
  if constexpr (sizeof(E) <= 4) {
    if (!on_tensor_cores<E>() || !by_vectors(dy, s.filters, s.all_filters, s.filters)) return false;
    const int64_t columns = s.taps() * s.channels;
    const TensorTiling<E> t(groups, s.filters, columns, pixels);
    const Lines<E, false> left{dy, s.filters, s.all_filters, s.filters};
    if (by_vectors(x, s.channels, s.all_channels, s.channels)) {
      multiply_on_tensor_cores<E>(t, left, TapLines<E>{x, s}, put, workspace<float>(t.scratch()));
      return true;
    }
    if (s.channels <= kMostGathered) {
      const std::vector<Tap> taps = tap_table(s, s.channels, ceil_div(columns, kVector<E>) * kVector<E>);
      multiply_on_tensor_cores<E>(t, left, GatheredTaps<E>{Windows<E>(x, taps, s), static_cast<int64_t>(taps.size())},
                                  put, workspace<float>(t.scratch()));
      return true;
    }
  }
  return false;
}

}  // namespace fastdl::cuda::gpu
