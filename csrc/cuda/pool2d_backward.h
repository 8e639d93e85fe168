// Gradients of pooling: what a window gives to the pixels it holds, and the ways from windows to pixels.
#pragma once
#include "core/activation_math.h"
#include "cuda/map.h"
#include "cuda/pool2d_regions.h"

namespace fastdl::cuda::gpu {

// What a window gives to the pixel under one of its taps: dy where that tap won (with y: and a ReLU let x through,
// which the largest shows for its window), or an equal share of dy.
template <class T, class Offset>
struct Won {
  using W = Wide<T>;
  const T* dy;
  const Offset* offsets;
  const T* y;

  template <int N>
  struct Window {
    Pack<W, N> dy;
    Pack<Offset, N> winner;

    template <class I>
    FASTDL_DEVICE_ONLY W at(int k, I tap) const {
      return has_won(k, tap) ? dy.v[k] : W(0);
    }
    template <class I>
    FASTDL_DEVICE_ONLY void add(I tap, Pack<W, N>& sum) const {
      for (int k = 0; k < N; ++k)
        if (has_won(k, tap)) sum.v[k] += dy.v[k];
    }

   private:
    template <class I>
    FASTDL_DEVICE_ONLY bool has_won(int k, I tap) const {
      return static_cast<I>(winner.v[k]) == tap;
    }
  };
  template <int N>
  FASTDL_DEVICE_ONLY Window<N> window(int64_t at, int64_t, int64_t) const {
    Window<N> w{load_wide<N>(dy + at), load_pack<N>(offsets + at)};
    if (y != nullptr) {
      const Pack<W, N> largest = load_wide<N>(y + at);
      for (int k = 0; k < N; ++k) w.dy.v[k] = activation::relu_backward(w.dy.v[k], largest.v[k]);
    }
    return w;
  }
};

template <class T>
struct Share {
  using W = Wide<T>;
  const T* dy;
  Shares shares;

  template <int N>
  struct Window {
    Pack<W, N> part;
    template <class I>
    FASTDL_DEVICE_ONLY W at(int k, I) const {
      return part.v[k];
    }
    template <class I>
    FASTDL_DEVICE_ONLY void add(I, Pack<W, N>& sum) const {
      for (int k = 0; k < N; ++k) sum.v[k] += part.v[k];
    }
  };
  template <int N>
  FASTDL_DEVICE_ONLY Window<N> window(int64_t at, int64_t row, int64_t column) const {
    Window<N> w{load_wide<N>(dy + at)};
    const W share = static_cast<W>(shares.of(row, column));
    for (int k = 0; k < N; ++k) w.part.v[k] *= share;
    return w;
  }
};

// A pixel of dx, from the windows that hold it.
template <class I, class T, class Source>
struct Gather {
  Images<I> pixels;
  Source source;
  T* dx;

  template <int N>
  FASTDL_DEVICE_ONLY void run(int64_t i, Nothing) const {
    const Region<I> region(pixels, i);
    Pack<Wide<T>, N> sum = {};
    region.each([&](I down, I right) {
      const auto window = source.template window<N>(region.at(down, right), region.rows.first + down,
                                                    region.columns.first + right);  // averages: in steps of 1
      window.add(region.tap(down, right), sum);
    });
    store_rounded(dx + i, sum);
  }
};

// A window, over its cell of dx; whole ones of kSide x kSide taps are unrolled.
template <int kSide, class I, class T, class Source>
struct Spread {
  Images<I> windows;
  Source source;
  T* dx;

  template <int N>
  FASTDL_DEVICE_ONLY void run(int64_t i, Nothing) const {
    const Region<I> region(windows, i);
    const auto window = source.template window<N>(i, region.row, region.column);
    const auto put = [&](I down, I right, I tap, bool inside) {
      Pack<Wide<T>, N> pixel = {};
      if (inside)
        for (int k = 0; k < N; ++k) pixel.v[k] = window.at(k, tap);
      store_rounded(dx + region.at(down, right), pixel);
    };
    constexpr int kUnrolled = N > 1 ? kSide : 0;
    if (kUnrolled > 0 && region.is_square(kUnrolled) && region.is_inside(kUnrolled - 1, kUnrolled - 1))
      region.template each_of_square<kUnrolled>(
          [&](I down, I right) { put(down, right, down * kUnrolled + right, true); });
    else
      region.each([&](I down, I right) { put(down, right, region.tap(down, right), region.is_inside(down, right)); });
  }
};

// Windows of three taps, 2 apart: is the axis cut like this?
inline bool in_twos(const PoolAxis& a) {
  if (a.taps != 3 || a.dilation != 1) return false;
  for (int64_t o = 0; o < a.windows; ++o)
    if (a.start[o] != a.start[0] + 2 * o || a.tap_last[o] != min_of(int64_t{3}, a.size - a.start[o])) return false;
  return true;
}

// Windows of 3 x 3 taps, 2 apart: a thread has the 2 x 2 pixels under a window's first taps, which up to four windows
// hold, and loads each of them once. Cells are counted from window 0 on; the last ones begin behind the last windows.
template <class T, class Source>
struct GatherTwos {
  Divider32 channels, cell_columns, cell_rows;
  int rows, columns, window_rows, window_columns, row_padding, column_padding;
  Source source;
  T* dx;

  GatherTwos(const Pool2dDims& d, int64_t channels_, const Source& source_, T* dx_)
      : channels(channels_),
        cell_columns(cells(d.columns)),
        cell_rows(cells(d.rows)),
        rows(static_cast<int>(d.rows.size)),
        columns(static_cast<int>(d.columns.size)),
        window_rows(static_cast<int>(d.rows.windows)),
        window_columns(static_cast<int>(d.columns.windows)),
        row_padding(static_cast<int>(-d.rows.start[0])),
        column_padding(static_cast<int>(-d.columns.start[0])),
        source(source_),
        dx(dx_) {}
  static int64_t cells(const PoolAxis& a) { return ceil_div(a.size - a.start[0], 2); }

  template <int N>
  FASTDL_DEVICE_ONLY void run(int64_t at, Nothing) const {
    const int i = static_cast<int>(at), cell = channels(i), line = cell_columns(cell), n = cell_rows(line);
    const int channel = i - cell * channels.divisor;
    const int row = line - n * cell_rows.divisor, column = cell - line * cell_columns.divisor;
    Pack<Wide<T>, N> sums[2][2] = {};
    FASTDL_UNROLL
    for (int holder = 0; holder < 4; ++holder) {
      const int a = holder / 2, b = holder % 2;  // 0: the window that began before the cell
      const int window_row = row - 1 + a, window_column = column - 1 + b;
      if (window_row < 0 || window_row >= window_rows || window_column < 0 || window_column >= window_columns) continue;
      const int window = (n * window_rows + window_row) * window_columns + window_column;
      const auto w = source.template window<N>(window * channels.divisor + channel, window_row, window_column);
      for (int down = 0; down <= a; ++down)
        for (int right = 0; right <= b; ++right)
          w.add((a == 0 ? 2 : down) * 3 + (b == 0 ? 2 : right), sums[down][right]);
    }
    for (int down = 0; down < 2; ++down)
      for (int right = 0; right < 2; ++right) {
        const int h = 2 * row - row_padding + down, w = 2 * column - column_padding + right;
        if (h >= 0 && h < rows && w >= 0 && w < columns)
          store_rounded(dx + (((n * rows + h) * columns + w) * channels.divisor + channel), sums[down][right]);
      }
  }
};

}  // namespace fastdl::cuda::gpu
