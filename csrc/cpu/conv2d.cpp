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

// The whole of dx, where the kernel that made it can't finish it tile by tile.
template <class T>
void finish(const Conv2dDims& d, const T* addend, const T* gate, T* dx) {
  constexpr int64_t kPiece = 8192;
  const int64_t size = d.n * d.h * d.w * d.c;
  parallel_for(ceil_div(size, kPiece), 0.25 * kPiece, [&](int64_t task) {
    const int64_t at = task * kPiece;
    finish_row(dx + at, addend ? addend + at : nullptr, gate ? gate + at : nullptr, min_of(kPiece, size - at), dx + at);
  });
}

template <class T>
void input_gradient(const Conv2dDims& d, const T* dy, const T* weight, const T* addend, const T* gate, T* dx) {
  const Axis ah = axis_h(d), aw = axis_w(d);
  const int64_t depth = d.o / d.groups, width = d.c / d.groups, taps = ah.kernel * aw.kernel;
  const bool fold = width < kLanes<T> / 2 && depth > 1, depthwise = depth == 1 && width == 1;
  if ((fold || depthwise) && (addend || gate)) {
    const bool copy = addend == dx;
    const int64_t size = d.n * d.h * d.w * d.c;
    Scratch<T> copied(copy ? size : 0);
    if (copy) __builtin_memcpy(copied, addend, static_cast<std::size_t>(size) * sizeof(T));
    input_gradient<T>(d, dy, weight, nullptr, nullptr, dx);
    return finish<T>(d, copy ? copied : addend, gate, dx);
  }
  if (fold) return fold_gradient(FoldGradient<T>{ah, aw, d.n, d.groups, depth, width, dy, weight, dx});
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
      const int64_t start = (rh * d.w + rw) * d.c;
      c.dst = dx + start;
      c.addend = addend ? addend + start : nullptr;
      c.gate = gate ? gate + start : nullptr;
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

void conv2d_forward(View x, View weight, View bias, bool relu, Out y, const Conv2dDims& d, Out moments) {
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
    if (!moments) return correlate(c);
    MomentsOnTheWay<T> taken(y.as<T>(), matrix_of<T>(d.n * d.oh * d.ow, d.o), moments.as<double>());
    correlate(c, &taken);
    taken.finish();
  });
}

void conv2d_backward(View dy, View x, View weight, View addend, View gate, Out dx, Out dweight, Out dbias,
                     const Conv2dDims& d) {
  with_float(dy.dtype, [&](auto type) {
    using T = decltype(type);
    if (dx) input_gradient<T>(d, dy.as<T>(), weight.as<T>(), addend.as<T>(), gate.as<T>(), dx.as<T>());
    const bool together = dbias && dweight && d.n > 0 && dweight.size() > 0;
    if (dweight) weight_gradient_of(d, dy.as<T>(), x.as<T>(), dweight.as<T>(), together ? dbias.as<T>() : nullptr);
    if (dbias && !together) column_sums(dy.as<T>(), d.n * d.oh * d.ow, d.o, dbias.as<T>());
  });
}

FASTDL_REGISTER(conv2d_forward)
FASTDL_REGISTER(conv2d_backward)

}  // namespace fastdl::cpu::FASTDL_ISA
