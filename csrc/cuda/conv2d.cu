// Convolution by cuDNN, and as an implicit GEMM on channels-last memory where there is no such library: rows are
// pixels, k runs over taps and channels (channels innermost, side by side in memory), and operands find their places by
// themselves. No column matrix, no atomics: the weight gradient's long k is cut into pieces whose sums are added in
// order. Where types allow it, the product is made on tensor cores. One tap on every pixel is a dense layer; with few
// channels both are tried, and the faster one is kept.
//
// Of the library come the sums alone: bias, ReLU, addend and gate are one pass more, the same after every algorithm and
// with fastdl's rules for NaN, and the bias gradient's sums are fastdl's, in double. Where results are bfloat16 the
// library has rounded its sums before that pass, so that a bias or an addend rounds them once more.
#include "core/conv2d.h"

#include "cuda/column_sums.h"
#include "cuda/conv2d_lines.h"
#include "cuda/convolve.h"
#include "cuda/matmul.h"

namespace fastdl::cuda::gpu {

// csrc/cuda/linear.cu
void linear_forward(View x, View weight, View bias, bool relu, Out y);
void linear_backward(View dy, View x, View weight, View gate, Out dx, Out dweight, Out dbias);

namespace {

// x as a matrix of output pixels by taps and channels, zero outside the image.
template <class T>
struct Patches {
  Windows<T> windows;
  Divider channels;
  bool k_near;

  Patches(const T* x, const std::vector<Tap>& taps, const Shape& s, bool near)
      : windows(x, taps, s), channels(s.channels), k_near(near) {}
  FASTDL_DEVICE_ONLY Patches of(int64_t group) const {
    Patches moved = *this;
    moved.windows = windows.of(group);
    return moved;
  }
  FASTDL_DEVICE_ONLY T at(int64_t pixel, int64_t k) const {
    const int64_t tap = channels(k);
    return windows.at(windows.place(pixel), windows.taps[tap], k - tap * channels.divisor);
  }
};

// dy as a matrix of input pixels by taps and filters: zero where no output saw the pixel through the tap.
template <class T>
struct Seen {
  const T* dy;
  Shape s;
  static constexpr bool k_near = true;

  FASTDL_DEVICE_ONLY Seen of(int64_t group) const { return {dy + group * s.filters, s}; }
  FASTDL_DEVICE_ONLY T at(int64_t pixel, int64_t k) const {
    const int64_t tap = k / s.filters, line = pixel / s.w, image = line / s.h;
    const int64_t i = tap / s.kernel_width, j = tap - i * s.kernel_width;
    const int64_t down = (line - image * s.h) + s.padding[0] - i * s.dilation[0], p = down / s.stride[0];
    const int64_t right = (pixel - line * s.w) + s.padding[1] - j * s.dilation[1], q = right / s.stride[1];
    if (down < 0 || right < 0 || p >= s.oh || q >= s.ow || p * s.stride[0] != down || q * s.stride[1] != right)
      return T(0);
    return dy[((image * s.oh + p) * s.ow + q) * s.all_filters + (k - tap * s.filters)];
  }
};

// The weight as a matrix of taps and channels by filters, or of taps and filters by channels.
template <class T, bool to_filters>
struct Kernel2d {
  const T* weight;
  Shape s;
  Divider depth;
  static constexpr bool k_near = false;

  Kernel2d(const T* weight_, const Shape& s_) : weight(weight_), s(s_), depth(to_filters ? s_.channels : s_.filters) {}
  FASTDL_DEVICE_ONLY Kernel2d of(int64_t group) const {
    Kernel2d moved = *this;
    moved.weight += group * s.filters * s.channels * s.taps();
    return moved;
  }
  FASTDL_DEVICE_ONLY T at(int64_t k, int64_t column) const {
    const int64_t tap = depth(k), of_depth = k - tap * depth.divisor;
    return weight[to_filters ? s.weight_at(column, tap, of_depth) : s.weight_at(of_depth, tap, column)];
  }
};

// Results of a pixel side by side, a group's beside those of the one before it. addend and gate lie as y does.
template <class T>
struct PutPixels {
  T* y;
  int64_t width, all;  // of a group, and of all
  const T *bias, *addend, *gate;
  bool relu;

