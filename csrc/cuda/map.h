// y[i] = f(x[i], ...) over flat arrays, a pack of elements per thread; y may be one of the x. f gets bfloat16 as float.
// Bound by memory.
#pragma once
#include "cuda/launch.h"

namespace fastdl::cuda::gpu {

struct Nothing {};
struct PrepareNothing {
  FASTDL_BOTH Nothing operator()() const { return {}; }
};

template <class Y, class F, class X>
struct Map1 {
  Y* y;
  const X* x;
  F f;
  template <int N>
  FASTDL_DEVICE_ONLY void run(int64_t i, Nothing) const {
    const Pack<Wide<X>, N> a = load_wide<N>(x + i);
    Pack<Wide<Y>, N> out;
    for (int k = 0; k < N; ++k) out.v[k] = static_cast<Wide<Y>>(f(a.v[k]));
    store_rounded(y + i, out);
  }
};

template <class Y, class F, class A, class B>
struct Map2 {
  Y* y;
  const A* a;
  const B* b;
  F f;
  template <int N>
  FASTDL_DEVICE_ONLY void run(int64_t i, Nothing) const {
    const Pack<Wide<A>, N> u = load_wide<N>(a + i);
    const Pack<Wide<B>, N> v = load_wide<N>(b + i);
    Pack<Wide<Y>, N> out;
    for (int k = 0; k < N; ++k) out.v[k] = static_cast<Wide<Y>>(f(u.v[k], v.v[k]));
    store_rounded(y + i, out);
  }
};

template <class Y, class F, class X>
void map(int64_t n, Y* y, const F& f, const X* x) {
  for_packs<kPack<X>>(n, on_border(y) && on_border(x), PrepareNothing{}, Map1<Y, F, X>{y, x, f});
}
template <class Y, class F, class A, class B>
void map(int64_t n, Y* y, const F& f, const A* a, const B* b) {
  for_packs<kPack<A>>(n, on_border(y) && on_border(a) && on_border(b), PrepareNothing{}, Map2<Y, F, A, B>{y, a, b, f});
}

}  // namespace fastdl::cuda::gpu
