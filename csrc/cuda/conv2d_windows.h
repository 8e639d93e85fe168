// The windows of a convolution by table: what a tap is away from a window's first place stands in memory of the device,
// so that an element costs neither a division by channels and taps nor a vector of channels. With few channels the
// table has an entry for each channel too, and what is read by it is a tile of the column matrix.
#pragma once
#include <stdexcept>
#include <vector>

#include "cuda/conv2d_shape.h"
#include "cuda/divide.h"
#include "cuda/tensor_tile.h"

namespace fastdl::cuda::gpu {

struct alignas(16) Tap {
  std::uint32_t down, right;  // of the window's first place
  int64_t away;               // in memory, in elements
};

// Twice such a number and any padding are less than 2^32.
inline void check_rows_and_columns(const Shape& s) {
  constexpr int64_t kMost = int64_t{1} << 30;
  if (s.h > kMost || s.w > kMost) throw std::runtime_error("conv2d: x has more than 2^30 rows or columns");
}

// From `below` and `beside` on no window is in the image.
FASTDL_BOTH int64_t below(const Shape& s) { return s.h + s.padding[0]; }
FASTDL_BOTH int64_t beside(const Shape& s) { return s.w + s.padding[1]; }
FASTDL_BOTH Tap tap_at(const Shape& s, int64_t i, int64_t j, int64_t channel) {
  const int64_t down = min_of(i * s.dilation[0], below(s)), right = min_of(j * s.dilation[1], beside(s));
  return {static_cast<std::uint32_t>(down), static_cast<std::uint32_t>(right),
          (down * s.w + right) * s.all_channels + channel};
}

// The taps in order, each with the first `each` channels; `count` entries, of which those behind lie in no image.
inline std::vector<Tap> tap_table(const Shape& s, int64_t each, int64_t count) {
  const Tap nowhere{static_cast<std::uint32_t>(below(s)), 0, 0};
  std::vector<Tap> table(static_cast<std::size_t>(count), nowhere);
  for (std::size_t k = 0; k < static_cast<std::size_t>(s.taps() * each); ++k) {
    const int64_t tap = static_cast<int64_t>(k) / each, channel = static_cast<int64_t>(k) % each;
    table[k] = tap_at(s, tap / s.kernel_width, tap % s.kernel_width, channel);
  }
  return table;
}

// A number along k as three digits, of which the lower two have so many values: taps' rows and columns and channels, or
// images and pixels' rows and columns. It grows by chunks without a division.
struct Odometer {
  struct Digits {
    int high, middle, low;
  };
  int middle, low;
  Digits chunk;

  Odometer(int64_t of_middle, int64_t of_low, int64_t by)
      : middle(static_cast<int>(max_of(of_middle, int64_t{1}))),
        low(static_cast<int>(max_of(of_low, int64_t{1}))),
        chunk(at(by)) {}
  FASTDL_BOTH Digits at(int64_t k) const {
    const int64_t line = k / low, high = line / middle;
    return {static_cast<int>(high), static_cast<int>(line - high * middle), static_cast<int>(k - line * low)};
  }
  FASTDL_DEVICE_ONLY void next(Digits& d) const {
    d.low += chunk.low;
    const bool over = d.low >= low;
    d.low -= over ? low : 0;
    d.middle += chunk.middle + over;
    const bool twice = d.middle >= middle;
    d.middle -= twice ? middle : 0;
    d.high += chunk.high + twice;
  }
};

// x as its output pixels see it.
template <class T>
struct Windows {
  const T* x;
  const Tap* taps;
  Shape s;
  Divider rows, columns;  // of y

  Windows(const T* x_, const std::vector<Tap>& table, const Shape& s_)
      : Windows(x_, resident(table.data(), static_cast<int64_t>(table.size())), s_) {}
  Windows(const T* x_, const Tap* table, const Shape& s_) : x(x_), taps(table), s(s_), rows(s_.oh), columns(s_.ow) {
    check_rows_and_columns(s);
  }

  // Where a window begins; above and left of the image below 0, with which unsigned numbers wrap around.
  struct Place {
    int64_t at;
    std::uint32_t down, right;
  };
  FASTDL_DEVICE_ONLY Place place(int64_t pixel) const {
    const int64_t row = columns(pixel), image = rows(row);
    return place(image, row - image * rows.divisor, pixel - row * columns.divisor);
  }
  FASTDL_DEVICE_ONLY Place place(int64_t image, int64_t p, int64_t q) const {
    const int64_t down = begin(p, 0, s.h), right = begin(q, 1, s.w);
    return {((image * s.h + down) * s.w + right) * s.all_channels, static_cast<std::uint32_t>(down),
            static_cast<std::uint32_t>(right)};
  }
  // Of no pixel: no tap of it is in an image.
  FASTDL_DEVICE_ONLY Place nowhere() const { return {0, static_cast<std::uint32_t>(s.h), 0}; }
  FASTDL_DEVICE_ONLY T at(const Place& place, const Tap& tap, int64_t channel = 0) const {
    return inside(place, tap) ? x[place.at + tap.away + channel] : T(0);
  }
  FASTDL_DEVICE_ONLY bool inside(const Place& place, const Tap& tap) const {
    return place.down + tap.down < static_cast<std::uint32_t>(s.h) &&
           place.right + tap.right < static_cast<std::uint32_t>(s.w);
  }
  // A vector of taps in the table.
  FASTDL_DEVICE_ONLY Words gather(const Place& place, const Tap* of) const {
    T elements[kVector<T>];
    FASTDL_UNROLL
    for (int j = 0; j < kVector<T>; ++j) elements[j] = at(place, of[j]);
    Words words;
    __builtin_memcpy(&words, elements, sizeof words);
    return words;
  }
  FASTDL_DEVICE_ONLY Windows of(int64_t group) const {
    Windows moved = *this;
    moved.x += group * s.channels;
    return moved;
  }

 private:
  // No window begins behind the image's end: 32 bits have room for all padding.
  FASTDL_DEVICE_ONLY int64_t begin(int64_t i, int axis, int64_t length) const {
    return min_of(i * s.stride[axis], length + s.padding[axis]) - s.padding[axis];
  }
};

}  // namespace fastdl::cuda::gpu