  FASTDL_DEVICE_ONLY void operator()(int64_t group, int64_t pixel, int64_t column, Wide<T> sum) const {
    const int64_t place = group * width + column, at = pixel * all + place;
    y[at] = T(finish(at, place, sum));
  }
  template <int N>
  FASTDL_DEVICE_ONLY void row(int64_t group, int64_t pixel, int64_t column, const Wide<T> (&sums)[N]) const {
    const int64_t place = group * width + column, at = pixel * all + place;
    store_row<N>(y + at, [&](int k) { return finish(at + k, place + k, sums[k]); });
  }
  bool idle() const { return bias == nullptr && addend == nullptr && gate == nullptr && !relu; }
  FASTDL_DEVICE_ONLY Wide<T> finish(int64_t at, int64_t place, Wide<T> sum) const {
    if (bias != nullptr) sum += bias[place];
    if (relu) sum = activation::relu(sum);
    if (addend != nullptr) sum += addend[at];
    if (gate != nullptr) sum = activation::relu_backward(sum, Wide<T>(gate[at]));
    return sum;
  }
};

template <class T>
const T* or_null(const View& x) {
  return x ? x.as<T>() : nullptr;
}

// Channels-last pixels as rows of channels, and weights of one tap as rows of a dense layer.
View rows(const View& x, int64_t count, int64_t columns) {
  return x ? View{x.data, x.dtype, 2, {count, columns}, {columns, 1}} : View{};
}
bool is_dense_layer(const Conv2dDims& d) {
  const check::Pair one{1, 1}, none{0, 0};
  return d.window.kernel_size == one && d.window.stride == one && d.window.padding == none && d.groups == 1;
}

// Is the own kernel tried beside the library's? Of true float32 always, for which the library has few engines, of
// others where the library's are not at their best: a first layer's forward pass and weight gradient, as vectors of
// channels are made for more of them, and what the library may have to round (convolve.h).
template <class T>
bool is_offered(Pass pass, const Conv2dDims& d) {
  constexpr int64_t kFew = 7, kVector = 8;
  if (sizeof(T) == 4 && !get_tf32()) return true;
  if (pass == Pass::input_gradient) return false;
  const bool rounds = sizeof(T) == 2 && pass == Pass::weight_gradient;
  return (d.groups == 1 && d.c <= kFew) || (rounds && d.o / d.groups % kVector == 0 && d.c / d.groups % kVector == 0);
}

template <class T>
void forward(View x, View weight, View bias, bool relu, Out y, const Conv2dDims& d) {
  const Shape s(d, weight);
  const int64_t pixels = d.n * d.oh * d.ow;
  const PutPixels<T> put{y.as<T>(), s.filters, d.o, or_null<T>(bias), nullptr, nullptr, relu};
  const auto own = [&] {
    if (pixels_on_tensor_cores<false>(x.as<const T>(), weight.as<const T>(), d.groups, pixels, s, put)) return;
    const std::vector<Tap> taps = tap_table(s, 1, s.taps());
    multiply<Wide<T>>(d.groups, pixels, s.filters, s.taps() * s.channels, Patches<T>(x.as<T>(), taps, s, true),
                      Kernel2d<T, true>(weight.as<T>(), s), put);
  };
  const auto after = [&] { finish(put.y, pixels * d.o, d.o, put); };
  const Own offered = is_offered<T>(Pass::forward, d) ? Own{own, after} : Own{};
  if (convolve(Pass::forward, x, weight, y, d, offered)) return after();
  own();
}

template <class T>
void input_gradient(View dy, View weight, View addend, View gate, Out dx, const Conv2dDims& d) {
  const Shape s(d, weight);
  const int64_t pixels = d.n * d.h * d.w;
  const PutPixels<T> put{dx.as<T>(), s.channels, d.c, nullptr, or_null<T>(addend), or_null<T>(gate), false};
  const auto own = [&] {
    if (pixels_on_tensor_cores<true>(dy.as<const T>(), weight.as<const T>(), d.groups, pixels, s, put)) return;
    multiply<Wide<T>>(d.groups, pixels, s.channels, s.taps() * s.filters, Seen<T>{dy.as<T>(), s},
                      Kernel2d<T, false>(weight.as<T>(), s), put);
  };
  const auto after = [&] { finish(put.y, pixels * d.c, d.c, put); };
  const Own offered = is_offered<T>(Pass::input_gradient, d) ? Own{own, after} : Own{};
  // An addend in dx itself would be gone before the pass that adds it.
  if (put.addend != put.y && convolve(Pass::input_gradient, dy, weight, dx, d, offered)) return after();
  own();
}

template <class T>
void weight_gradient(View dy, View x, Out dweight, const Conv2dDims& d) {
  const Shape s(d, dweight);
  const int64_t pixels = d.n * d.oh * d.ow;
  const auto own = [&] {
    if (weights_on_tensor_cores(dy, x, dweight, d)) return;
    const PutWeights<Wide<T>> put{dweight.as<Wide<T>>(), s};
    const std::vector<Tap> taps = tap_table(s, 1, s.taps());
    multiply<Wide<T>>(d.groups, s.filters, s.taps() * s.channels, pixels,
                      Matrix<T>{dy.as<T>(), 1, d.o, false, s.filters}, Patches<T>(x.as<T>(), taps, s, false), put);
  };
  const Own offered = is_offered<T>(Pass::weight_gradient, d) ? Own{own, {}} : Own{};
  if (!convolve(Pass::weight_gradient, x, dy, dweight, d, offered)) own();
}

}  // namespace

// The moments that a batch norm of y may ask for are not taken: csrc/cuda/batch_norm.cu doesn't use them.
void conv2d_forward(View x, View weight, View bias, bool relu, Out y, const Conv2dDims& d, Out) {
  const int64_t pixels = d.n * d.oh * d.ow;
  if (is_dense_layer(d))
    return linear_forward(rows(x, pixels, d.c), rows(weight, d.o, d.c), bias, relu, rows(y, pixels, d.o));
  with_any_float(x.dtype, [&](auto type) { forward<decltype(type)>(x, weight, bias, relu, y, d); });
}

void conv2d_backward(View dy, View x, View weight, View addend, View gate, Out dx, Out dweight, Out dbias,
                     const Conv2dDims& d) {
  const int64_t pixels = d.n * d.oh * d.ow;
  if (is_dense_layer(d) && !addend)
    return linear_backward(rows(dy, pixels, d.o), rows(x, pixels, d.c), rows(weight, d.o, d.c), rows(gate, pixels, d.c),
                           rows(dx, pixels, d.c), rows(dweight, d.o, d.c), dbias);
  with_any_float(dy.dtype, [&](auto type) {
    using T = decltype(type);
    if (dx) input_gradient<T>(dy, weight, addend, gate, dx, d);
    if (dweight) weight_gradient<T>(dy, x, dweight, d);
    if (dbias) column_sums(dy.as<T>(), pixels, d.o, dbias.as<Wide<T>>());
  });
}

FASTDL_REGISTER(conv2d_forward)
FASTDL_REGISTER(conv2d_backward)

}  // namespace fastdl::cuda::gpu
