// Terms of the element-wise losses and their slopes, one element or one vector V of them; M as in activation_math.h.
#pragma once
#include "core/view.h"

namespace fastdl::loss {

template <class V>
FASTDL_BOTH V mse(V x, V target) {
  const V difference = x - target;
  return difference * difference;
}
template <class V>
FASTDL_BOTH V mse_slope(V x, V target) {
  return (x - target) * 2;
}

template <class V>
FASTDL_BOTH V l1(V x, V target) {
  const V difference = x - target;
  return difference < 0 ? -difference : difference;
}
template <class V>
FASTDL_BOTH V l1_slope(V x, V target) {
  const V difference = x - target, one = V{} + 1;
  return difference > 0 ? one : difference < 0 ? -one : difference;  // 0 stays 0, NaN stays NaN
}

// (1 - t) x + (1 + (p - 1) t) softplus(-x)
template <class M, class V>
FASTDL_BOTH V bce(V x, V target, V pos_weight) {
  return (1 - target) * x + (1 + (pos_weight - 1) * target) * M::softplus(-x);
}
template <class M, class V>
FASTDL_BOTH V bce_slope(V x, V target, V pos_weight) {
  return (1 - target) - (1 + (pos_weight - 1) * target) * M::sigmoid(-x);
}

}  // namespace fastdl::loss
