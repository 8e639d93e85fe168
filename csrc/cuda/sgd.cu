#include "core/sgd.h"

#include "cuda/stepping.h"

namespace fastdl::cuda::gpu {

namespace {

template <class T>
struct SgdStep {
  SgdFactors<T> factors;
  bool first;  // starts the buffer instead of reading it
  explicit FASTDL_BOTH SgdStep(const SgdHyper& h) : factors(h), first(static_cast<std::int64_t>(h.step) == 1) {}
};

template <bool momentum, bool nesterov, bool decay, class T>
struct Sgd {
  T *param, *buf;
  const T* grad;
  Rounded rounded;

  template <int N>
  FASTDL_DEVICE_ONLY void run(int64_t i, const SgdStep<T>& step) const {
    Pack<T, N> p = load_pack<N>(param + i), b{};
    const Pack<T, N> g = load_pack<N>(grad + i);
    if constexpr (!momentum) {
      for (int k = 0; k < N; ++k) sgd_element<SgdKind::kPlain, false, decay>(p.v[k], g.v[k], b.v[k], step.factors);
    } else if (step.first) {
      for (int k = 0; k < N; ++k) sgd_element<SgdKind::kFirst, nesterov, decay>(p.v[k], g.v[k], b.v[k], step.factors);
    } else {
      b = load_pack<N>(buf + i);
      for (int k = 0; k < N; ++k)
        sgd_element<SgdKind::kMomentum, nesterov, decay>(p.v[k], g.v[k], b.v[k], step.factors);
    }
    store_pack(param + i, p);
    rounded.store(i, p);
    store_state<momentum>(buf, i, b);
  }
};

}  // namespace

void sgd_step(InOut param, View grad, InOut buf, Out rounded, const SgdHyper& hyper) {
  with_float(param.dtype, [&](auto type) {
    using T = decltype(type);
    with_flag(hyper.momentum != 0, [&](auto momentum) {
      with_flag(hyper.nesterov, [&](auto nesterov) {
        with_flag(hyper.weight_decay != 0, [&](auto decay) {
          for_packs<kPack<T>>(param.shape[0], packed<T>({param, grad, buf, rounded}),
                              Prepare<SgdStep<T>, SgdHyper>{hyper},
                              Sgd<decltype(momentum)::value, decltype(nesterov)::value, decltype(decay)::value, T>{
                                  param.as<T>(), buf.as<T>(), grad.as<T>(), {rounded.as<bfloat16>()}});
        });
      });
    });
  });
}

FASTDL_REGISTER(sgd_step)

}  // namespace fastdl::cuda::gpu
