// Maximum over 2x2 windows with stride 2, inside the image: windows share no pixel, and forward reads, backward writes
// two rows of the image beside each other, each pixel once. Everything about a window is known to the compiler.
#pragma once
#include "core/activation_math.h"
#include "core/pool2d.h"
#include "cpu/lanes.h"

namespace fastdl::cpu::FASTDL_ISA {

namespace {

// f(c) for the first channel c of every block of a pixel.
template <class L, class F>
FASTDL_INLINE void over_channels(int64_t channels, const F& f) {
  int64_t c = 0;
  for (; c + L::count <= channels; c += L::count) f(c);
  if (c < channels) f(channels - L::count);
}

// Do the windows of this axis hold the pixels 0 to 2 * windows - 1, two each?
FASTDL_INLINE bool in_pairs(const PoolAxis& a) {
  bool pairs = a.taps == 2 && a.dilation == 1;
  for (int64_t i = 0; pairs && i < a.windows; ++i)
    pairs = a.start[i] == 2 * i && a.tap_first[i] == 0 && a.tap_last[i] == 2;
  return pairs;
}

// f(lanes, window, channel) for blocks of channels that cover a row of windows, ascending. Pixels of fewer channels
// than a vector holds are taken as whole vectors too, whose excess the next windows overwrite; so the last go one by
// one.
template <class T, class F>
FASTDL_INLINE void over_pairs(int64_t windows, int64_t channels, const F& f) {
  using Wide = Marked<T, true>;
  constexpr int64_t W = kLanes<T>;
  if (channels >= W) {
    for (int64_t w = 0; w < windows; ++w)
      over_channels<Wide>(channels, [&](int64_t c) __attribute__((always_inline)) { f(Wide{}, w, c); });
    return;
  }
  const int64_t row = windows * channels, whole = row < W ? 0 : (row - W) / channels + 1;
  for (int64_t w = 0; w < whole; ++w) f(Wide{}, w, 0);
  for (int64_t w = whole; w < windows; ++w)
    for (int64_t c = 0; c < channels; ++c) f(Marked<T, false>{}, w, c);
}

// One row of windows; the image's rows lie `row` elements apart. True if there may be a NaN, in which case y and
// offsets can be wrong.
template <class T>
bool max_of_pairs(const T* x, int64_t row, int64_t windows, int64_t channels, T* y, std::uint8_t* offsets) {
  Vec<T> poison{};
  T poison_rest = 0;
  over_pairs<T>(windows, channels, [&](auto lanes, int64_t w, int64_t c) __attribute__((always_inline)) {
    using L = decltype(lanes);
    const T* from = x + 2 * w * channels + c;
    const int64_t to = w * channels + c;
    const auto a = L::read(from), b = L::read(from + channels);
    const auto d = L::read(from + row), e = L::read(from + row + channels);
    const auto top = b > a ? b : a, bottom = e > d ? e : d;
    const auto top_tap = b > a ? L::mark(1) : L::mark(0), bottom_tap = e > d ? L::mark(3) : L::mark(2);
    L::write(y + to, bottom > top ? bottom : top);
    L::write_mark(offsets + to, bottom > top ? bottom_tap : top_tap);
    if constexpr (L::count > 1)
      poison += (a + b) + (d + e);
    else
      poison_rest += (a + b) + (d + e);
  });
  return Marked<T, true>::any_nan(poison) || poison_rest != poison_rest;
}

// The two rows of dx under one row of windows; kRelu: of what a ReLU before the pooling lets through.
template <bool kRelu, class T>
void spread_to_pairs(const T* dy, const std::uint8_t* offsets, const T* y, int64_t row, int64_t windows,
                     int64_t channels, T* dx) {
  over_pairs<T>(windows, channels, [&](auto lanes, int64_t w, int64_t c) __attribute__((always_inline)) {
    using L = decltype(lanes);
    const int64_t from = w * channels + c;
    auto d = L::read(dy + from);
    if constexpr (kRelu) d = activation::relu_backward(d, L::read(y + from));
    const auto winner = L::read_mark(offsets + from);
    for (int tap = 0; tap < 4; ++tap) {
      T* to = dx + (2 * w + tap % 2) * channels + tap / 2 * row + c;
      L::write(to, winner == L::mark(tap) ? d : L::all(0));
    }
  });
}

}  // namespace

}  // namespace fastdl::cpu::FASTDL_ISA
