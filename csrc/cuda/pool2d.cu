// Pooling on channels-last images: a thread per pack of channels of one output, bound by memory.
//
// Backward kernels gather: each pixel of dx sums over the windows that hold it, so that nothing is added twice in
// memory and every element is written once; dy and the offsets are read again from the caches. The tables of windows
// (core/pool2d.h) lie on the device.
#include "core/pool2d.h"

#include <limits>

#include "core/activation_math.h"
#include "cuda/map.h"

namespace fastdl::cuda::gpu {

namespace {

// A PoolAxis whose tables the device can read, with numbers of type I.
template <class I>
struct Axis {
  I size, windows, taps, dilation;
  const int64_t *start, *tap_first, *tap_last, *over_first, *over_last;
  const double* share;
};

template <class I>
struct Dims {
  Axis<I> rows, columns;
};

// All tables lie in one block, which begins with those of the rows.
template <class I>
Dims<I> on_device(const Pool2dDims& d) {
  const auto entries = [](const PoolAxis& axis) { return 4 * axis.windows + 2 * axis.size; };
  const int64_t* const from = d.rows.start;
  const int64_t* const to = resident(from, entries(d.rows) + entries(d.columns));
  const auto moved = [&](const PoolAxis& a) {
    const auto* const share = reinterpret_cast<const int64_t*>(a.share);
    return Axis<I>{static_cast<I>(a.size),    static_cast<I>(a.windows),
                   static_cast<I>(a.taps),    static_cast<I>(a.dilation),
                   to + (a.start - from),     to + (a.tap_first - from),
                   to + (a.tap_last - from),  to + (a.over_first - from),
                   to + (a.over_last - from), reinterpret_cast<const double*>(to + (share - from))};
  };
  return {moved(d.rows), moved(d.columns)};
}

// Divisions of 32 bits take a fraction of the time: calls f(I{}) with them where every product below fits.
template <class F>
void with_width(const Pool2dDims& d, int64_t input_elements, int64_t output_elements, const F& f) {
  constexpr int64_t kMost = int64_t{1} << 30;
  const auto fits = [](const PoolAxis& a) { return a.taps * a.dilation <= 2 * a.size; };
  const bool small = input_elements < kMost && output_elements < kMost && fits(d.rows) && fits(d.columns);
  small&& d.rows.taps* d.columns.taps < kMost ? f(std::int32_t{}) : f(int64_t{});
}

// An element of an image [n, rows, columns, channels], or the first of a pack.
template <class I>
struct Place {
  I n, row, column, channel;

  FASTDL_BOTH Place(int64_t at, I rows, I columns, I channels) {
    const I i = static_cast<I>(at), pixel = i / channels, line = pixel / columns;
    channel = i - pixel * channels;
    column = pixel - line * columns;
    n = line / rows;
    row = line - n * rows;
  }
};

// The taps of a window that lie in the image, and where the first one's channel at hand is.
template <class I>
struct Taps {
  I at, number, rows, columns, row_step, column_step;

  FASTDL_BOTH Taps(const Dims<I>& d, const Place<I>& p, I channels) {
    const Axis<I>&r = d.rows, &c = d.columns;
    const I i = static_cast<I>(r.tap_first[p.row]), j = static_cast<I>(c.tap_first[p.column]);
    const I h = static_cast<I>(r.start[p.row]) + i * r.dilation, w = static_cast<I>(c.start[p.column]) + j * c.dilation;
    at = ((p.n * r.size + h) * c.size + w) * channels + p.channel;
    number = i * c.taps + j;  // i * kw + j
    rows = static_cast<I>(r.tap_last[p.row]) - i;
    columns = static_cast<I>(c.tap_last[p.column]) - j;
    row_step = r.dilation * c.size * channels;
    column_step = c.dilation * channels;
  }
};

template <class I, class T, class Offset>
struct MaxForward {
  Dims<I> d;
  I channels;
  const T* x;
  T* y;
  Offset* offsets;

