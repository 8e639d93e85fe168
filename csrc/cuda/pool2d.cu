// Pooling on channels-last images: a thread per pack of channels of one window or pixel, bound by memory.
//
// Every element is written once. Backward, where windows are disjoint and small, a thread spreads its window over the
// pixels from there to the next window; elsewhere the pixels of dx gather from the windows that hold them, four pixels
// a thread for 3 x 3 taps 2 apart, else one, and dy and the offsets are read again from the caches.
#include <initializer_list>
#include <limits>

#include "cuda/pool2d_backward.h"

namespace fastdl::cuda::gpu {

namespace {

constexpr int64_t kMostOfCell = 16;  // pixels that a thread writes

// Divisions of 32 bits take a fraction of the time: calls f(I{}) with them where every product below fits.
template <class F>
void with_width(const Pool2dDims& d, int64_t input_elements, int64_t output_elements, const F& f) {
  constexpr int64_t kMost = int64_t{1} << 30;
  const auto fits = [](const PoolAxis& a) { return a.taps * a.dilation <= 2 * a.size; };
  const bool small = input_elements < kMost && output_elements < kMost && fits(d.rows) && fits(d.columns);
  small&& d.rows.taps* d.columns.taps < kMost ? f(std::int32_t{}) : f(int64_t{});
}

// Windows of kSide x kSide taps, all of them inside, are unrolled.
template <int kSide, class I, class T, class Offset>
struct MaxForward {
  Images<I> windows;
  const T* x;
  T* y;
  Offset* offsets;

  template <int N>
  FASTDL_DEVICE_ONLY void run(int64_t i, Nothing) const {
    const Region<I> region(windows, i);
    Pack<Wide<T>, N> best = filled<N>(-std::numeric_limits<Wide<T>>::infinity());
    Pack<I, N> winner = filled<N>(region.rows.count > 0 && region.columns.count > 0 ? region.first_tap : I(0));
    const auto see = [&](I down, I right, I tap, bool first) {
      const Pack<Wide<T>, N> v = load_wide<N>(x + region.at(down, right));
      for (int k = 0; k < N; ++k) {
        const bool larger = first || v.v[k] > best.v[k] || v.v[k] != v.v[k];  // a NaN beats all before it
        best.v[k] = larger ? v.v[k] : best.v[k];
        winner.v[k] = larger ? tap : winner.v[k];
      }
    };
    constexpr int kUnrolled = N > 1 ? kSide : 0;
    if (kUnrolled > 0 && region.is_square(kUnrolled))
      region.template each_of_square<kUnrolled>(
          [&](I down, I right) { see(down, right, down * kUnrolled + right, down + right == 0); });
    else
      region.each([&](I down, I right) { see(down, right, region.tap(down, right), false); });
    store_rounded(y + i, best);
    store_pack(offsets + i, narrowed<Offset>(winner));
  }

 private:
  template <class O, int N>
  FASTDL_DEVICE_ONLY static Pack<O, N> narrowed(const Pack<I, N>& pack) {
    Pack<O, N> narrow;
    for (int k = 0; k < N; ++k) narrow.v[k] = static_cast<O>(pack.v[k]);
    return narrow;
  }
};

template <class I, class T>
struct AverageForward {
  using W = Wide<T>;
  Images<I> windows;
  Shares shares;
  const T* x;
  T* y;

  template <int N>
  FASTDL_DEVICE_ONLY void run(int64_t i, Nothing) const {
    const Region<I> region(windows, i);
    const W share = static_cast<W>(shares.of(region.row, region.column));
    Pack<W, N> sum = {};
    for (I down = 0; down < region.rows.count; ++down) {
      Pack<W, N> line = {};  // row by row, so that errors grow with the sides and not with the area
      for (I right = 0; right < region.columns.count; ++right) {
        const Pack<W, N> v = load_wide<N>(x + region.at(down, right));
        for (int k = 0; k < N; ++k) line.v[k] += v.v[k];
      }
      for (int k = 0; k < N; ++k) sum.v[k] += line.v[k];
    }
    for (int k = 0; k < N; ++k) sum.v[k] *= share;
    store_rounded(y + i, sum);
  }
};

template <class I, class Offset>
struct Indices {
  Images<I> windows;
  DividerOf<I> taps_in_row;
  I row_dilation, column_dilation;
  const Offset* offsets;
  int64_t* indices;

