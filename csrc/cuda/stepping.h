// Optimizer steps: one launch over flat arrays, a pack of elements per thread. The factors (lr and the step count may
// lie in device memory) are computed once per block. Bound by memory.
#pragma once
#include "core/bfloat16.h"
#include "cuda/launch.h"

namespace fastdl::cuda::gpu {

// Factors<T>(hyper) on the device.
template <class Factors, class Hyper>
struct Prepare {
  Hyper hyper;
  FASTDL_BOTH Factors operator()() const { return Factors(hyper); }
};

// Calls f(std::bool_constant<flag>{}).
template <class F>
void with_flag(bool flag, const F& f) {
  flag ? f(std::true_type{}) : f(std::false_type{});
}

// A state array that may be absent: then neither read nor written.
template <bool present, int N, class T>
FASTDL_BOTH Pack<T, N> load_state(const T* p, int64_t i) {
  if constexpr (present)
    return load_pack<N>(p + i);
  else
    return {};
}
template <bool present, int N, class T>
FASTDL_BOTH void store_state(T* p, int64_t i, const Pack<T, N>& pack) {
  if constexpr (present) store_pack(p + i, pack);
}

// The copy of the weights in bfloat16 that products read, or none.
struct Rounded {
  bfloat16* data;

  template <int N, class T>
  FASTDL_DEVICE_ONLY void store(int64_t i, const Pack<T, N>& weights) const {
    if (data == nullptr) return;
    Pack<float, N> floats;
    for (int k = 0; k < N; ++k) floats.v[k] = static_cast<float>(weights.v[k]);
    store_rounded(data + i, floats);
  }
};

template <class T>
bool packed(std::initializer_list<View> arrays) {
  bool all = true;
  for (const View& x : arrays) all = all && (!x || on_border(x.as<T>()));
  return all;
}

}  // namespace fastdl::cuda::gpu
