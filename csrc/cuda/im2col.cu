// Sliding windows as columns and back. A thread takes one window of several planes under several taps, whose columns
// its neighbours write beside its own; back, a thread adds up a sector of channels of one pixel, its neighbours those
// of the pixels beside. An image's element adds up the columns that show it in the order of the taps, as the reference
// does.
#include "core/im2col.h"

#include "cuda/spans.h"

namespace fastdl::cuda::gpu {

namespace {

constexpr int64_t kManyThreads = int64_t{1} << 18;  // enough to fill the largest device
constexpr int kPlanes = 4;                          // that a thread takes together, where there are so many
constexpr int64_t kSector = 32;                     // bytes that memory reads and writes at once

// The same window of kPlanes planes under `part` taps.
template <int kPlanes, class I, class T>
struct TakeColumns {
  const T* x;
  T* cols;  // [n][c][i][j][p][q]
  DividerOf<I> windows, windows_in_row, parts, taps_in_row;
  I taps, part, x_plane, cols_plane, h, w, stride[2], padding[2], dilation[2];

  TakeColumns(const T* x_, T* cols_, const Im2colDims& d, int64_t taps_, int64_t part_)
      : x(x_),
        cols(cols_),
        windows(d.oh * d.ow),
        windows_in_row(d.ow),
        parts(ceil_div(taps_, part_)),
        taps_in_row(d.window.kernel_size.second),
        taps(static_cast<I>(taps_)),
        part(static_cast<I>(part_)),
        x_plane(static_cast<I>(d.h * d.w)),
        cols_plane(static_cast<I>(taps_ * d.oh * d.ow)),
        h(static_cast<I>(d.h)),
        w(static_cast<I>(d.w)),
        stride{static_cast<I>(d.window.stride.first), static_cast<I>(d.window.stride.second)},
        padding{static_cast<I>(d.window.padding.first), static_cast<I>(d.window.padding.second)},
        dilation{static_cast<I>(d.window.dilation.first), static_cast<I>(d.window.dilation.second)} {}

  FASTDL_DEVICE_ONLY void operator()(int64_t task) const {
    const I i = static_cast<I>(task), group = windows(i), window = i - group * static_cast<I>(windows.divisor);
    const I planes = parts(group), plane = planes * kPlanes, p = windows_in_row(window);
    I tap = (group - planes * static_cast<I>(parts.divisor)) * part;
    const I tap_row = taps_in_row(tap);
    I tap_column = tap - tap_row * static_cast<I>(taps_in_row.divisor);
    const I left = (window - p * static_cast<I>(windows_in_row.divisor)) * stride[1] - padding[1];
    I row = p * stride[0] - padding[0] + tap_row * dilation[0], column = left + tap_column * dilation[1];
    I to = plane * cols_plane + tap * static_cast<I>(windows.divisor) + window;
    for (const I end = min_of(taps, tap + part); tap < end; ++tap) {
      const bool inside = row >= 0 && row < h && column >= 0 && column < w;
      T shown[kPlanes] = {};
      if (inside) {
        const T* const from = x + (plane * x_plane + row * w + column);
        for (I k = 0; k < kPlanes; ++k) shown[k] = from[k * x_plane];
      }
      T* const beside = cols + to;
      for (I k = 0; k < kPlanes; ++k) beside[k * cols_plane] = shown[k];
      to += static_cast<I>(windows.divisor);
      column += dilation[1];
      if (++tap_column == static_cast<I>(taps_in_row.divisor)) {
        tap_column = 0;
        column = left;
        row += dilation[0];
      }
    }
  }
};

template <int kPlanes, class I, class T>
void take_columns(const T* x, T* cols, const Im2colDims& d) {
  const int64_t taps = d.window.kernel_size.first * d.window.kernel_size.second, windows = d.oh * d.ow;
  const int64_t groups = d.n * d.c / kPlanes;
  const bool rows_of_sectors = windows * int64_t{sizeof(T)} >= kSector;  // else taps beside each other fill them
  const int64_t part = rows_of_sectors ? max_of(int64_t{1}, min_of(taps, groups * windows * taps / kManyThreads)) : 1;
  for_each(groups * ceil_div(taps, part) * windows, TakeColumns<kPlanes, I, T>(x, cols, d, taps, part));
}

// Pixels of one axis, and the windows that have a tap over them, in the order of the taps.
template <class I>
std::vector<Span<I>> windows_over(int64_t pixels, int64_t windows, int64_t taps, int64_t stride, int64_t padding,
                                  int64_t dilation) {
  std::vector<Span<I>> spans(static_cast<std::size_t>(pixels), Span<I>{0, 0, 0, 0});
  for (int64_t tap = 0; tap < taps; ++tap)
    for (int64_t window = 0; window < windows; ++window) {
      const int64_t pixel = window * stride + tap * dilation - padding;
      if (pixel < 0 || pixel >= pixels) continue;
      Span<I>& span = spans[static_cast<std::size_t>(pixel)];
      if (span.count == 0) span = {static_cast<I>(window), 0, static_cast<I>(tap), 0};
      span.inside = ++span.count;
    }
  return spans;
}

// kChannels neighbouring channels of one pixel; neighbouring threads have the pixels of a row.
template <int kChannels, class I, class T>
struct AddColumns {
  const T* cols;
  T* x;  // [n][h][w][c]
  Spans<I> spans;
  DividerOf<I> w, h, groups;
  I channels, plane, taps_in_row, windows, windows_in_row;
  I row_step, column_step;  // in cols, from tap to tap over a pixel

