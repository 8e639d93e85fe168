// Pooling on channels-last images, vectorised over channels, bound by memory: x is read once, y and offsets or dx are
// written once.
//
// Backward kernels gather: each pixel of dx sums over the windows that hold it, so that tasks never meet. Where windows
// are disjoint, the usual case, one window is loaded and its pixels of the row are stored without sums.
// The last block of channels overlaps the one before instead of being partial; fewer channels than a vector holds go
// one by one.
#include "core/pool2d.h"

#include "core/activation_math.h"
#include "cpu/pool_pairs.h"

namespace fastdl::cpu::FASTDL_ISA {

namespace {

constexpr double kNsPerByte = 0.05;
constexpr int64_t kTaskBytes = 16384;

enum class Order { kForth, kBack };

// f(image, row) for all rows of all images, in groups that are worth a hand-off. Backward kernels begin with the last:
// what made dy has just left its end in the cache, and what reads dx finds the beginning there.
template <Order order = Order::kForth, class F>
void over_rows(int64_t images, int64_t rows, int64_t row_bytes, const F& f) {
  if (row_bytes == 0) return;
  const int64_t group = max_of(1, kTaskBytes / row_bytes), total = images * rows;
  const double cost = kNsPerByte * static_cast<double>(group * row_bytes);
  parallel_tasks(ceil_div(total, group), cost, order == Order::kBack, [&](int64_t task) {
    const int64_t end = min_of(total, (task + 1) * group);
    for (int64_t i = task * group; i < end; ++i) f(i / rows, i % rows);
  });
}

// The taps of one window that lie in the image, and where.
struct Taps {
  int64_t at;      // of the first, in elements from the image's start
  int64_t number;  // of the first: i * kw + j
  int64_t rows, columns, row_step, column_step;
};

FASTDL_INLINE Taps taps_of(const Pool2dDims& d, int64_t oh, int64_t ow, int64_t channels) {
  const PoolAxis &r = d.rows, &c = d.columns;
  const int64_t i = r.tap_first[oh], j = c.tap_first[ow];
  Taps t;
  t.at = ((r.start[oh] + i * r.dilation) * c.size + c.start[ow] + j * c.dilation) * channels;
  t.number = i * c.taps + j;
  t.rows = r.tap_last[oh] - i;
  t.columns = c.tap_last[ow] - j;
  t.row_step = r.dilation * c.size * channels;
  t.column_step = c.dilation * channels;
  return t;
}

// The maximum of one window for all channels. kRows and kColumns fix the window's size, 0 leaves it open. The quick
// form returns a sum that is NaN if a tap was; then the careful form has to be used, in which a NaN beats all before
// it.
template <class L, bool kCareful, int kRows, int kColumns, class T, class O>
FASTDL_INLINE typename L::Value max_window(const T* x, const Taps& t, int64_t kw, int64_t channels, T* y, O* offsets) {
  const int64_t rows = kRows > 0 ? kRows : t.rows, columns = kColumns > 0 ? kColumns : t.columns;
  typename L::Value poison = L::all(0);
  over_channels<L>(channels, [&](int64_t c) {
    const T* from = x + t.at + c;
    typename L::Value best = L::read(from), sum = L::all(0);
    typename L::Mark winner = L::mark(t.number);
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < columns; ++j) {
        const typename L::Value v = L::read(from + i * t.row_step + j * t.column_step);
        const typename L::Mark tap = L::mark(t.number + i * kw + j);
        if constexpr (kCareful) {
          winner = (v > best) | (v != v) ? tap : winner;
          best = (v > best) | (v != v) ? v : best;
        } else {
          winner = v > best ? tap : winner;
          best = v > best ? v : best;
          sum += v;
        }
      }
    L::write(y + c, best);
    L::write_mark(offsets + c, winner);
    poison += sum;
  });
  return poison;
}

template <class L, bool kCareful, class T, class O>
bool max_row(const T* x, int64_t oh, const Pool2dDims& d, int64_t channels, T* y, O* offsets) {
  typename L::Value poison = L::all(0);
  const int64_t kw = d.columns.taps;
  for (int64_t ow = 0; ow < d.columns.windows; ++ow, y += channels, offsets += channels) {
    const Taps t = taps_of(d, oh, ow, channels);
    if (t.rows == 2 && t.columns == 2) {
      poison += max_window<L, kCareful, 2, 2>(x, t, kw, channels, y, offsets);
    } else if (t.rows == 3 && t.columns == 3) {
      poison += max_window<L, kCareful, 3, 3>(x, t, kw, channels, y, offsets);
    } else if (t.rows > 0 && t.columns > 0) {
      poison += max_window<L, kCareful, 0, 0>(x, t, kw, channels, y, offsets);
    } else {
      for (int64_t c = 0; c < channels; ++c) {
        y[c] = -static_cast<T>(__builtin_inf());
        offsets[c] = 0;
      }
    }
  }
  return L::any_nan(poison);
}

template <class L, class T, class O>
void max_forward(View x, View y, View offsets, const Pool2dDims& d) {
  const int64_t channels = x.shape[1], in_row = d.columns.size * channels, in = d.rows.size * in_row;
  const int64_t out_row = d.columns.windows * channels, out = d.rows.windows * out_row;
  const int64_t row_bytes = in / max_of(d.rows.windows, 1) * static_cast<int64_t>(sizeof(T)) + out_row;
  const bool pairs = sizeof(O) == 1 && in_pairs(d.rows) && in_pairs(d.columns);
  over_rows(x.shape[0], d.rows.windows, row_bytes, [&](int64_t n, int64_t oh) {
    const T* image = x.as<T>() + n * in;
    const int64_t at = n * out + oh * out_row;
    bool nan;
    if (pairs)
      nan = max_of_pairs(image + 2 * oh * in_row, in_row, d.columns.windows, channels, y.as<T>() + at,
                         offsets.as<std::uint8_t>() + at);
    else
      nan = max_row<L, false>(image, oh, d, channels, y.as<T>() + at, offsets.as<O>() + at);
    if (nan) max_row<L, true>(image, oh, d, channels, y.as<T>() + at, offsets.as<O>() + at);
  });
}

// What a window gives to the pixel under one of its taps: dy where that tap won (kRelu: and a ReLU let x through, which
// the largest shows for its window), or an equal share of dy.
template <class L, bool kRelu, class T, class O>
struct Won {
  const T* dy;
  const O* offsets;
  const T* y;
  FASTDL_INLINE void skip(int64_t count) {
    dy += count;
    offsets += count;
    if constexpr (kRelu) y += count;
  }
  struct Block {
    typename L::Value dy;
    typename L::Mark winner;
    FASTDL_INLINE typename L::Value at(int64_t tap) const { return winner == L::mark(tap) ? dy : L::all(0); }
  };
  FASTDL_INLINE Block block(int64_t at, double) const {
    typename L::Value d = L::read(dy + at);
    if constexpr (kRelu) d = activation::relu_backward(d, L::read(y + at));
    return {d, L::read_mark(offsets + at)};
  }
};

template <class L, class T>
struct Share {
  const T* dy;
  FASTDL_INLINE void skip(int64_t count) { dy += count; }
  struct Block {
    typename L::Value share;
    FASTDL_INLINE typename L::Value at(int64_t) const { return share; }
  };
  FASTDL_INLINE Block block(int64_t at, double share) const {
    return {L::read(dy + at) * L::all(static_cast<T>(share))};
  }
};

template <class T>
FASTDL_INLINE void zero_pixels(T* dx, int64_t count) {
  if (count > 0) __builtin_memset(dx, 0, static_cast<std::size_t>(count) * sizeof(T));
}

// One row of dx where no pixel lies in two windows: window by window, with the gaps between them.
template <class L, int kColumns, class T, class Source>
void disjoint_row(const Source& source, int64_t oh, int64_t tap_row, const Pool2dDims& d, int64_t channels, T* dx) {
  const PoolAxis& c = d.columns;
  int64_t filled = 0;
  for (int64_t ow = 0; ow < c.windows; ++ow) {
    const int64_t j0 = c.tap_first[ow], j1 = kColumns > 0 ? kColumns : c.tap_last[ow], w0 = c.start[ow];
    if (j1 <= j0) continue;
    zero_pixels(dx + filled * channels, (w0 + j0 - filled) * channels);
    filled = w0 + j1;
    const int64_t at = (oh * c.windows + ow) * channels;
    const double share = d.rows.share[oh] * c.share[ow];
    over_channels<L>(channels, [&](int64_t channel) {
      const auto block = source.block(at + channel, share);
      for (int64_t j = kColumns > 0 ? 0 : j0; j < j1; ++j)
        L::write(dx + (w0 + j) * channels + channel, block.at(tap_row * c.taps + j));
    });
  }
  zero_pixels(dx + filled * channels, (c.size - filled) * channels);
}

// A window that holds the pixel at hand: where its dy is, and under which tap the pixel lies.
struct Holder {
  int64_t at, tap;
  double share;
};

// One row of dx, pixel by pixel over all windows that hold it; `holders` has room for those.
template <class L, class T, class Source>
void overlapping_row(const Source& source, int64_t h, const Pool2dDims& d, int64_t channels, Holder* holders, T* dx) {
  const PoolAxis &r = d.rows, &c = d.columns;
  for (int64_t w = 0; w < c.size; ++w, dx += channels) {
    int64_t count = 0;
    for (int64_t oh = r.over_first[h]; oh < r.over_last[h]; ++oh) {
      const int64_t down = h - r.start[oh], i = r.dilation == 1 ? down : down / r.dilation;
      if (i * r.dilation != down) continue;
      for (int64_t ow = c.over_first[w]; ow < c.over_last[w]; ++ow) {
        const int64_t right = w - c.start[ow], j = c.dilation == 1 ? right : right / c.dilation;
        if (j * c.dilation != right) continue;
        holders[count++] = {(oh * c.windows + ow) * channels, i * c.taps + j, r.share[oh] * c.share[ow]};
      }
    }
    over_channels<L>(channels, [&](int64_t channel) {
      typename L::Value sum = L::all(0);
      for (int64_t k = 0; k < count; ++k)
        sum += source.block(holders[k].at + channel, holders[k].share).at(holders[k].tap);
      L::write(dx + channel, sum);
    });
  }
}

// The most windows that a pixel of this axis can lie in.
FASTDL_INLINE int64_t most_holders(const PoolAxis& axis) {
  int64_t most = 0;
  for (int64_t i = 0; i < axis.size; ++i) most = max_of(most, axis.over_last[i] - axis.over_first[i]);
  return most;
}

template <class L, class T, class Source>
void backward(const Source& source, int64_t images, int64_t channels, T* dx, const Pool2dDims& d) {
  const PoolAxis &r = d.rows, &c = d.columns;
  const int64_t row = c.size * channels, out = r.windows * c.windows * channels;
  const bool disjoint = r.disjoint && c.disjoint;
  // Pairs of columns, all of them inside: the row in which the compiler may unroll the taps.
  const bool twos = c.taps == 2 && c.windows > 0 && c.tap_first[0] == 0 && c.tap_last[c.windows - 1] == 2;
  const int64_t most = disjoint ? 0 : most_holders(r) * most_holders(c);
  over_rows<Order::kBack>(images, r.size, row * static_cast<int64_t>(sizeof(T)), [&](int64_t n, int64_t h) {
    T* to = dx + (n * r.size + h) * row;
    Source from = source;
    from.skip(n * out);
    const int64_t oh = r.over_first[h];
    if (r.over_last[h] <= oh) {
      zero_pixels(to, row);
    } else if (!disjoint) {
      Scratch<Holder> holders(most);
      overlapping_row<L>(from, h, d, channels, static_cast<Holder*>(holders), to);
    } else if (twos) {
      disjoint_row<L, 2>(from, oh, h - r.start[oh], d, channels, to);
    } else {
      disjoint_row<L, 0>(from, oh, h - r.start[oh], d, channels, to);
    }
  });
}

template <class L, class T>
void average_forward(View x, View y, const Pool2dDims& d) {
  const int64_t channels = x.shape[1], in_row = d.columns.size * channels, in = d.rows.size * in_row;
  const int64_t out_row = d.columns.windows * channels;
  const int64_t row_bytes = (in / max_of(d.rows.windows, 1) + out_row) * static_cast<int64_t>(sizeof(T));
  over_rows(x.shape[0], d.rows.windows, row_bytes, [&](int64_t n, int64_t oh) {
    const T* image = x.as<T>() + n * in;
    T* to = y.as<T>() + (n * d.rows.windows + oh) * out_row;
    for (int64_t ow = 0; ow < d.columns.windows; ++ow, to += channels) {
      const Taps t = taps_of(d, oh, ow, channels);
      const auto share = L::all(static_cast<T>(d.rows.share[oh] * d.columns.share[ow]));
      over_channels<L>(channels, [&](int64_t c) {
        const T* from = image + t.at + c;
        auto sum = L::all(0);
        for (int64_t i = 0; i < t.rows; ++i) {
          auto line = L::all(0);  // row by row, so that errors grow with the sides and not with the area
          for (int64_t j = 0; j < t.columns; ++j) line += L::read(from + i * t.row_step + j * t.column_step);
          sum += line;
        }
        L::write(to + c, sum * share);
      });
    }
  });
}

template <bool kRelu, class T>
void pairs_backward(View dy, View offsets, View y, View dx, const Pool2dDims& d) {
  const int64_t channels = dy.shape[1], windows = d.columns.windows, out_row = windows * channels;
  const int64_t row = d.columns.size * channels, covered = 2 * out_row;
  over_rows<Order::kBack>(
      dy.shape[0], d.rows.windows, 2 * row * static_cast<int64_t>(sizeof(T)), [&](int64_t n, int64_t oh) {
        const int64_t at = (n * d.rows.windows + oh) * out_row;
        const T* from = dy.as<T>() + at;
        const std::uint8_t* winners = offsets.as<std::uint8_t>() + at;
        T* to = dx.as<T>() + (n * d.rows.size + 2 * oh) * row;
        spread_to_pairs<kRelu>(from, winners, kRelu ? y.as<T>() + at : nullptr, row, windows, channels, to);
        zero_pixels(to + covered, row - covered);
        zero_pixels(to + row + covered, row - covered);
        if (oh + 1 == d.rows.windows) zero_pixels(to + 2 * row, (d.rows.size - 2 * d.rows.windows) * row);
      });
}

// Calls f(T{}, lanes) with vectors if there are channels to fill one.
template <class F>
FASTDL_INLINE void with_lanes(DType dtype, int64_t channels, F&& f) {
  with_float(dtype, [&](auto type) {
    using T = decltype(type);
    if (channels >= kLanes<T>)
      f(type, Marked<T, true>{});
    else
      f(type, Marked<T, false>{});
  });
}

template <class F>
FASTDL_INLINE void with_offsets(DType dtype, F&& f) {
  if (dtype == DType::u8)
    f(std::uint8_t{});
  else
    f(std::int32_t{});
}

}  // namespace

