// RMSProp: one pass over param, grad and the states; bound by memory, and in cache by the root and the division.
#include "core/rmsprop.h"

#include "cpu/stepping.h"

namespace fastdl::cpu::FASTDL_ISA {

namespace {

template <bool centered, bool momentum, bool decay, class T>
void run(View param, View grad, View square_avg, View grad_avg, View buf, const RmspropHyper& hyper) {
  const RmspropFactors<T> factors(hyper);
  const int64_t n = param.shape[0];
  const Out<T> p{param.as<T>()}, s{square_avg.as<T>()}, a{grad_avg.as<T>()}, b{buf.as<T>()};
  const In<T> g{grad.as<T>()};
  const auto element = [&](Vec<T>& x, Vec<T> dx, Vec<T>& square, Vec<T>& average, Vec<T>& move) {
    rmsprop_element<centered, momentum, decay>(x, dx, square, average, move, factors,
                                               [](Vec<T> v) { return square_root(v); });
  };
  Vec<T> none{};
  if constexpr (centered && momentum)
    for_each_vector<T>(n, element, p, g, s, a, b);
  else if constexpr (centered)
    for_each_vector<T>(
        n, [&](Vec<T>& x, Vec<T> dx, Vec<T>& square, Vec<T>& average) { element(x, dx, square, average, none); }, p, g,
        s, a);
  else if constexpr (momentum)
    for_each_vector<T>(
        n, [&](Vec<T>& x, Vec<T> dx, Vec<T>& square, Vec<T>& move) { element(x, dx, square, none, move); }, p, g, s, b);
  else
    for_each_vector<T>(n, [&](Vec<T>& x, Vec<T> dx, Vec<T>& square) { element(x, dx, square, none, none); }, p, g, s);
}

}  // namespace

void rmsprop_step(InOut param, View grad, InOut square_avg, InOut grad_avg, InOut buf, fastdl::Out rounded,
                  const RmspropHyper& hyper) {
  with_float(param.dtype, [&](auto type) {
    with_flag(static_cast<bool>(grad_avg), [&](auto centered) {
      with_flag(hyper.momentum != 0, [&](auto momentum) {
        with_flag(hyper.weight_decay != 0, [&](auto decay) {
          run<decltype(centered)::yes, decltype(momentum)::yes, decltype(decay)::yes, decltype(type)>(
              param, grad, square_avg, grad_avg, buf, hyper);
        });
      });
    });
  });
  round_to(rounded, param);
}

FASTDL_REGISTER(rmsprop_step)

}  // namespace fastdl::cpu::FASTDL_ISA