  FASTDL_DEVICE_ONLY void operator()(int64_t task) const {
    const I pixel = static_cast<I>(task), line = w(pixel), group = h(line), image = groups(group);
    const I right = pixel - line * static_cast<I>(w.divisor), down = line - group * static_cast<I>(h.divisor);
    const I channel = (group - image * static_cast<I>(groups.divisor)) * kChannels;
    const Span<I> r = spans.rows[down], c = spans.columns[right];
    const I first = (image * channels + channel) * plane + (r.tap * taps_in_row + c.tap) * windows +
                    r.first * windows_in_row + c.first;
    Pack<T, kChannels> sum = {};
    for (I i = 0; i < r.count; ++i)
      for (I j = 0; j < c.count; ++j)
        for (I k = 0; k < kChannels; ++k) sum.v[k] += cols[first + i * row_step + j * column_step + k * plane];
    const I to = (image * static_cast<I>(h.divisor) + down) * static_cast<I>(w.divisor) + right;
    store_pack(x + (to * channels + channel), sum);
  }
};

// Calls f(I{}) with 32 bits where all places in the images and their padding fit.
template <class F>
void with_width(const View& x, const View& cols, const Im2colDims& d, const F& f) {
  constexpr int64_t kMost = int64_t{1} << 30;
  const auto& [down, right] = d.window.padding;
  const bool small = x.size() < kMost && cols.size() < kMost && d.h + 2 * down < kMost && d.w + 2 * right < kMost;
  small ? f(std::int32_t{}) : f(int64_t{});
}

template <int kChannels, class I, class T>
void add_columns(const T* cols, T* x, const Im2colDims& d) {
  const auto& [size, stride, padding, dilation] = d.window;
  const int64_t windows = d.oh * d.ow, groups = d.c / kChannels;
  const TapStep down(stride.first, dilation.first), right(stride.second, dilation.second);
  // Never used, and kept small, where there is only one of them.
  const int64_t taps_down = min_of(down.taps, size.first), taps_right = min_of(right.taps, size.second);
  const int64_t windows_up = min_of(down.windows, d.oh), windows_left = min_of(right.windows, d.ow);
  auto rows = windows_over<I>(d.h, d.oh, size.first, stride.first, padding.first, dilation.first);
  const Spans<I> spans(rows, windows_over<I>(d.w, d.ow, size.second, stride.second, padding.second, dilation.second));
  const auto in = [](int64_t number) { return static_cast<I>(number); };
  for_each(d.n * groups * d.h * d.w,
           AddColumns<kChannels, I, T>{cols, x, spans, DividerOf<I>(d.w), DividerOf<I>(d.h), DividerOf<I>(groups),
                                       in(d.c), in(size.first * size.second * windows), in(size.second), in(windows),
                                       in(d.ow), in(taps_down * size.second * windows - windows_up * d.ow),
                                       in(taps_right * windows - windows_left)});
}

}  // namespace

void im2col(View x, Out cols, const Im2colDims& d) {
  if (cols.size() == 0) return;
  with_float(x.dtype, [&](auto type) {
    with_width(x, cols, d, [&](auto width) {
      using T = decltype(type);
      using I = decltype(width);
      if (d.n * d.c % kPlanes == 0)
        take_columns<kPlanes, I>(x.as<T>(), cols.as<T>(), d);
      else
        take_columns<1, I>(x.as<T>(), cols.as<T>(), d);
    });
  });
}

void col2im(View cols, Out x, const Im2colDims& d) {
  if (x.size() == 0) return;
  with_float(x.dtype, [&](auto type) {
    with_width(x, cols, d, [&](auto width) {
      using T = decltype(type);
      using I = decltype(width);
      constexpr int kChannels = static_cast<int>(kSector / int64_t{sizeof(T)});
      if (d.c % kChannels == 0 && on_border(x.data))
        add_columns<kChannels, I>(cols.as<T>(), x.as<T>(), d);
      else
        add_columns<1, I>(cols.as<T>(), x.as<T>(), d);
    });
  });
}

FASTDL_REGISTER(im2col)
FASTDL_REGISTER(col2im)

}  // namespace fastdl::cuda::gpu
