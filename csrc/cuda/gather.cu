// Gathers rows and converts them in one pass: a thread per element of y in the order of memory, or per pack of four
// where samples are contiguous on both sides and share their constants.
#include "core/gather.h"

#include <vector>

#include "cuda/map.h"

namespace fastdl::cuda::gpu {

namespace {

template <class From, class To>
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

// The axes of a sample by falling stride of y, which is dense: where data has an element, and which constants it takes.
struct Sample {
  int ndim = 0;
  int64_t elements = 1, shape[kMaxDims] = {}, from[kMaxDims] = {}, constant[kMaxDims] = {};

  FASTDL_BOTH void find(int64_t i, int64_t& source, int64_t& channel) const {
    source = channel = 0;
    for (int d = ndim - 1; d >= 0; --d) {
      const int64_t rest = i / shape[d], position = i - rest * shape[d];
      source += position * from[d];
      channel += position * constant[d];
      i = rest;
    }
  }
};

Sample sample_of(const View& data, const View& y, bool per_channel) {
  Sample s;
  int64_t to[kMaxDims] = {};
  for (int d = 1; d < data.ndim; ++d) {
    s.elements *= data.shape[d];
    if (data.shape[d] == 1) continue;
    int i = s.ndim++;
    for (; i > 0 && to[i - 1] < y.strides[d]; --i) {
      to[i] = to[i - 1];
      s.shape[i] = s.shape[i - 1];
      s.from[i] = s.from[i - 1];
      s.constant[i] = s.constant[i - 1];
    }
    to[i] = y.strides[d];
    s.shape[i] = data.shape[d];
    s.from[i] = data.strides[d];
    s.constant[i] = d == 1 && per_channel ? 1 : 0;
  }
  int last = 0;  // neighbours that data and constants walk through evenly become one
  for (int d = 1; d < s.ndim; ++d) {
    if (s.from[last] == s.from[d] * s.shape[d] && s.constant[last] == s.constant[d] * s.shape[d])
      s.shape[last] *= s.shape[d];
    else
      s.shape[++last] = s.shape[d];
    s.from[last] = s.from[d];
    s.constant[last] = s.constant[d];
  }
  if (s.ndim > 0) s.ndim = last + 1;
  return s;
}

template <class From, class To, class C>
struct Gather {
  Sample sample;
  const From* data;
  int64_t rows, row_stride;
  const int64_t* index;
  const C *factor, *shift;
  To* y;

  template <int N>
  FASTDL_DEVICE_ONLY void run(int64_t i, Nothing) const {
    const int64_t b = i / sample.elements, at = i - b * sample.elements;
    if (index[b] < 0 || index[b] >= rows) return store_pack(y + i, filled<N>(not_a_number<To>()));
    const From* const row = data + index[b] * row_stride;
    int64_t source = at, channel = 0;
    if constexpr (N == 1) sample.find(at, source, channel);
    const Pack<From, N> in = load_pack<N>(row + source);
    const C f = factor[channel], s = shift[channel];
    Pack<To, N> out;
    for (int k = 0; k < N; ++k) out.v[k] = static_cast<To>(static_cast<C>(in.v[k]) * f + s);
    store_pack(y + i, out);
  }
};

template <class From, class To>
void gather(const View& data, const View& index, const GatherMap& map, const View& y) {
  using C = typename Wider<From, To>::type;
  constexpr int N = 4;
  const int64_t channels = map.per_channel && data.ndim > 1 ? data.shape[1] : 1;
  if (y.size() == 0) return;
  const std::vector<C> factor(map.factor, map.factor + channels), shift(map.shift, map.shift + channels);
  const Sample s = sample_of(data, y, map.per_channel);
  const bool contiguous = s.ndim == 1 && s.from[0] == 1 && s.constant[0] == 0;
  const bool packed = contiguous && s.elements % N == 0 && data.strides[0] % N == 0 && on_border(data.as<From>()) &&
                      on_border(y.as<To>());
  for_packs<N>(y.size(), packed, PrepareNothing{},
               Gather<From, To, C>{s, data.as<From>(), data.shape[0], data.strides[0], index.as<int64_t>(),
                                   resident(factor.data(), channels), resident(shift.data(), channels), y.as<To>()});
}

}  // namespace

void gather_batch(View data, View index, const GatherMap& map, Out y) {
  with_float(y.dtype, [&](auto type) {
    using To = decltype(type);
    switch (data.dtype) {
      case DType::u8:
        return gather<std::uint8_t, To>(data, index, map, y);
      case DType::f32:
        return gather<float, To>(data, index, map, y);
      default:
        return gather<double, To>(data, index, map, y);
    }
  });
}

FASTDL_REGISTER(gather_batch)

}  // namespace fastdl::cuda::gpu
