// Gathers rows and converts them in one pass, bound by the writes of y: each element is read once, written once.
//
// A sample is seen as [c][s], c channels of s elements, in whatever order source and destination hold it. Loops are
// plain and left to the compiler, which turns them into conversions and fused multiply-adds of whole vectors; colour
// images, whose three planes interleave on the way to channels-last, go pixel by pixel.
#include "core/gather.h"

#include "cpu/simd.h"

namespace fastdl::cpu::FASTDL_ISA {

namespace {

constexpr double kNsPerElement = 0.3;
constexpr int64_t kTaskElements = 8192;

template <class In, class Out>
struct Wider {
  using type = double;
};
template <>
struct Wider<std::uint8_t, float> {
  using type = float;
};
template <>
struct Wider<float, float> {
  using type = float;
};

// to[i * to_step] = from[i * from_step] * factor + shift
template <class In, class Out, class C>
FASTDL_INLINE void convert(const In* __restrict from, int64_t from_step, Out* __restrict to, int64_t to_step,
                           int64_t count, C factor, C shift) {
  if (from_step == 1 && to_step == 1)
    for (int64_t i = 0; i < count; ++i) to[i] = static_cast<Out>(static_cast<C>(from[i]) * factor + shift);
  else
    for (int64_t i = 0; i < count; ++i)
      to[i * to_step] = static_cast<Out>(static_cast<C>(from[i * from_step]) * factor + shift);
}

// The same over channels, with a factor for each.
template <class In, class Out, class C>
FASTDL_INLINE void convert_channels(const In* __restrict from, int64_t from_step, Out* __restrict to, int64_t to_step,
                                    int64_t count, const C* __restrict factor, const C* __restrict shift) {
  if (from_step == 1 && to_step == 1)
    for (int64_t i = 0; i < count; ++i) to[i] = static_cast<Out>(static_cast<C>(from[i]) * factor[i] + shift[i]);
  else
    for (int64_t i = 0; i < count; ++i)
      to[i * to_step] = static_cast<Out>(static_cast<C>(from[i * from_step]) * factor[i] + shift[i]);
}

// A sample's axes behind the channel: [c][outer ...][inner], inner being as long as both sides' strides allow.
struct Sample {
  int64_t channels, from_channel, to_channel;
  int ndim;  // of the axes below, at least 1
  int64_t shape[kMaxDims], from[kMaxDims], to[kMaxDims];
  int64_t elements;
};

Sample sample_of(const View& data, const View& y) {
  Sample s{};
  s.channels = data.ndim > 1 ? data.shape[1] : 1;
  s.from_channel = data.ndim > 1 ? data.strides[1] : 1;
  s.to_channel = data.ndim > 1 ? y.strides[1] : 1;
  s.shape[0] = s.from[0] = s.to[0] = s.ndim = 1;
  for (int d = 2; d < data.ndim; ++d) {
    if (data.shape[d] == 1) continue;
    const int last = s.ndim - 1;
    if (s.shape[last] == 1 ||
        (s.from[last] == data.strides[d] * data.shape[d] && s.to[last] == y.strides[d] * data.shape[d])) {
      s.shape[last] *= data.shape[d];
    } else {
      s.shape[s.ndim++] = data.shape[d];
    }
    s.from[s.ndim - 1] = data.strides[d];
    s.to[s.ndim - 1] = y.strides[d];
  }
  s.elements = s.channels;
  for (int d = 0; d < s.ndim; ++d) s.elements *= s.shape[d];
  return s;
}

// One inner run of a sample, all channels.
template <class In, class Out, class C>
FASTDL_INLINE void convert_run(const Sample& s, const In* from, Out* to, const C* factor, const C* shift) {
  const int inner = s.ndim - 1;
  const int64_t count = s.shape[inner], f = s.from[inner], t = s.to[inner];
  if (s.channels == 3 && t == 3 && s.to_channel == 1 && f == 1) {
    const In *r = from, *g = from + s.from_channel, *b = from + 2 * s.from_channel;
    for (int64_t i = 0; i < count; ++i) {
      to[3 * i] = static_cast<Out>(static_cast<C>(r[i]) * factor[0] + shift[0]);
      to[3 * i + 1] = static_cast<Out>(static_cast<C>(g[i]) * factor[1] + shift[1]);
      to[3 * i + 2] = static_cast<Out>(static_cast<C>(b[i]) * factor[2] + shift[2]);
    }
  } else if (count >= s.channels) {
    for (int64_t c = 0; c < s.channels; ++c)
      convert(from + c * s.from_channel, f, to + c * s.to_channel, t, count, factor[c], shift[c]);
  } else {
    for (int64_t i = 0; i < count; ++i)
      convert_channels(from + i * f, s.from_channel, to + i * t, s.to_channel, s.channels, factor, shift);
  }
}

// Rows lie anywhere in memory: the next is asked for while one is converted.
FASTDL_INLINE void prefetch(const void* row, int64_t bytes) {
  constexpr int64_t kLine = 64, kAhead = 4096;
  for (int64_t at = 0; at < min_of(bytes, kAhead); at += kLine) __builtin_prefetch(static_cast<const char*>(row) + at);
}

template <class In, class Out>
void gather(const View& data, const View& index, const GatherMap& map, const View& y) {
  using C = typename Wider<In, Out>::type;
  const Sample s = sample_of(data, y);
  if (s.elements == 0) return;
  Scratch<C> factor(s.channels), shift(s.channels);
  for (int64_t c = 0; c < s.channels; ++c) {
    factor[c] = static_cast<C>(map.factor[map.per_channel ? c : 0]);
    shift[c] = static_cast<C>(map.shift[map.per_channel ? c : 0]);
  }
  int64_t runs = 1;
  for (int d = 0; d + 1 < s.ndim; ++d) runs *= s.shape[d];
  const bool dense = data.strides[0] == s.elements;
  const int64_t batch = index.shape[0], group = max_of(1, kTaskElements / s.elements);
  parallel_for(ceil_div(batch, group), kNsPerElement * static_cast<double>(group * s.elements), [&](int64_t task) {
    const int64_t end = min_of(batch, (task + 1) * group);
    for (int64_t b = task * group; b < end; ++b) {
      const In* from = data.as<In>() + index.as<int64_t>()[b] * data.strides[0];
      if (b + 1 < batch && dense)
        prefetch(data.as<In>() + index.as<int64_t>()[b + 1] * data.strides[0],
                 s.elements * static_cast<int64_t>(sizeof(In)));
      Out* to = y.as<Out>() + b * y.strides[0];
      for (int64_t run = 0; run < runs; ++run) {
        int64_t rest = run, from_at = 0, to_at = 0;
        for (int d = s.ndim - 2; d >= 0; --d) {
          from_at += rest % s.shape[d] * s.from[d];
          to_at += rest % s.shape[d] * s.to[d];
          rest /= s.shape[d];
        }
        convert_run<In, Out, C>(s, from + from_at, to + to_at, factor, shift);
      }
    }
  });
}

}  // namespace

void gather_batch(View data, View index, const GatherMap& map, Out y) {
  with_float(y.dtype, [&](auto type) {
    using Out = decltype(type);
    switch (data.dtype) {
      case DType::u8:
        return gather<std::uint8_t, Out>(data, index, map, y);
      case DType::f32:
        return gather<float, Out>(data, index, map, y);
      default:
        return gather<double, Out>(data, index, map, y);
    }
  });
}

FASTDL_REGISTER(gather_batch)

}  // namespace fastdl::cpu::FASTDL_ISA
