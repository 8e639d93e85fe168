#include "core/softmax.h"

namespace fastdl {

using namespace check;

SoftmaxDims check_softmax(const char* kernel, const char* name, const View& x, std::int64_t axis_, const View& dy) {
  if (x.ndim == 0) fail_value(kernel, std::string(name) + " must have at least 1 dimension, got shape ()");
  const int a = axis(kernel, "axis", axis_, x.ndim);
  if (dy) {
    like(kernel, "dy", dy, name, x);
    shape(kernel, "dy", dy, x.shape, x.ndim);
  }
  const std::int64_t size = x.size(), n = x.shape[a];
  if (size == 0) return {0, n, 1};
  // In a dense array the stride of an axis is the size of what lies inside it; an axis of 1 has no stride to speak of.
  const std::int64_t inner = n == 1 ? size : x.strides[a];
  return {size / (n * inner), n, inner};
}

}  // namespace fastdl
