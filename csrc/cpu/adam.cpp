// Adam: one pass that reads four arrays and writes three (five and four with amsgrad); bound by memory, and in cache by
// the root and the division.
#include "core/adam.h"

#include "cpu/stepping.h"

namespace fastdl::cpu::FASTDL_ISA {

namespace {

template <AdamDecay decay, bool amsgrad, class T>
void run(View param, View grad, View exp_avg, View exp_avg_sq, View max_exp_avg_sq, const AdamHyper& hyper) {
  const AdamFactors<T> factors(hyper);
  const int64_t n = param.shape[0];
  const Out<T> p{param.as<T>()}, m{exp_avg.as<T>()}, v{exp_avg_sq.as<T>()}, w{max_exp_avg_sq.as<T>()};
  const In<T> g{grad.as<T>()};
  const auto element = [&](Vec<T>& x, Vec<T> dx, Vec<T>& mean, Vec<T>& square, Vec<T>& largest) {
    adam_element<decay, amsgrad>(x, dx, mean, square, largest, factors, [](Vec<T> y) { return square_root(y); });
  };
  if constexpr (amsgrad)
    for_each_vector<T>(n, element, p, g, m, v, w);
  else
    for_each_vector<T>(
        n,
        [&](Vec<T>& x, Vec<T> dx, Vec<T>& mean, Vec<T>& square) {
          Vec<T> none{};
          element(x, dx, mean, square, none);
        },
        p, g, m, v);
}

}  // namespace

void adam_step(InOut param, View grad, InOut exp_avg, InOut exp_avg_sq, InOut max_exp_avg_sq, fastdl::Out rounded,
               const AdamHyper& hyper) {
  with_float(param.dtype, [&](auto type) {
    using T = decltype(type);
    with_flag(static_cast<bool>(max_exp_avg_sq), [&](auto amsgrad) {
      constexpr bool a = decltype(amsgrad)::yes;
      if (hyper.weight_decay == 0)
        run<AdamDecay::kNone, a, T>(param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq, hyper);
      else if (hyper.decoupled)
        run<AdamDecay::kDecoupled, a, T>(param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq, hyper);
      else
        run<AdamDecay::kGradient, a, T>(param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq, hyper);
    });
  });
  round_to(rounded, param);
}

FASTDL_REGISTER(adam_step)

}  // namespace fastdl::cpu::FASTDL_ISA