void max_pool2d_forward(View x, Out y, Out offsets, const Pool2dDims& d) {
  with_lanes(x.dtype, x.shape[1], [&](auto type, auto lanes) {
    with_offsets(offsets.dtype, [&](auto offset) {
      max_forward<decltype(lanes), decltype(type), decltype(offset)>(x, y, offsets, d);
    });
  });
}

void max_pool2d_backward(View dy, View offsets, View y, Out dx, const Pool2dDims& d) {
  const bool pairs = offsets.dtype == DType::u8 && d.rows.windows > 0 && in_pairs(d.rows) && in_pairs(d.columns);
  const auto run = [&](auto relu) {
    with_lanes(dy.dtype, dy.shape[1], [&](auto type, auto lanes) {
      using T = decltype(type);
      if (pairs) return pairs_backward<relu.value, T>(dy, offsets, y, dx, d);
      with_offsets(offsets.dtype, [&](auto offset) {
        using O = decltype(offset);
        const Won<decltype(lanes), relu.value, T, O> source{dy.as<T>(), offsets.as<O>(), y.as<T>()};
        backward<decltype(lanes)>(source, dy.shape[0], dy.shape[1], dx.as<T>(), d);
      });
    });
  };
  if (y)
    run(std::true_type{});
  else
    run(std::false_type{});
}

