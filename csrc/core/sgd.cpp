#include "core/sgd.h"

namespace fastdl {

void check_sgd_step(const View& param, const View& grad, const View& buf, const SgdHyper& hyper) {
  const char* kernel = "sgd_step";
  check::apart(kernel, {{"param", param}, {"grad", grad}, {"buf", buf}});
  check::number(kernel, "lr", hyper.lr);
  check::number(kernel, "momentum", hyper.momentum, 0);
  check::number(kernel, "dampening", hyper.dampening);
  check::number(kernel, "weight_decay", hyper.weight_decay, 0);
}

}  // namespace fastdl
