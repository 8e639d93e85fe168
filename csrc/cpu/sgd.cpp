// SGD: one pass that reads param, grad and buf and writes param and buf; bound by memory.
#include "core/sgd.h"

#include "cpu/stepping.h"

namespace fastdl::cpu::FASTDL_ISA {

namespace {

template <SgdKind kind, bool nesterov, bool decay, class T>
void run(View param, View grad, View buf, const SgdHyper& hyper) {
  const SgdFactors<T> factors(hyper);
  const int64_t n = param.shape[0];
  const Out<T> p{param.as<T>()};
  const In<T> g{grad.as<T>()};
  if constexpr (kind == SgdKind::kPlain) {
    for_each_vector<T>(
        n,
        [&](Vec<T>& x, Vec<T> dx) {
          Vec<T> none;
          sgd_element<kind, nesterov, decay>(x, dx, none, factors);
        },
        p, g);
  } else if constexpr (kind == SgdKind::kFirst) {
    for_each_vector<T>(
        n, [&](Vec<T>& x, Vec<T> dx, Vec<T>& b) { sgd_element<kind, nesterov, decay>(x, dx, b, factors); }, p, g,
        Fresh<T>{buf.as<T>()});
  } else {
    for_each_vector<T>(
        n, [&](Vec<T>& x, Vec<T> dx, Vec<T>& b) { sgd_element<kind, nesterov, decay>(x, dx, b, factors); }, p, g,
        Out<T>{buf.as<T>()});
  }
}

}  // namespace

void sgd_step(InOut param, View grad, InOut buf, fastdl::Out rounded, const SgdHyper& hyper) {
  with_float(param.dtype, [&](auto type) {
    using T = decltype(type);
    with_flag(hyper.weight_decay != 0, [&](auto decay) {
      constexpr bool d = decltype(decay)::yes;
      if (hyper.momentum == 0) return run<SgdKind::kPlain, false, d, T>(param, grad, buf, hyper);
      with_flag(hyper.nesterov, [&](auto nesterov) {
        constexpr bool n = decltype(nesterov)::yes;
        if (hyper.step == 1)
          run<SgdKind::kFirst, n, d, T>(param, grad, buf, hyper);
        else
          run<SgdKind::kMomentum, n, d, T>(param, grad, buf, hyper);
      });
    });
  });
  round_to(rounded, param);
}

FASTDL_REGISTER(sgd_step)

}  // namespace fastdl::cpu::FASTDL_ISA
