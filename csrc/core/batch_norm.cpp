#include "core/batch_norm.h"

namespace fastdl {

using namespace check;

void check_batch_norm_input(const char* kernel, const char* name, const View& x) {
  if (x.ndim < 2 || x.ndim > 4)
    fail_value(kernel, std::string(name) +
                           " must have 2, 3 or 4 dimensions (N, C), (N, C, L) or (N, C, H, W), got shape " +
                           shape_string(x));
}

void check_per_channel(const char* kernel, const char* name, const View& value, const View& x) {
  like_wide(kernel, name, value, "x", x);
  shape(kernel, name, value, {x.shape[1]});
}

void check_batch_norm_gradient(const char* kernel, const View& dy, const View& x) {
  check_batch_norm_input(kernel, "x", x);
  check_like_input(kernel, "dy", dy, x);
}

void check_like_input(const char* kernel, const char* name, const View& value, const View& x) {
  like(kernel, name, value, "x", x);
  shape(kernel, name, value, x.shape, x.ndim);
}

}  // namespace fastdl
