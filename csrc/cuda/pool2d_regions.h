// What a pooling kernel's thread has to do with: a region of the other side's image, found through tables of spans
// that are made of those in core/pool2d.h.
#pragma once
#include "core/pool2d.h"
#include "cuda/spans.h"

namespace fastdl::cuda::gpu {

// An axis as one side sees it: a span for each of its places, and what one step along a span is.
template <class I>
struct Side {
  std::vector<Span<I>> spans;
  int64_t others;          // places on the other side
  int64_t step, tap_step;  // never used between places of which only one exists
};

template <class I>
Span<I> span(int64_t first, int64_t count, int64_t tap, int64_t inside) {
  return {static_cast<I>(first), static_cast<I>(count), static_cast<I>(tap), static_cast<I>(inside)};
}

// Windows, and the pixels of the image under their taps.
template <class I>
Side<I> taps_of(const PoolAxis& a) {
  Side<I> side{{}, a.size, min_of(a.dilation, a.size), 1};
  for (int64_t o = 0; o < a.windows; ++o) {
    const int64_t tap = a.tap_first[o], count = a.tap_last[o] - tap;
    side.spans.push_back(span<I>(a.start[o] + tap * a.dilation, count, tap, count));
  }
  return side;
}

// Pixels, and the windows that have a tap over them.
template <class I>
Side<I> windows_of(const PoolAxis& a) {
  const TapStep step(a.windows > 1 ? a.start[1] - a.start[0] : 1, a.dilation);
  Side<I> side{{}, a.windows, min_of(step.windows, a.windows), -step.taps};
  for (int64_t pixel = 0; pixel < a.size; ++pixel) {
    const int64_t end = a.over_last[pixel];
    int64_t o = a.over_first[pixel];
    while (o < end && (pixel - a.start[o]) % a.dilation != 0) ++o;
    const int64_t count = o < end ? ceil_div(end - o, step.windows) : 0;
    side.spans.push_back(span<I>(o, count, count > 0 ? (pixel - a.start[o]) / a.dilation : 0, count));
  }
  return side;
}

// Disjoint windows, and all pixels from a window's first to the next one's.
template <class I>
Side<I> cells_of(const PoolAxis& a) {
  Side<I> side{{}, a.size, 1, 1};
  const auto begin = [&a](int64_t o) { return o < a.windows ? a.start[o] + a.tap_first[o] : a.size; };
  for (int64_t o = 0; o < a.windows; ++o)
    side.spans.push_back(span<I>(begin(o), begin(o + 1) - begin(o), a.tap_first[o], a.tap_last[o] - a.tap_first[o]));
  return side;
}

template <class I>
int64_t longest(const Side<I>& side) {
  int64_t most = 0;
  for (const Span<I>& s : side.spans) most = max_of(most, int64_t{s.count});
  return most;
}

// The images of one side [n, rows, columns, channels], with the way to those of the other.
template <class I>
struct Images {
  DividerOf<I> channels, columns, rows;
  Spans<I> spans;
  I other_rows, other_columns, row_step, column_step;
  I taps_in_row, tap_down, tap_right;

  // r gets the table of both axes.
  Images(Side<I>& r, const Side<I>& c, int64_t channels_, int64_t taps_in_row_)
      : channels(channels_),
        columns(static_cast<int64_t>(c.spans.size())),
        rows(static_cast<int64_t>(r.spans.size())),
        spans(r.spans, c.spans),
        other_rows(static_cast<I>(r.others)),
        other_columns(static_cast<I>(c.others)),
        row_step(static_cast<I>(r.step * c.others * channels_)),
        column_step(static_cast<I>(c.step * channels_)),
        taps_in_row(static_cast<I>(taps_in_row_)),
        tap_down(static_cast<I>(r.tap_step * taps_in_row_)),
        tap_right(static_cast<I>(c.tap_step)) {}
};

// What lies on the other side of element i, or of a pack that begins there.
template <class I>
struct Region {
  const Images<I>& images;
  I row, column;  // of i
  Span<I> rows, columns;
  I first, first_tap;

  FASTDL_DEVICE_ONLY Region(const Images<I>& m, int64_t at) : images(m) {
    const I i = static_cast<I>(at), pixel = m.channels(i), line = m.columns(pixel), n = m.rows(line);
    column = pixel - line * static_cast<I>(m.columns.divisor);
    row = line - n * static_cast<I>(m.rows.divisor);
    rows = m.spans.rows[row];
    columns = m.spans.columns[column];
    const I channel = i - pixel * static_cast<I>(m.channels.divisor);
    first = ((n * m.other_rows + rows.first) * m.other_columns + columns.first) * static_cast<I>(m.channels.divisor) +
            channel;
    first_tap = rows.tap * m.taps_in_row + columns.tap;
  }
  FASTDL_DEVICE_ONLY I at(I down, I right) const { return first + down * images.row_step + right * images.column_step; }
  FASTDL_DEVICE_ONLY I tap(I down, I right) const {
    return first_tap + down * images.tap_down + right * images.tap_right;
  }
  FASTDL_DEVICE_ONLY bool is_square(I side) const { return rows.count == side && columns.count == side; }
  FASTDL_DEVICE_ONLY bool is_inside(I down, I right) const { return down < rows.inside && right < columns.inside; }

  // f(down, right) for all places of the region.
  template <class F>
  FASTDL_DEVICE_ONLY void each(const F& f) const {
    for (I down = 0; down < rows.count; ++down)
      for (I right = 0; right < columns.count; ++right) f(down, right);
  }
  // The same for a square of a size that the compiler knows.
  template <int kSide, class F>
  FASTDL_DEVICE_ONLY static void each_of_square(const F& f) {
    for (I down = 0; down < kSide; ++down)
      for (I right = 0; right < kSide; ++right) f(down, right);
  }
};

// The shares of windows in their averages, rows' and columns' in one block on the device.
struct Shares {
  const double *rows, *columns;

  FASTDL_DEVICE_ONLY double of(int64_t row, int64_t column) const { return rows[row] * columns[column]; }
};

}  // namespace fastdl::cuda::gpu