  template <int N>
  FASTDL_DEVICE_ONLY void run(int64_t i, Nothing) const {
    const Taps<I> t(d, Place<I>(i, d.rows.windows, d.columns.windows, channels), channels);
    Pack<T, N> best;
    Pack<Offset, N> winner;
    const bool inside = t.rows > 0 && t.columns > 0;
    if (inside) best = load_pack<N>(x + t.at);
    for (int k = 0; k < N; ++k) {
      if (!inside) best.v[k] = static_cast<T>(-std::numeric_limits<Wide<T>>::infinity());
      winner.v[k] = static_cast<Offset>(inside ? t.number : 0);
    }
    for (I row = 0; row < t.rows; ++row)
      for (I column = 0; column < t.columns; ++column) {
        const Pack<T, N> v = load_pack<N>(x + t.at + row * t.row_step + column * t.column_step);
        const auto tap = static_cast<Offset>(t.number + row * d.columns.taps + column);
        for (int k = 0; k < N; ++k)
          if (v.v[k] > best.v[k] || v.v[k] != v.v[k]) {  // a NaN beats all before it
            best.v[k] = v.v[k];
            winner.v[k] = tap;
          }
      }
    store_pack(y + i, best);
    store_pack(offsets + i, winner);
  }
};

template <class I, class T>
struct AverageForward {
  using W = Wide<T>;
  Dims<I> d;
  I channels;
  const T* x;
  T* y;

  template <int N>
  FASTDL_DEVICE_ONLY void run(int64_t i, Nothing) const {
    const Place<I> p(i, d.rows.windows, d.columns.windows, channels);
    const Taps<I> t(d, p, channels);
    const W share = static_cast<W>(d.rows.share[p.row] * d.columns.share[p.column]);
    Pack<W, N> sum = {};
    for (I row = 0; row < t.rows; ++row) {
      Pack<W, N> line = {};  // row by row, so that errors grow with the sides and not with the area
      for (I column = 0; column < t.columns; ++column) {
        const Pack<W, N> v = load_wide<N>(x + t.at + row * t.row_step + column * t.column_step);
        for (int k = 0; k < N; ++k) line.v[k] += v.v[k];
      }
      for (int k = 0; k < N; ++k) sum.v[k] += line.v[k];
    }
    for (int k = 0; k < N; ++k) sum.v[k] *= share;
    store_rounded(y + i, sum);
  }
};

// What a window gives to the pixel under one of its taps: dy where that tap won (with y: and a ReLU let x through,
// which the largest shows for its window), or an equal share of dy.
template <class T, class Offset>
struct Won {
  using W = Wide<T>;
  const T* dy;
  const Offset* offsets;
  const T* y;

  template <int N>
  FASTDL_DEVICE_ONLY void add(int64_t at, int64_t tap, double, Pack<W, N>& sum) const {
    const Pack<Offset, N> winner = load_pack<N>(offsets + at);
    Pack<W, N> v = load_wide<N>(dy + at);
    if (y != nullptr) {
      const Pack<W, N> largest = load_wide<N>(y + at);
      for (int k = 0; k < N; ++k) v.v[k] = activation::relu_backward(v.v[k], largest.v[k]);
    }
    for (int k = 0; k < N; ++k) sum.v[k] += static_cast<int64_t>(winner.v[k]) == tap ? v.v[k] : W(0);
  }
};

template <class T>
struct Share {
  using W = Wide<T>;
  const T* dy;

  template <int N>
  FASTDL_DEVICE_ONLY void add(int64_t at, int64_t, double share, Pack<W, N>& sum) const {
    const Pack<W, N> v = load_wide<N>(dy + at);
    for (int k = 0; k < N; ++k) sum.v[k] += v.v[k] * static_cast<W>(share);
  }
};

// The tap of window o over this pixel, or -1 between two taps.
template <class I>
FASTDL_BOTH I tap_over(const Axis<I>& axis, I pixel, I o) {
  const I distance = pixel - static_cast<I>(axis.start[o]);
  if (axis.dilation == 1) return distance;
  const I tap = distance / axis.dilation;
  return tap * axis.dilation == distance ? tap : -1;
}

template <class I, class T, class Source>
struct Backward {
  Dims<I> d;
  I channels;
  Source source;
  T* dx;

