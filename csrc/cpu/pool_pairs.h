// Maximum over 2x2 windows with stride 2, inside the image: windows share no pixel, and forward reads, backward writes
// two rows of the image beside each other, each pixel once. Everything about a window is known to the compiler.
#pragma once
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

// One row of windows; the image's rows lie `row` elements apart. True if there may be a NaN, in which case y and
// offsets can be wrong.
template <class L, class T>
bool max_of_pairs(const T* x, int64_t row, int64_t windows, int64_t channels, T* y, std::uint8_t* offsets) {
  typename L::Value poison = L::all(0);
  for (int64_t w = 0; w < windows; ++w, x += 2 * channels, y += channels, offsets += channels)
    over_channels<L>(channels, [&](int64_t c) __attribute__((always_inline)) {
      const auto a = L::read(x + c), b = L::read(x + channels + c);
      const auto d = L::read(x + row + c), e = L::read(x + row + channels + c);
      const auto top = b > a ? b : a, bottom = e > d ? e : d;
      const auto top_tap = b > a ? L::mark(1) : L::mark(0), bottom_tap = e > d ? L::mark(3) : L::mark(2);
      L::write(y + c, bottom > top ? bottom : top);
      L::write_mark(offsets + c, bottom > top ? bottom_tap : top_tap);
      poison += (a + b) + (d + e);
    });
  return L::any_nan(poison);
}

// The two rows of dx under one row of windows.
template <class L, class T>
void spread_to_pairs(const T* dy, const std::uint8_t* offsets, int64_t row, int64_t windows, int64_t channels, T* dx) {
  for (int64_t w = 0; w < windows; ++w, dx += 2 * channels, dy += channels, offsets += channels)
    over_channels<L>(channels, [&](int64_t c) __attribute__((always_inline)) {
      const auto d = L::read(dy + c);
      const auto winner = L::read_mark(offsets + c);
      for (int tap = 0; tap < 4; ++tap)
        L::write(dx + tap / 2 * row + tap % 2 * channels + c, winner == L::mark(tap) ? d : L::all(0));
    });
}

}  // namespace

}  // namespace fastdl::cpu::FASTDL_ISA
