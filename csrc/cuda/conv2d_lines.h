// A convolution's operands for the product on tensor cores (tensor_product.h), on channels-last memory: pixels seen
// through taps, and the weight in the order of k. Where channels (filters) of a group are a multiple of a vector, a
// vector never leaves its tap. Few channels that are not, those of first layers, are gathered one by one: what lies in
// shared memory is a tile of the column matrix, whose rows zeros fill up to whole vectors.
#pragma once
#include "cuda/conv2d_windows.h"
#include "cuda/tensor_product.h"

namespace fastdl::cuda::gpu {

// x by output pixels: a line is a pixel, k runs over taps and channels.
template <class E>
struct PixelLines {
  static constexpr bool k_near = true;
  Windows<E> windows;
  int64_t pixels;
  Odometer taps;
  using Line = typename Windows<E>::Place;
  struct Step {
    Odometer::Digits at;
    Tap tap;
  };

  PixelLines(const E* x, const Shape& s, int64_t count)
      : windows(x, static_cast<const Tap*>(nullptr), s), pixels(count), taps(s.kernel_width, s.channels, kChunk<E>) {}
  FASTDL_DEVICE_ONLY PixelLines of(int64_t group) const {
    PixelLines moved = *this;
    moved.windows = windows.of(group);
    return moved;
  }
  FASTDL_DEVICE_ONLY Line line(int64_t pixel) const {
    return pixel < pixels ? windows.place(pixel) : windows.nowhere();
  }
  FASTDL_DEVICE_ONLY Tap tap_of(const Odometer::Digits& at) const {
    return tap_at(windows.s, at.high, at.middle, at.low);
  }
  FASTDL_DEVICE_ONLY Step start(int64_t k) const {
    const Odometer::Digits at = taps.at(k);
    return {at, tap_of(at)};
  }
  FASTDL_DEVICE_ONLY void next(Step& step) const {
    taps.next(step.at);
    step.tap = tap_of(step.at);
  }
  FASTDL_DEVICE_ONLY const E* place(const Line& line, const Step& step) const {
    if (!windows.inside(line, step.tap)) return nullptr;
    return windows.x + line.at + step.tap.away;
  }
};

// dy by input pixels: a line is a pixel, k runs over taps and the filters of the output pixels that saw it through
// them.
template <class E>
struct SeenLines {
  static constexpr bool k_near = true;
  const E* dy;
  Shape s;
  int64_t pixels;
  Odometer taps;
  struct Line {
    const E* image;
    std::uint32_t down, right;  // as if there were as many rows and columns of dy before the first as there is padding
  };
  struct Step {
    Odometer::Digits at;
    std::uint32_t down, right;
  };

  SeenLines(const E* dy_, const Shape& s_, int64_t count)
      : dy(dy_), s(s_), pixels(count), taps(s_.kernel_width, s_.filters, kChunk<E>) {
    check_rows_and_columns(s);
  }
  FASTDL_DEVICE_ONLY SeenLines of(int64_t group) const {
    SeenLines moved = *this;
    moved.dy += group * s.filters;
    return moved;
  }
  FASTDL_DEVICE_ONLY Line line(int64_t pixel) const {
    const int64_t row = min_of(pixel, pixels - 1) / s.w, image = row / s.h;
    return {dy + image * s.oh * s.ow * s.all_filters, static_cast<std::uint32_t>(row - image * s.h + s.padding[0]),
            static_cast<std::uint32_t>(min_of(pixel, pixels - 1) - row * s.w + s.padding[1])};
  }
  FASTDL_DEVICE_ONLY Step step_of(const Odometer::Digits& at) const {
    const Tap tap = tap_at(s, at.high, at.middle, 0);
    return {at, tap.down, tap.right};
  }
  FASTDL_DEVICE_ONLY Step start(int64_t k) const { return step_of(taps.at(k)); }
  FASTDL_DEVICE_ONLY void next(Step& step) const {
    taps.next(step.at);
    step = step_of(step.at);
  }
  FASTDL_DEVICE_ONLY const E* place(const Line& line, const Step& step) const {
    std::uint32_t row = line.down - step.down, column = line.right - step.right;
    if (s.stride[0] != 1 || s.stride[1] != 1) {
      const std::uint32_t down = row, right = column;
      const auto by = static_cast<std::uint32_t>(s.stride[0]), beside = static_cast<std::uint32_t>(s.stride[1]);
      row /= by, column /= beside;
      if (line.down < step.down || line.right < step.right || row * by != down || column * beside != right)
        return nullptr;
    }
    if (row >= static_cast<std::uint32_t>(s.oh) || column >= static_cast<std::uint32_t>(s.ow)) return nullptr;
    return line.image + (int64_t{row} * s.ow + column) * s.all_filters + step.at.low;
  }
};

constexpr int64_t kMostGathered = 64;  // channels of a group, each with an entry per tap in the table

// Output pixels' lines with channels that vectors can't read; a vector of k may be of several taps.
template <class E>
struct GatheredPixels {
  static constexpr bool k_near = true;
  Windows<E> windows;
  int64_t pixels;
  using Line = typename Windows<E>::Place;
  using Step = const Tap*;

