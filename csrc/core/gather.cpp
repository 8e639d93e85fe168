#include "core/gather.h"

namespace fastdl {

using namespace check;

namespace {
constexpr const char* kKernel = "gather_batch";
}

void check_gather_data(const View& data) {
  if (data.ndim == 0) fail_value(kKernel, "data must have at least 1 dimension, got shape ()");
}

void check_gather_index(const View& index) { rank(kKernel, "index", index, 1, "(B,)"); }

void check_gather_constants(const char* name, const View& value, const View& data, bool nonzero) {
  const std::int64_t channels = data.ndim > 1 ? data.shape[1] : 1;
  if (value.ndim != 1 || (value.shape[0] != 1 && value.shape[0] != channels))
    fail_value(kKernel, std::string(name) + " must have shape (1,) or (" + std::to_string(channels) + ",), got " +
                            shape_string(value));
  for (std::int64_t i = 0; i < value.shape[0]; ++i) {
    const double entry = value.as<double>()[i * value.strides[0]];
    if (!std::isfinite(entry) || (nonzero && entry == 0))
      fail_value(kKernel,
                 std::string(name) + " must be finite" + (nonzero ? " and not 0" : "") + ", got " + to_string(entry));
  }
}

}  // namespace fastdl
