#include "core/adam.h"

#include "cuda/math.h"
#include "cuda/stepping.h"

namespace fastdl::cuda::gpu {

namespace {

template <AdamDecay decay, bool amsgrad, class T>
struct Adam {
  T *param, *exp_avg, *exp_avg_sq, *max_exp_avg_sq;
  const T* grad;
  Rounded rounded;

  template <int N>
  FASTDL_DEVICE_ONLY void run(int64_t i, const AdamFactors<T>& factors) const {
    Pack<T, N> p = load_pack<N>(param + i), m = load_pack<N>(exp_avg + i), v = load_pack<N>(exp_avg_sq + i);
    Pack<T, N> w = load_state<amsgrad, N>(max_exp_avg_sq, i);
    const Pack<T, N> g = load_pack<N>(grad + i);
    for (int k = 0; k < N; ++k)
      adam_element<decay, amsgrad>(p.v[k], g.v[k], m.v[k], v.v[k], w.v[k], factors,
                                   [](T x) { return Math<T>::root(x); });
    store_pack(param + i, p);
    rounded.store(i, p);
    store_pack(exp_avg + i, m);
    store_pack(exp_avg_sq + i, v);
    store_state<amsgrad>(max_exp_avg_sq, i, w);
  }
};

template <AdamDecay decay, bool amsgrad, class T>
void step(View param, View grad, View exp_avg, View exp_avg_sq, View max_exp_avg_sq, View rounded,
          const AdamHyper& hyper) {
  for_packs<kPack<T>>(param.shape[0], packed<T>({param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq, rounded}),
                      Prepare<AdamFactors<T>, AdamHyper>{hyper},
                      Adam<decay, amsgrad, T>{param.as<T>(),
                                              exp_avg.as<T>(),
                                              exp_avg_sq.as<T>(),
                                              max_exp_avg_sq.as<T>(),
                                              grad.as<T>(),
                                              {rounded.as<bfloat16>()}});
}

}  // namespace

void adam_step(InOut param, View grad, InOut exp_avg, InOut exp_avg_sq, InOut max_exp_avg_sq, Out rounded,
               const AdamHyper& hyper) {
  with_float(param.dtype, [&](auto type) {
    using T = decltype(type);
    with_flag(static_cast<bool>(max_exp_avg_sq), [&](auto amsgrad) {
      constexpr bool a = decltype(amsgrad)::value;
      if (hyper.weight_decay == 0)
        step<AdamDecay::kNone, a, T>(param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq, rounded, hyper);
      else if (hyper.decoupled)
        step<AdamDecay::kDecoupled, a, T>(param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq, rounded, hyper);
      else
        step<AdamDecay::kGradient, a, T>(param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq, rounded, hyper);
    });
  });
}

FASTDL_REGISTER(adam_step)

}  // namespace fastdl::cuda::gpu
