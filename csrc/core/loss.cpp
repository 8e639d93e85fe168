#include "core/loss.h"

namespace fastdl {

using namespace check;

void check_loss(const char* kernel, const View& x, const View& target) {
  like(kernel, "target", target, "x", x);
  shape(kernel, "target", target, x.shape, x.ndim);
}

void check_loss_gradient(const char* kernel, const View& dloss, const View& x, Reduction reduction) {
  like(kernel, "dloss", dloss, "x", x);
  shape(kernel, "dloss", dloss, x.shape, reduction == Reduction::none ? x.ndim : 0);
}

void check_bce_weights(const char* kernel, const View& x, const View& weight, const View& pos_weight) {
  like(kernel, "weight", weight, "x", x);
  shape(kernel, "weight", weight, x.shape, x.ndim);
  like(kernel, "pos_weight", pos_weight, "x", x);
  if (!pos_weight) return;
  const std::int64_t* last = x.shape + (x.ndim > 0 ? x.ndim - 1 : 0);
  const int last_ndim = x.ndim > 0 ? 1 : 0;
  bool fits = pos_weight.ndim == x.ndim;
  for (int d = 0; fits && d < x.ndim; ++d) fits = pos_weight.shape[d] == x.shape[d];
  if (pos_weight.ndim == 1 && (pos_weight.shape[0] == 1 || (last_ndim == 1 && pos_weight.shape[0] == *last)))
    fits = true;
  if (!fits)
    fail_value(kernel, "pos_weight must have shape " + shape_string(x) + ", " + shape_string(last, last_ndim) +
                           " or (1,), got " + shape_string(pos_weight));
}

}  // namespace fastdl
