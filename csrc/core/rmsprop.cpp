#include "core/rmsprop.h"

namespace fastdl {

void check_rmsprop_step(const View& param, const View& grad, const View& square_avg, const View& grad_avg,
                        const View& buf, const RmspropHyper& hyper) {
  const char* kernel = "rmsprop_step";
  check::apart(kernel,
               {{"param", param}, {"grad", grad}, {"square_avg", square_avg}, {"grad_avg", grad_avg}, {"buf", buf}});
  check::number(kernel, "lr", hyper.lr);
  check::number(kernel, "alpha", hyper.alpha, 0, 1);
  check::number(kernel, "eps", hyper.eps, 0);
  check::number(kernel, "weight_decay", hyper.weight_decay, 0);
  check::number(kernel, "momentum", hyper.momentum, 0);
}

}  // namespace fastdl
