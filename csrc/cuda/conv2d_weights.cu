// The weight gradient of a convolution on tensor cores: dy by taps and channels, with k over output pixels.
#include "cuda/conv2d_lines.h"

namespace fastdl::cuda::gpu {

namespace {

// x by taps and channels, a vector of channels at a time; k runs over output pixels.
template <class E>
struct TapLines {
  static constexpr bool k_near = false;
  Windows<E> windows;
  Odometer pixels;
  using Line = Tap;
  struct Step {
    Odometer::Digits at;
    typename Windows<E>::Place place;
  };

  TapLines(const E* x, const Shape& s)
      : windows(x, static_cast<const Tap*>(nullptr), s), pixels(s.oh, s.ow, kChunk<E>) {}
  FASTDL_DEVICE_ONLY TapLines of(int64_t group) const {
    TapLines moved = *this;
    moved.windows = windows.of(group);
    return moved;
  }
  FASTDL_DEVICE_ONLY Line line(int64_t column) const {
    const Shape& s = windows.s;
    const int64_t tap = column / s.channels, i = tap / s.kernel_width;
    if (tap >= s.taps()) return {static_cast<std::uint32_t>(below(s)), 0, 0};
    return tap_at(s, i, tap - i * s.kernel_width, column - tap * s.channels);
  }
  FASTDL_DEVICE_ONLY Step start(int64_t pixel) const {
    const Odometer::Digits at = pixels.at(pixel);
    return {at, windows.place(at.high, at.middle, at.low)};
  }
  FASTDL_DEVICE_ONLY void next(Step& step) const {
    pixels.next(step.at);
    step.place = windows.place(step.at.high, step.at.middle, step.at.low);
  }
  FASTDL_DEVICE_ONLY const E* place(const Line& line, const Step& step) const {
    if (!windows.inside(step.place, line)) return nullptr;
    return windows.x + step.place.at + line.away;
  }
};

// The same with channels that vectors can't read; a vector of columns may be of several taps.
template <class E>
struct GatheredTaps {
  static constexpr bool k_near = false;
  Windows<E> windows;
  int64_t count;  // of columns in the table
  struct Line {
    const Tap* taps;  // null: none
  };
  struct Step {
    int64_t pixel;
    typename Windows<E>::Place place;
  };

  FASTDL_DEVICE_ONLY GatheredTaps of(int64_t group) const { return {windows.of(group), count}; }
  FASTDL_DEVICE_ONLY Line line(int64_t column) const { return {column < count ? windows.taps + column : nullptr}; }
  FASTDL_DEVICE_ONLY Step start(int64_t pixel) const { return {pixel, windows.place(pixel)}; }
  FASTDL_DEVICE_ONLY void next(Step& step) const { step = start(step.pixel + kChunk<E>); }
  FASTDL_DEVICE_ONLY Words vector(const Line& line, const Step& step) const {
    if (line.taps == nullptr) return {};
    return windows.gather(step.place, line.taps);
  }
};

template <class Put>
struct Transposed {
  Put put;
  template <class T>
  FASTDL_DEVICE_ONLY void operator()(int64_t which, int64_t i, int64_t j, T sum) const {
    put(which, j, i, sum);
  }
};

// Filters are rows, or columns where that takes fewer tiles.
template <class E, class Put>
bool multiply_for_weights(const E* dy, const E* x, int64_t groups, int64_t pixels, const Shape& s, const Put& put) {
  if constexpr (sizeof(E) <= 4) {
    if (!on_tensor_cores<E>() || !by_vectors(dy, s.filters, s.all_filters, s.filters)) return false;
    const int64_t columns = s.taps() * s.channels;
    const Lines<E, false> of_dy{dy, s.filters, s.all_filters, s.filters};
    const auto multiply = [&](const auto& of_x) {
      if (tensor_tiles(columns, s.filters) < tensor_tiles(s.filters, columns))
        with_tensor_tiling<E>(groups, columns, s.filters, pixels, [&](const auto& t) {
          multiply_on_tensor_cores<E>(t, of_x, of_dy, Transposed<Put>{put}, workspace<float>(t.scratch()));
        });
      else
        with_tensor_tiling<E>(groups, s.filters, columns, pixels, [&](const auto& t) {
          multiply_on_tensor_cores<E>(t, of_dy, of_x, put, workspace<float>(t.scratch()));
        });
    };
    if (by_vectors(x, s.channels, s.all_channels, s.channels)) {
      multiply(TapLines<E>(x, s));
      return true;
    }
    if (s.channels <= kMostGathered) {
      const std::vector<Tap> taps = tap_table(s, s.channels, ceil_div(columns, kVector<E>) * kVector<E>);
      multiply(GatheredTaps<E>{Windows<E>(x, taps, s), static_cast<int64_t>(taps.size())});
      return true;
    }
  }
  return false;
}

}  // namespace

bool weights_on_tensor_cores(const View& dy, const View& x, const View& dweight, const Conv2dDims& d) {
  bool done = false;
  with_any_float(dy.dtype, [&](auto type) {
    using T = decltype(type);
    const Shape s(d, dweight);
    done = multiply_for_weights(dy.as<const T>(), x.as<const T>(), d.groups, d.n * d.oh * d.ow, s,
                                PutWeights<Wide<T>>{dweight.as<Wide<T>>(), s});
  });
  return done;
}

}  // namespace fastdl::cuda::gpu
