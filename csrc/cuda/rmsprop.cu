#include "core/rmsprop.h"

#include "cuda/math.h"
#include "cuda/stepping.h"

namespace fastdl::cuda::gpu {

namespace {

template <bool centered, bool momentum, bool decay, class T>
struct Rmsprop {
  T *param, *square_avg, *grad_avg, *buf;
  const T* grad;
  Rounded rounded;

  template <int N>
  FASTDL_DEVICE_ONLY void run(int64_t i, const RmspropFactors<T>& factors) const {
    Pack<T, N> p = load_pack<N>(param + i), s = load_pack<N>(square_avg + i);
    Pack<T, N> a = load_state<centered, N>(grad_avg, i), b = load_state<momentum, N>(buf, i);
    const Pack<T, N> g = load_pack<N>(grad + i);
    for (int k = 0; k < N; ++k)
      rmsprop_element<centered, momentum, decay>(p.v[k], g.v[k], s.v[k], a.v[k], b.v[k], factors,
                                                 [](T x) { return Math<T>::root(x); });
    store_pack(param + i, p);
    rounded.store(i, p);
    store_pack(square_avg + i, s);
    store_state<centered>(grad_avg, i, a);
    store_state<momentum>(buf, i, b);
  }
};

}  // namespace

void rmsprop_step(InOut param, View grad, InOut square_avg, InOut grad_avg, InOut buf, Out rounded,
                  const RmspropHyper& hyper) {
  with_float(param.dtype, [&](auto type) {
    using T = decltype(type);
    with_flag(static_cast<bool>(grad_avg), [&](auto centered) {
      with_flag(hyper.momentum != 0, [&](auto momentum) {
        with_flag(hyper.weight_decay != 0, [&](auto decay) {
          for_packs<kPack<T>>(param.shape[0], packed<T>({param, grad, square_avg, grad_avg, buf, rounded}),
                              Prepare<RmspropFactors<T>, RmspropHyper>{hyper},
                              Rmsprop<decltype(centered)::value, decltype(momentum)::value, decltype(decay)::value, T>{
                                  param.as<T>(),
                                  square_avg.as<T>(),
                                  grad_avg.as<T>(),
                                  buf.as<T>(),
                                  grad.as<T>(),
                                  {rounded.as<bfloat16>()}});
        });
      });
    });
  });
}

FASTDL_REGISTER(rmsprop_step)

}  // namespace fastdl::cuda::gpu
