// Dropout: a thread makes the words of its elements, four at a time, and compares them as integers; no mask is stored.
#include "core/dropout.h"

#include "cuda/map.h"
#include "cuda/philox_words.h"

namespace fastdl::cuda::gpu {

namespace {

template <class T>
struct Drop {
  using W = Wide<T>;
  PhiloxStream stream;
  PhiloxKeys keys;
  std::uint32_t bound;
  W scale;
  const T* x;
  T* y;
  template <int N>
  FASTDL_DEVICE_ONLY void run(int64_t i, Nothing) const {
    constexpr int kTogether = N < kPhiloxBlock ? N : kPhiloxBlock;
    Pack<W, N> v = load_wide<N>(x + i);
    for (int first = 0; first < N; first += kTogether) {
      const Words words = philox_words(stream, keys, i + first);
      for (int k = 0; k < kTogether; ++k) v.v[first + k] *= word_of<kTogether>(words, i, k) < bound ? scale : W(0);
    }
    store_rounded(y + i, v);
  }
};

template <class T>
struct Zero {
  FASTDL_BOTH T operator()(T) const { return T(0); }
};
template <class T>
struct Same {
  FASTDL_BOTH T operator()(T x) const { return x; }
};

}  // namespace

void dropout(View x_, double p, PhiloxStream stream, Out y_) {
  const int64_t n = x_.size();
  const double bound = __builtin_floor((1 - p) * 4294967296.0);
  with_any_float(x_.dtype, [&](auto type) {
    using T = decltype(type);
    constexpr int N = kPack<T> < kPhiloxBlock ? kPhiloxBlock : kPack<T>;
    const T* x = x_.as<T>();
    T* y = y_.as<T>();
    if (p == 1) return map(n, y, Zero<Wide<T>>{}, x);
    if (bound >= 4294967296.0) {  // p so small that 1 - p is 1: every word is below
      if (x != y) map(n, y, Same<Wide<T>>{}, x);
      return;
    }
    for_packs<N>(n, on_border(x) && on_border(y), PrepareNothing{},
                 Drop<T>{stream, PhiloxKeys(stream.seed), static_cast<std::uint32_t>(bound),
                         static_cast<Wide<T>>(1 / (1 - p)), x, y});
  });
}

FASTDL_REGISTER(dropout)

}  // namespace fastdl::cuda::gpu
