#include "core/window.h"

namespace fastdl {

using namespace check;

void check_window_pair(const char* kernel, const char* name, Pair value, std::int64_t minimum) {
  pair(kernel, name, value, minimum);
  if (value.first > kLargestWindow || value.second > kLargestWindow)
    fail_value(kernel,
               std::string(name) + " must be at most " + std::to_string(kLargestWindow) + ", got " + to_string(value));
}

void check_window(const char* kernel, const Window& window) {
  check_window_pair(kernel, "kernel_size", window.kernel_size, 1);
  check_window_pair(kernel, "stride", window.stride, 1);
  check_window_pair(kernel, "padding", window.padding, 0);
  check_window_pair(kernel, "dilation", window.dilation, 1);
}

std::int64_t axis_output_size(std::int64_t size, std::int64_t kernel, std::int64_t stride, std::int64_t padding,
                              std::int64_t dilation, bool ceil_mode) {
  const std::int64_t room = size + 2 * padding - dilation * (kernel - 1) - 1 + (ceil_mode ? stride - 1 : 0);
  if (room < 0) return 0;
  const std::int64_t out = room / stride + 1;
  return ceil_mode && (out - 1) * stride >= size + padding ? out - 1 : out;
}

Pair window_output_size(const char* kernel, Pair input_size, const Window& window, bool ceil_mode) {
  const auto& [size, stride, padding, dilation] = window;
  const Pair out = {
      axis_output_size(input_size.first, size.first, stride.first, padding.first, dilation.first, ceil_mode),
      axis_output_size(input_size.second, size.second, stride.second, padding.second, dilation.second, ceil_mode)};
  if (out.first < 1 || out.second < 1) {
    const Pair padded = {input_size.first + 2 * padding.first, input_size.second + 2 * padding.second};
    fail_value(kernel, "kernel_size " + to_string(size) + " with dilation " + to_string(dilation) +
                           " must fit into the padded input, got " + to_string(padded));
  }
  return out;
}

}  // namespace fastdl