  template <int N>
  FASTDL_DEVICE_ONLY void run(int64_t at, Nothing) const {
    const Axis<I>&r = d.rows, &c = d.columns;
    const Place<I> p(at, r.size, c.size, channels);
    const I row_last = static_cast<I>(r.over_last[p.row]), column_last = static_cast<I>(c.over_last[p.column]);
    Pack<Wide<T>, N> sum = {};
    for (I oh = static_cast<I>(r.over_first[p.row]); oh < row_last; ++oh) {
      const I i = tap_over(r, p.row, oh);
      if (i < 0) continue;
      for (I ow = static_cast<I>(c.over_first[p.column]); ow < column_last; ++ow) {
        const I j = tap_over(c, p.column, ow);
        if (j < 0) continue;
        const I window = ((p.n * r.windows + oh) * c.windows + ow) * channels + p.channel;
        source.template add<N>(window, i * c.taps + j, r.share[oh] * c.share[ow], sum);
      }
    }
    store_rounded(dx + at, sum);
  }
};

template <class I, class Offset>
struct Indices {
  Dims<I> d;
  I channels;
  const Offset* offsets;
  int64_t* indices;

  FASTDL_DEVICE_ONLY void operator()(int64_t at) const {
    const Axis<I>&r = d.rows, &c = d.columns;
    const Place<I> p(at, r.windows, c.windows, channels);
    const I tap = offsets[at], i = tap / c.taps, j = tap - i * c.taps;
    const I h = static_cast<I>(r.start[p.row]) + i * r.dilation, w = static_cast<I>(c.start[p.column]) + j * c.dilation;
    indices[at] = h >= 0 && h < r.size && w >= 0 && w < c.size ? int64_t{h} * c.size + w : -1;
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

// f.run<N> over the elements of an image, N channels together where they are whole packs in every array.
template <class T, class F>
void over_image(const View& image, std::initializer_list<const void*> others, const F& f) {
  bool packed = image.shape[1] % kPack<T> == 0 && on_border(image.data);
  for (const void* other : others) packed = packed && on_border(other);
  for_packs<kPack<T>>(image.size(), packed, PrepareNothing{}, f);
}

}  // namespace

void max_pool2d_forward(View x, Out y, Out offsets, const Pool2dDims& d) {
  if (y.size() == 0) return;
  with_kind(x, y, d, [&](auto type, auto width) {
    with_offsets(offsets.dtype, [&](auto offset) {
      using T = decltype(type);
      using I = decltype(width);
      using Offset = decltype(offset);
      over_image<T>(y, {x.data, offsets.data},
                    MaxForward<I, T, Offset>{on_device<I>(d), static_cast<I>(x.shape[1]), x.as<T>(), y.as<T>(),
                                             offsets.as<Offset>()});
    });
  });
}

void max_pool2d_backward(View dy, View offsets, View y, Out dx, const Pool2dDims& d) {
  if (dx.size() == 0) return;
  with_kind(dx, dy, d, [&](auto type, auto width) {
    with_offsets(offsets.dtype, [&](auto offset) {
      using T = decltype(type);
      using I = decltype(width);
      using Source = Won<T, decltype(offset)>;
      const Source source{dy.as<T>(), offsets.as<decltype(offset)>(), y ? y.as<T>() : nullptr};
      over_image<T>(dx, {dy.data, offsets.data, y.data},
                    Backward<I, T, Source>{on_device<I>(d), static_cast<I>(dy.shape[1]), source, dx.as<T>()});
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
      for_each(offsets.size(), Indices<I, Offset>{on_device<I>(d), static_cast<I>(offsets.shape[1]),
                                                  offsets.as<Offset>(), indices.as<int64_t>()});
    });
  });
}

void avg_pool2d_forward(View x, Out y, const Pool2dDims& d) {
  if (y.size() == 0) return;
  with_kind(x, y, d, [&](auto type, auto width) {
    using T = decltype(type);
    using I = decltype(width);
    over_image<T>(y, {x.data}, AverageForward<I, T>{on_device<I>(d), static_cast<I>(x.shape[1]), x.as<T>(), y.as<T>()});
  });
}

void avg_pool2d_backward(View dy, Out dx, const Pool2dDims& d) {
  if (dx.size() == 0) return;
  with_kind(dx, dy, d, [&](auto type, auto width) {
    using T = decltype(type);
    using I = decltype(width);
    over_image<T>(dx, {dy.data},
                  Backward<I, T, Share<T>>{on_device<I>(d), static_cast<I>(dy.shape[1]), {dy.as<T>()}, dx.as<T>()});
  });
}

FASTDL_REGISTER(max_pool2d_forward)
FASTDL_REGISTER(max_pool2d_backward)
FASTDL_REGISTER(max_pool2d_indices)
FASTDL_REGISTER(avg_pool2d_forward)
FASTDL_REGISTER(avg_pool2d_backward)

}  // namespace fastdl::cuda::gpu
