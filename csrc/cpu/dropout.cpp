// Dropout: the words of some elements at a time in registers and L1, compared as integers; no mask is stored.
#include "core/dropout.h"

#include "cpu/philox_words.h"
#include "cpu/rows.h"

namespace fastdl::cpu::FASTDL_ISA {

namespace {

using philox::kWords;
constexpr int64_t kTaskWords = 128 * kWords;

// The words of kLanes<T> elements, widened to the size of T.
FASTDL_INLINE vmath::UInts<float> words_at(const std::uint32_t* words, float) {
  vmath::UInts<float> w;
  __builtin_memcpy(&w, words, sizeof w);
  return w;
}
FASTDL_INLINE vmath::UInts<double> words_at(const std::uint32_t* words, double) {
  typedef std::uint32_t Half __attribute__((vector_size(kVecBytes / 2)));
  Half w;
  __builtin_memcpy(&w, words, sizeof w);
  return __builtin_convertvector(w, vmath::UInts<double>);
}

template <class T>
FASTDL_INLINE void apply(const T* x, const std::uint32_t* words, std::uint32_t bound, T scale, int64_t count, T* y) {
  for_vectors<T>(0, count, [&](int64_t i, int64_t lanes) __attribute__((always_inline)) {
    const auto keep = words_at(words + i, T{}) < bound;
    store_up_to(y + i, load_up_to(x + i, lanes) * (keep ? splat(scale) : Vec<T>{}), lanes);
  });
}

}  // namespace

void dropout(View x_, double p, PhiloxStream stream, Out y_) {
  const int64_t n = x_.size();
  const double bound_exact = __builtin_floor((1 - p) * 4294967296.0);
  with_float(x_.dtype, [&](auto type) {
    using T = decltype(type);
    const T* x = x_.as<T>();
    T* y = y_.as<T>();
    if (p == 1) {
      for (int64_t i = 0; i < n; ++i) y[i] = 0;
      return;
    }
    if (bound_exact >= 4294967296.0) {  // p so small that 1 - p is 1: every word is below
      if (n > 0 && x != y) __builtin_memcpy(y, x, static_cast<std::size_t>(n) * sizeof(T));
      return;
    }
    const std::uint32_t bound = static_cast<std::uint32_t>(bound_exact);
    const T scale = static_cast<T>(1 / (1 - p));
    parallel_for(ceil_div(n, kTaskWords), 6.0 / philox::kLanes32 * static_cast<double>(min_of(n, kTaskWords)),
                 [&](int64_t task) {
                   const int64_t end = min_of(n, (task + 1) * kTaskWords);
                   for (int64_t e = task * kTaskWords; e < end; e += kWords) {
                     std::uint32_t words[kWords];
                     philox::make(stream, static_cast<std::uint64_t>(e / 4), words);
                     if (e + kWords <= end)
                       apply<T>(x + e, words, bound, scale, kWords, y + e);
                     else
                       apply<T>(x + e, words, bound, scale, end - e, y + e);
                   }
                 });
  });
}

FASTDL_REGISTER(dropout)

}  // namespace fastdl::cpu::FASTDL_ISA
