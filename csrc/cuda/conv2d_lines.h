// A convolution's operands for the product on tensor cores (tensor_product.h), on channels-last memory: pixels seen
// through taps, and the weight in the order of k. Channels (filters) of a group are a multiple of a vector, so that a
// vector never leaves its tap.
#pragma once
#include "cuda/conv2d_shape.h"
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

// The weight as lines of filters by taps and channels, or (backward) of channels by taps and filters.
template <class E, bool backward>
struct OrderWeight {
  const E* weight;
  Shape s;
  E* lines;

  FASTDL_DEVICE_ONLY void operator()(int64_t at) const {
    const int64_t near = backward ? s.filters : s.channels, depth = s.taps() * near;
    const int64_t line = at / depth, tap = (at - line * depth) / near, place = at - line * depth - tap * near;
    const int64_t group = line / (backward ? s.channels : s.filters);
    const int64_t of_group = line - group * (backward ? s.channels : s.filters);
    const int64_t filter = backward ? place : of_group, channel = backward ? of_group : place;
    lines[at] = weight[s.weight_at(group * s.filters + filter, tap, channel)];
  }
};

// The convolution (backward: its input gradient) on tensor cores; false where types or borders don't allow it.
template <bool backward, class E, class Put>
bool pixels_on_tensor_cores(const E* x, const E* weight, int64_t groups, int64_t pixels, const Shape& s,
                            const Put& put) {
  if constexpr (sizeof(E) <= 4) {
    const int64_t near = backward ? s.filters : s.channels, across = backward ? s.channels : s.filters;
    if (!on_tensor_cores<E>() || !by_vectors(x, near, backward ? s.all_filters : s.all_channels, near)) return false;
    const int64_t depth = s.taps() * near, elements = groups * across * depth;
    const TensorTiling<E> t(groups, pixels, across, depth);
    const int64_t sums = ceil_div(t.scratch(), 64) * 64;
    float* const memory = workspace<float>(sums + elements);
    E* const lines = reinterpret_cast<E*>(memory + sums);
    for_each(elements, OrderWeight<E, backward>{weight, s, lines});
    multiply_on_tensor_cores<E>(t, PixelLines<E, backward>{x, s, pixels},
                                Lines<E, true>{lines, across, depth, across * depth}, put, memory);
    return true;
  } else {
    return false;
  }
}

// The weight gradient likewise.
template <class E, class Put>
bool weights_on_tensor_cores(const E* dy, const E* x, int64_t groups, int64_t pixels, const Shape& s, const Put& put) {
  if constexpr (sizeof(E) <= 4) {
    if (!on_tensor_cores<E>() || !by_vectors(x, s.channels, s.all_channels, s.channels) ||
        !by_vectors(dy, s.filters, s.all_filters, s.filters))
      return false;
    const TensorTiling<E> t(groups, s.filters, s.taps() * s.channels, pixels);
    multiply_on_tensor_cores<E>(t, Lines<E, false>{dy, s.filters, s.all_filters, s.filters}, TapLines<E>{x, s}, put,
                                workspace<float>(t.scratch()));
    return true;
  } else {
    return false;
  }
}

}  // namespace fastdl::cuda::gpu
