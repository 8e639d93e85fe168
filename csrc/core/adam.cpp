#include "core/adam.h"

namespace fastdl {

void check_adam_step(const View& param, const View& grad, const View& exp_avg, const View& exp_avg_sq,
                     const View& max_exp_avg_sq, const AdamHyper& hyper) {
  const char* kernel = "adam_step";
  check::apart(kernel, {{"param", param},
                        {"grad", grad},
                        {"exp_avg", exp_avg},
                        {"exp_avg_sq", exp_avg_sq},
                        {"max_exp_avg_sq", max_exp_avg_sq}});
  check::number(kernel, "lr", hyper.lr);
  check::number(kernel, "beta1", hyper.beta1, 0, 1, true);
  check::number(kernel, "beta2", hyper.beta2, 0, 1, true);
  check::number(kernel, "eps", hyper.eps, 0);
  check::number(kernel, "weight_decay", hyper.weight_decay, 0);
  check::number(kernel, "step", hyper.step, 1);
}

}  // namespace fastdl
