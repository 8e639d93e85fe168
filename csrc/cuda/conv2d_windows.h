// The windows of a convolution by table: what a tap is away from a window's first place stands in memory of the device,
// so that an element costs neither a division by channels and taps nor a vector of channels. With few channels the
// table has an entry for each channel too, and what is read by it is a tile of the column matrix.
#pragma once
#include <stdexcept>
#include <vector>

#include "cuda/conv2d_shape.h"
#include "cuda/divide.h"

namespace fastdl::cuda::gpu {

struct alignas(16) Tap {
  std::uint32_t down, right;  // of the window's first place
  int64_t away;               // in memory, in elements
};

// The taps in order, each with the first `each` channels; `count` entries, of which those behind lie in no image.
inline std::vector<Tap> tap_table(const Shape& s, int64_t each, int64_t count) {
  const int64_t below = s.h + s.padding[0], beside = s.w + s.padding[1];  // from here on no window is in the image
  const Tap nowhere{static_cast<std::uint32_t>(below), 0, 0};
  std::vector<Tap> table(static_cast<std::size_t>(count), nowhere);
  for (std::size_t k = 0; k < static_cast<std::size_t>(s.taps() * each); ++k) {
    const int64_t tap = static_cast<int64_t>(k) / each, channel = static_cast<int64_t>(k) % each;
    const int64_t down = min_of(tap / s.kernel_width * s.dilation[0], below);
    const int64_t right = min_of(tap % s.kernel_width * s.dilation[1], beside);
    table[k] = {static_cast<std::uint32_t>(down), static_cast<std::uint32_t>(right),
                (down * s.w + right) * s.all_channels + channel};
  }
  return table;
}

// x as its output pixels see it.
template <class T>
struct Windows {
  const T* x;
  const Tap* taps;
  Shape s;
  Divider rows, columns;  // of y

  Windows(const T* x_, const std::vector<Tap>& table, const Shape& s_)
      : x(x_), taps(resident(table.data(), static_cast<int64_t>(table.size()))), s(s_), rows(s_.oh), columns(s_.ow) {
    constexpr int64_t kMost = int64_t{1} << 30;  // twice that and any padding are less than 2^32
    if (s.h > kMost || s.w > kMost) throw std::runtime_error("conv2d: x has more than 2^30 rows or columns");
  }

  // Where a window begins; above and left of the image below 0, with which unsigned numbers wrap around.
  struct Place {
    int64_t at;
    std::uint32_t down, right;
  };
  FASTDL_DEVICE_ONLY Place place(int64_t pixel) const {
    const int64_t row = columns(pixel), image = rows(row);
    const int64_t down = begin(row - image * rows.divisor, 0, s.h),
                  right = begin(pixel - row * columns.divisor, 1, s.w);
    return {((image * s.h + down) * s.w + right) * s.all_channels, static_cast<std::uint32_t>(down),
            static_cast<std::uint32_t>(right)};
  }
  // Of no pixel: no tap of it is in an image.
  FASTDL_DEVICE_ONLY Place nowhere() const { return {0, static_cast<std::uint32_t>(s.h), 0}; }
  FASTDL_DEVICE_ONLY T at(const Place& place, const Tap& tap, int64_t channel = 0) const {
    const std::uint32_t y = place.down + tap.down, z = place.right + tap.right;
    const bool inside = y < static_cast<std::uint32_t>(s.h) && z < static_cast<std::uint32_t>(s.w);
    return inside ? x[place.at + tap.away + channel] : T(0);
  }
  template <int N>
  FASTDL_DEVICE_ONLY Pack<T, N> gather(const Place& place, const Tap* of) const {
    Pack<T, N> pack;
    FASTDL_UNROLL
    for (int j = 0; j < N; ++j) pack.v[j] = at(place, of[j]);
    return pack;
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
