#include "core/conv2d.h"

namespace fastdl {

using namespace check;

namespace {

Conv2dDims check_shapes(const char* kernel, const View& x, const View& weight, const Window& attrs,
                        std::int64_t groups) {
  rank(kernel, "x", x, 4, "(N, C, H, W)");
  rank(kernel, "weight", weight, 4, "(O, C/groups, kh, kw)");
  Conv2dDims d{x.shape[0], x.shape[1], x.shape[2], x.shape[3], weight.shape[0], 0, 0, groups, attrs};
  d.window.kernel_size = {weight.shape[2], weight.shape[3]};
  for (int axis = 2; axis < 4; ++axis)
    if (weight.shape[axis] < 1 || weight.shape[axis] > kLargestWindow)
      fail_value(kernel, "weight must have a kernel of at least (1, 1), got shape " + shape_string(weight));
  check_window(kernel, d.window);
  const std::string shapes = " (x " + shape_string(x) + ", weight " + shape_string(weight);
  if (weight.shape[1] * groups != d.c)
    fail_value(kernel, "weight expects " + std::to_string(weight.shape[1] * groups) + " input channels, x has " +
                           std::to_string(d.c) + shapes + ", groups " + std::to_string(groups) + ")");
  if (d.o % groups != 0)
    fail_value(kernel, "weight must have a multiple of groups " + std::to_string(groups) + " output channels, got " +
                           std::to_string(d.o) + " (weight " + shape_string(weight) + ")");
  const Pair out = window_output_size(kernel, {d.h, d.w}, d.window);
  d.oh = out.first;
  d.ow = out.second;
  return d;
}

}  // namespace

Conv2dDims check_conv2d_forward(const View& x, const View& weight, const View& bias, const Window& attrs,
                                std::int64_t groups) {
  const char* kernel = "conv2d_forward";
  like(kernel, "weight", weight, "x", x);
  like(kernel, "bias", bias, "x", x);
  const Conv2dDims d = check_shapes(kernel, x, weight, attrs, groups);
  shape(kernel, "bias", bias, {d.o});
  return d;
}

Conv2dDims check_conv2d_backward(const View& dy, const View& x, const View& weight, const Window& attrs,
                                 std::int64_t groups) {
  const char* kernel = "conv2d_backward";
  like(kernel, "x", x, "dy", dy);
  like(kernel, "weight", weight, "dy", dy);
  const Conv2dDims d = check_shapes(kernel, x, weight, attrs, groups);
  shape(kernel, "dy", dy, {d.n, d.o, d.oh, d.ow});
  return d;
}

}  // namespace fastdl