  FASTDL_DEVICE_ONLY void operator()(int64_t at) const {
    const Region<I> region(windows, at);
    const I tap = static_cast<I>(offsets[at]), i = taps_in_row(tap), j = tap - i * windows.taps_in_row;
    const I h = region.rows.first + (i - region.rows.tap) * row_dilation;
    const I w = region.columns.first + (j - region.columns.tap) * column_dilation;
    const bool inside = h >= 0 && h < windows.other_rows && w >= 0 && w < windows.other_columns;
    indices[at] = inside ? int64_t{h} * windows.other_columns + w : -1;
  }
};

template <class F>
void with_offsets(DType dtype, const F& f) {
  if (dtype == DType::u8)
    f(std::uint8_t{});
  else
    f(std::int32_t{});
}

// Calls f(T{}, I{}) for the image x and what comes of its windows, y.
template <class F>
void with_kind(const View& x, const View& y, const Pool2dDims& d, const F& f) {
  with_any_float(x.dtype, [&](auto type) { with_width(d, x.size(), y.size(), [&](auto width) { f(type, width); }); });
}

// Are an image's channels whole packs in every array?
template <class T>
bool are_packed(const View& image, std::initializer_list<const void*> arrays) {
  bool packed = image.shape[1] % kPack<T> == 0;
  for (const void* array : arrays) packed = packed && on_border(array);
  return packed;
}

// f.run<N> over the elements of an image, N channels together where that goes.
template <class T, class F>
void over_image(const View& image, std::initializer_list<const void*> arrays, const F& f) {
  for_packs<kPack<T>>(image.size(), are_packed<T>(image, arrays), PrepareNothing{}, f);
}

// Calls f(side) where all windows have side x side taps and kernels that know it are worth it, else f(0).
template <bool kWorth, class F>
void with_square(const Pool2dDims& d, const F& f) {
  if constexpr (kWorth) {
    const int64_t side = d.rows.taps == d.columns.taps ? d.rows.taps : 0;
    if (side == 2) return f(std::integral_constant<int, 2>{});
    if (side == 3) return f(std::integral_constant<int, 3>{});
  }
  f(std::integral_constant<int, 0>{});
}
template <class I>
inline constexpr bool kNarrow = sizeof(I) == sizeof(std::int32_t);

// shares: room for the host's, until a kernel is launched.
Shares shares_of(const Pool2dDims& d, std::vector<double>& shares) {
  shares.assign(d.rows.share, d.rows.share + d.rows.windows);
  shares.insert(shares.end(), d.columns.share, d.columns.share + d.columns.windows);
  const double* const there = resident(shares.data(), static_cast<int64_t>(shares.size()));
  return {there, there + d.rows.windows};
}

// arrays: dx and what source reads.
template <class I, class T, bool kWorth, class Source>
void backward(const View& dy, const View& dx, const Pool2dDims& d, std::initializer_list<const void*> arrays,
              const Source& source) {
  const int64_t channels = dy.shape[1], taps_in_row = d.columns.taps;
  if (d.rows.disjoint && d.columns.disjoint) {
    Side<I> rows = cells_of<I>(d.rows);
    const Side<I> columns = cells_of<I>(d.columns);
    if (longest(rows) * longest(columns) <= kMostOfCell)
      return with_square<kWorth>(d, [&](auto side) {
        const Images<I> windows(rows, columns, channels, taps_in_row);
        over_image<T>(dy, arrays, Spread<side.value, I, T, Source>{windows, source, dx.as<T>()});
      });
  }
  if constexpr (kWorth)
    if (in_twos(d.rows) && in_twos(d.columns)) {
      const GatherTwos<T, Source> gather(d, channels, source, dx.as<T>());
      const int64_t cells = dx.shape[0] * gather.cells(d.rows) * gather.cells(d.columns);
      return for_packs<kPack<T>>(cells * channels, are_packed<T>(dx, arrays), PrepareNothing{}, gather);
    }
  Side<I> rows = windows_of<I>(d.rows);
  const Images<I> pixels(rows, windows_of<I>(d.columns), channels, taps_in_row);
  over_image<T>(dx, arrays, Gather<I, T, Source>{pixels, source, dx.as<T>()});
}

}  // namespace

void max_pool2d_forward(View x, Out y, Out offsets, const Pool2dDims& d) {
  if (y.size() == 0) return;
  with_kind(x, y, d, [&](auto type, auto width) {
    with_offsets(offsets.dtype, [&](auto offset) {
      using T = decltype(type);
      using I = decltype(width);
      using Offset = decltype(offset);
      Side<I> rows = taps_of<I>(d.rows);
      const Images<I> windows(rows, taps_of<I>(d.columns), x.shape[1], d.columns.taps);
      with_square<kNarrow<I> && sizeof(Offset) == 1>(d, [&](auto side) {
        over_image<T>(y, {x.data, y.data, offsets.data},
                      MaxForward<side.value, I, T, Offset>{windows, x.as<T>(), y.as<T>(), offsets.as<Offset>()});
      });
    });
  });
}

void max_pool2d_backward(View dy, View offsets, View y, Out dx, const Pool2dDims& d) {
  if (dx.size() == 0) return;
  with_kind(dx, dy, d, [&](auto type, auto width) {
    with_offsets(offsets.dtype, [&](auto offset) {
      using T = decltype(type);
      using I = decltype(width);
      using Offset = decltype(offset);
      const Won<T, Offset> source{dy.as<T>(), offsets.as<Offset>(), y ? y.as<T>() : nullptr};
      backward<I, T, kNarrow<I> && sizeof(Offset) == 1>(dy, dx, d, {dy.data, offsets.data, y.data, dx.data}, source);
    });
  });
}

void max_pool2d_indices(View offsets, Out indices, const Pool2dDims& d) {
  if (offsets.size() == 0) return;
  const int64_t image = d.rows.size * d.columns.size;
  with_width(d, image, offsets.size(), [&](auto width) {
    with_offsets(offsets.dtype, [&](auto offset) {
      using I = decltype(width);
      using Offset = decltype(offset);
      Side<I> rows = taps_of<I>(d.rows);
      const Images<I> windows(rows, taps_of<I>(d.columns), offsets.shape[1], d.columns.taps);
      for_each(offsets.size(),
               Indices<I, Offset>{windows, DividerOf<I>(d.columns.taps), static_cast<I>(d.rows.dilation),
                                  static_cast<I>(d.columns.dilation), offsets.as<Offset>(), indices.as<int64_t>()});
    });
  });
}

void avg_pool2d_forward(View x, Out y, const Pool2dDims& d) {
  if (y.size() == 0) return;
  std::vector<double> shares;
  with_kind(x, y, d, [&](auto type, auto width) {
    using T = decltype(type);
    using I = decltype(width);
    Side<I> rows = taps_of<I>(d.rows);
    const Images<I> windows(rows, taps_of<I>(d.columns), x.shape[1], d.columns.taps);
    over_image<T>(y, {x.data, y.data}, AverageForward<I, T>{windows, shares_of(d, shares), x.as<T>(), y.as<T>()});
  });
}

void avg_pool2d_backward(View dy, Out dx, const Pool2dDims& d) {
  if (dx.size() == 0) return;
  std::vector<double> shares;
  with_kind(dx, dy, d, [&](auto type, auto width) {
    using T = decltype(type);
    using I = decltype(width);
    backward<I, T, kNarrow<I>>(dy, dx, d, {dy.data, dx.data}, Share<T>{dy.as<T>(), shares_of(d, shares)});
  });
}

FASTDL_REGISTER(max_pool2d_forward)
FASTDL_REGISTER(max_pool2d_backward)
FASTDL_REGISTER(max_pool2d_indices)
FASTDL_REGISTER(avg_pool2d_forward)
FASTDL_REGISTER(avg_pool2d_backward)

}  // namespace fastdl::cuda::gpu
