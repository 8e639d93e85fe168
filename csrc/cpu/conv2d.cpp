// Convolution, channels-last: forward and input gradient are correlations, the weight gradient an outer product over
// output pixels (csrc/cpu/conv/). A strided convolution's input gradient is one correlation per remainder of the pixel
// position by the stride, each with the taps that reach it: no multiplications by zero; towards few input channels it
// is a product and a fold.
#include "core/conv2d.h"

#include "cpu/conv/correlate.h"
#include "cpu/conv/fold_gradient.h"
#include "cpu/conv/weight_gradient.h"
#include "cpu/gemm/column_sums.h"

namespace fastdl::cpu::FASTDL_ISA {

namespace {

Axis axis_h(const Conv2dDims& d) {
  const Window& w = d.window;
  return {d.h, d.oh, w.kernel_size.first, w.stride.first, w.padding.first, w.dilation.first};
}

Axis axis_w(const Conv2dDims& d) {
  const Window& w = d.window;
  return {d.w, d.ow, w.kernel_size.second, w.stride.second, w.padding.second, w.dilation.second};
}

template <class T>
void input_gradient(const Conv2dDims& d, const T* dy, const T* weight, T* dx) {
  const Axis ah = axis_h(d), aw = axis_w(d);
  const int64_t depth = d.o / d.groups, width = d.c / d.groups, taps = ah.kernel * aw.kernel;
  if (width < kLanes<T> / 2 && depth > 1)
    return fold_gradient(FoldGradient<T>{ah, aw, d.n, d.groups, depth, width, dy, weight, dx});
  Scratch<int64_t> memory_h(2 * ah.kernel), memory_w(2 * aw.kernel);
  for (int64_t rh = 0; rh < min_of(ah.stride, d.h); ++rh)
    for (int64_t rw = 0; rw < min_of(aw.stride, d.w); ++rw) {
      Correlation<T> c{};
      c.images = d.n;
      c.groups = d.groups;
      c.depth = depth;
      c.width = width;
      c.th = backward_taps(ah, rh, memory_h);
      c.tw = backward_taps(aw, rw, memory_w);
      c.src = dy;
      c.weights = {weight, depth * width * taps, width * taps, taps, taps, aw.kernel};
      c.dst = dx + (rh * d.w + rw) * d.c;
      c.dst_pixel = aw.stride * d.c;
      c.dst_row = ah.stride * d.w * d.c;
      c.dst_image = d.h * d.w * d.c;
      correlate(c);
    }
}

template <class T>
void weight_gradient_of(const Conv2dDims& d, const T* dy, const T* x, T* dweight, T* dbias) {
  const Axis ah = axis_h(d), aw = axis_w(d);
  Scratch<int64_t> memory_h(2 * ah.kernel), memory_w(2 * aw.kernel);
  WeightGradient<T> c{};
  c.images = d.n;
  c.groups = d.groups;
  c.depth = d.c / d.groups;
  c.width = d.o / d.groups;
  c.th = forward_taps(ah, memory_h);
  c.tw = forward_taps(aw, memory_w);
  c.x = x;
  c.dy = dy;
  c.dweight = dweight;
  c.dbias = dbias;
  weight_gradient(c);
}

}  // namespace

void conv2d_forward(View x, View weight, View bias, bool relu, Out y, const Conv2dDims& d) {
  with_float(x.dtype, [&](auto type) {
    using T = decltype(type);
    const Axis ah = axis_h(d), aw = axis_w(d);
    const int64_t taps = ah.kernel * aw.kernel;
    Scratch<int64_t> memory_h(2 * ah.kernel), memory_w(2 * aw.kernel);
    Correlation<T> c{};
    c.images = d.n;
    c.groups = d.groups;
    c.depth = d.c / d.groups;
    c.width = d.o / d.groups;
    c.th = forward_taps(ah, memory_h);
    c.tw = forward_taps(aw, memory_w);
    c.src = x.as<T>();
    c.weights = {weight.as<T>(), c.width * c.depth * taps, taps, c.depth * taps, taps, aw.kernel};
    c.bias = bias.as<T>();
    c.relu = relu;
    c.dst = y.as<T>();
    c.dst_pixel = d.o;
    c.dst_row = d.ow * d.o;
    c.dst_image = d.oh * d.ow * d.o;
    correlate(c);
  });
}

void conv2d_backward(View dy, View x, View weight, Out dx, Out dweight, Out dbias, const Conv2dDims& d) {
  with_float(dy.dtype, [&](auto type) {
    using T = decltype(type);
    if (dx) input_gradient(d, dy.as<T>(), weight.as<T>(), dx.as<T>());
    const bool together = dbias && dweight && d.n > 0 && dweight.size() > 0;
    if (dweight) weight_gradient_of(d, dy.as<T>(), x.as<T>(), dweight.as<T>(), together ? dbias.as<T>() : nullptr);
    if (dbias && !together) column_sums(dy.as<T>(), d.n * d.oh * d.ow, d.o, dbias.as<T>());
  });
}

FASTDL_REGISTER(conv2d_forward)
FASTDL_REGISTER(conv2d_backward)

}  // namespace fastdl::cpu::FASTDL_ISA