  FASTDL_DEVICE_ONLY GatheredPixels of(int64_t group) const { return {windows.of(group), pixels}; }
  FASTDL_DEVICE_ONLY Line line(int64_t pixel) const {
    return pixel < pixels ? windows.place(pixel) : windows.nowhere();
  }
  FASTDL_DEVICE_ONLY Step start(int64_t k) const { return windows.taps + k; }
  FASTDL_DEVICE_ONLY void next(Step& step) const { step += kChunk<E>; }
  FASTDL_DEVICE_ONLY Words vector(const Line& line, const Step& step) const { return windows.gather(line, step); }
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
  const bool ordered =
      !backward && (s.of_channel == 1 || s.channels == 1) && by_vectors(weight, s.taps() * s.channels, depth, depth);
  with_tensor_tiling<E>(groups, pixels, across, depth, [&](const auto& t) {
    const int64_t sums = ceil_div(t.scratch(), 64) * 64;
    float* const memory = workspace<float>(sums + (ordered ? 0 : elements));
    E* const lines = reinterpret_cast<E*>(memory + sums);
    if (!ordered) for_each(elements, OrderWeight<E, backward>{weight, s, depth, lines});
    multiply_on_tensor_cores<E>(t, x, Lines<E, true>{ordered ? weight : lines, across, depth, across * depth}, put,
                                memory);
  });
}

// The convolution (backward: its input gradient) on tensor cores; false where types or borders don't allow it.
template <bool backward, class E, class Put>
bool pixels_on_tensor_cores(const E* x, const E* weight, int64_t groups, int64_t pixels, const Shape& s,
                            const Put& put) {
  if constexpr (sizeof(E) <= 4) {
    if (!on_tensor_cores<E>()) return false;
    const int64_t near = backward ? s.filters : s.channels, depth = s.taps() * near;
    if (by_vectors(x, near, backward ? s.all_filters : s.all_channels, near)) {
      using Pixels = std::conditional_t<backward, SeenLines<E>, PixelLines<E>>;
      multiply_by_weight<backward>(Pixels(x, s, pixels), weight, groups, pixels, depth, s, put);
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

// Of the weight gradient.
template <class T>
struct PutWeights {
  T* dweight;
  Shape s;

  FASTDL_DEVICE_ONLY void operator()(int64_t group, int64_t filter, int64_t column, T sum) const {
    const int64_t tap = column / s.channels;
    dweight[s.weight_at(group * s.filters + filter, tap, column - tap * s.channels)] = sum;
  }
};

// The weight gradient likewise (csrc/cuda/conv2d_weights.cu, which is compiled beside the rest).
bool weights_on_tensor_cores(const View& dy, const View& x, const View& dweight, const Conv2dDims& d);

}  // namespace fastdl::cuda::gpu
