#include "core/linear.h"

namespace fastdl {

using namespace check;

namespace {

void check_shapes(const char* kernel, const View& x, const View& weight) {
  min_rank(kernel, "x", x, 1, "(..., I)");
  rank(kernel, "weight", weight, 2, "(O, I)");
  const std::int64_t features = x.shape[x.ndim - 1];
  if (features != weight.shape[1])
    fail_value(kernel, "weight expects " + std::to_string(weight.shape[1]) + " input features, x has " +
                           std::to_string(features) + " (x " + shape_string(x) + ", weight " + shape_string(weight) +
                           ")");
}

}  // namespace

void check_linear_forward(const View& x, const View& weight, const View& bias) {
  const char* kernel = "linear_forward";
  like(kernel, "weight", weight, "x", x);
  like(kernel, "bias", bias, "x", x);
  check_shapes(kernel, x, weight);
  shape(kernel, "bias", bias, {weight.shape[0]});
}

void check_linear_backward(const View& dy, const View& x, const View& weight) {
  const char* kernel = "linear_backward";
  like(kernel, "x", x, "dy", dy);
  like(kernel, "weight", weight, "dy", dy);
  check_shapes(kernel, x, weight);
  std::int64_t want[kMaxDims];
  for (int d = 0; d + 1 < x.ndim; ++d) want[d] = x.shape[d];
  want[x.ndim - 1] = weight.shape[0];
  shape(kernel, "dy", dy, want, x.ndim);
}

}  // namespace fastdl
