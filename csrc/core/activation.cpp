#include "core/activation.h"

namespace fastdl {

using namespace check;

void check_activation_backward(const char* kernel, const View& dy, const char* name, const View& x) {
  like(kernel, "dy", dy, name, x);
  shape(kernel, "dy", dy, x.shape, x.ndim);
}

void check_softplus(const char* kernel, double beta, double threshold) {
  number(kernel, "beta", beta);
  if (beta <= 0) fail_value(kernel, "beta must be positive, got " + to_string(beta));
  number(kernel, "threshold", threshold);
}

bool check_gelu(const char* kernel, const std::string& approximate) {
  choice(kernel, "approximate", approximate, {"none", "tanh"});
  return approximate == "tanh";
}

}  // namespace fastdl
