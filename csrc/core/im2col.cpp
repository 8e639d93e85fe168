#include "core/im2col.h"

#include <new>

namespace fastdl {

using namespace check;

Im2colDims check_im2col(const View& x, const Window& window) {
  const char* kernel = "im2col";
  rank(kernel, "x", x, 4, "(N, C, H, W)");
  check_window(kernel, window);
  const Pair out = window_output_size(kernel, {x.shape[2], x.shape[3]}, window);
  const std::int64_t taps = window.kernel_size.first * window.kernel_size.second;            // below 2^62
  if (x.shape[1] > std::numeric_limits<std::int64_t>::max() / taps) throw std::bad_alloc();  // no such array
  return {x.shape[0], x.shape[1], x.shape[2], x.shape[3], out.first, out.second, window};
}

Im2colDims check_col2im(const View& cols, Pair output_size, const Window& window) {
  const char* kernel = "col2im";
  rank(kernel, "cols", cols, 3, "(N, C*kh*kw, L)");
  check_window_pair(kernel, "output_size", output_size, 0);
  check_window(kernel, window);
  const Pair out = window_output_size(kernel, output_size, window);
  const std::int64_t taps = window.kernel_size.first * window.kernel_size.second, windows = out.first * out.second;
  if (cols.shape[1] % taps != 0)
    fail_value(kernel, "cols must have a multiple of " + std::to_string(taps) + " rows (kernel_size), got shape " +
                           shape_string(cols));
  if (cols.shape[2] != windows)
    fail_value(kernel, "cols must have " + std::to_string(windows) + " columns (" + std::to_string(out.first) + " x " +
                           std::to_string(out.second) + " windows), got shape " + shape_string(cols));
  return {cols.shape[0], cols.shape[1] / taps, output_size.first, output_size.second, out.first, out.second, window};
}

}  // namespace fastdl
