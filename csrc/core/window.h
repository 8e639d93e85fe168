// Sliding windows, shared by im2col, conv2d and pool2d: attributes, their check and the number of windows. The words
// and the arithmetic are those of python/fastdl/kernels/numpy/_geometry.py.
#pragma once
#include "core/check.h"

namespace fastdl {

constexpr std::int64_t kLargestWindow = 2147483647;  // of each attribute: sizes computed from them stay within 64 bits

struct Window {  // each pair is (h, w)
  check::Pair kernel_size, stride, padding, dilation;
};

// A pair in [minimum, kLargestWindow]; minimum is 1 (kernel_size, stride, dilation) or 0 (padding).
void check_window_pair(const char* kernel, const char* name, check::Pair value, std::int64_t minimum);
// All four pairs.
void check_window(const char* kernel, const Window& window);

// Number of windows along one axis: floor((size + 2 padding - dilation (kernel - 1) - 1) / stride) + 1, 0 or less if
// none fits. With ceil_mode the division rounds up, and a last window that would start in the right-hand padding is
// dropped.
std::int64_t axis_output_size(std::int64_t size, std::int64_t kernel, std::int64_t stride, std::int64_t padding,
                              std::int64_t dilation, bool ceil_mode = false);
// (oh, ow) of checked attributes; throws if the kernel is larger than the padded input.
check::Pair window_output_size(const char* kernel, check::Pair input_size, const Window& window,
                               bool ceil_mode = false);

}  // namespace fastdl