void max_pool2d_indices(View offsets, Out indices, const Pool2dDims& d) {
  const int64_t channels = offsets.shape[1], row = d.columns.windows * channels;
  const PoolAxis &r = d.rows, &c = d.columns;
  with_offsets(offsets.dtype, [&](auto offset) {
    using O = decltype(offset);
    over_rows(offsets.shape[0], r.windows, row * 40, [&](int64_t n, int64_t oh) {
      const int64_t at = (n * r.windows + oh) * row;
      const O* from = offsets.as<O>() + at;
      int64_t* to = indices.as<int64_t>() + at;
      const auto kw = static_cast<std::uint32_t>(c.taps);
      for (int64_t ow = 0; ow < c.windows; ++ow)
        for (int64_t channel = 0; channel < channels; ++channel) {
          const auto tap = static_cast<std::uint32_t>(*from++);
          const int64_t h = r.start[oh] + tap / kw * r.dilation, w = c.start[ow] + tap % kw * c.dilation;
          *to++ = h >= 0 && h < r.size && w >= 0 && w < c.size ? h * c.size + w : -1;
        }
    });
  });
}

void avg_pool2d_forward(View x, Out y, const Pool2dDims& d) {
  with_lanes(x.dtype, x.shape[1],
             [&](auto type, auto lanes) { average_forward<decltype(lanes), decltype(type)>(x, y, d); });
}

void avg_pool2d_backward(View dy, Out dx, const Pool2dDims& d) {
  with_lanes(dy.dtype, dy.shape[1], [&](auto type, auto lanes) {
    using T = decltype(type);
    const Share<decltype(lanes), T> source{dy.as<T>()};
    backward<decltype(lanes)>(source, dy.shape[0], dy.shape[1], dx.as<T>(), d);
  });
}

FASTDL_REGISTER(max_pool2d_forward)
FASTDL_REGISTER(max_pool2d_backward)
FASTDL_REGISTER(max_pool2d_indices)
FASTDL_REGISTER(avg_pool2d_forward)
FASTDL_REGISTER(avg_pool2d_backward)

}  // namespace fastdl::cpu::FASTDL_ISA
