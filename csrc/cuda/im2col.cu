// Sliding windows as columns and back, a thread per element of the result. Columns are written in order; an image's
// element adds up the columns that show it in the order of the taps, as the reference does.
#include "core/im2col.h"

#include "cuda/launch.h"

namespace fastdl::cuda::gpu {

namespace {

template <class T>
struct TakeColumns {
  const T* x;
  Im2colDims d;
  T* cols;  // [n][c][i][j][p][q]

  FASTDL_DEVICE_ONLY void operator()(int64_t at) const {
    const auto& [size, stride, padding, dilation] = d.window;
    int64_t rest = at;
    const int64_t q = rest % d.ow;
    rest /= d.ow;
    const int64_t p = rest % d.oh;
    rest /= d.oh;
    const int64_t j = rest % size.second;
    rest /= size.second;
    const int64_t i = rest % size.first, plane = rest / size.first;
    const int64_t h = p * stride.first + i * dilation.first - padding.first;
    const int64_t w = q * stride.second + j * dilation.second - padding.second;
    cols[at] = h >= 0 && h < d.h && w >= 0 && w < d.w ? x[(plane * d.h + h) * d.w + w] : T(0);
  }
};

template <class T>
struct AddColumns {
  const T* cols;
  Im2colDims d;
  T* x;  // [n][h][w][c]

  FASTDL_DEVICE_ONLY void operator()(int64_t at) const {
    const auto& [size, stride, padding, dilation] = d.window;
    int64_t rest = at;
    const int64_t c = rest % d.c;
    rest /= d.c;
    const int64_t w = rest % d.w;
    rest /= d.w;
    const int64_t h = rest % d.h, image = rest / d.h;
    const T* const planes = cols + (image * d.c + c) * size.first * size.second * d.oh * d.ow;
    T sum = 0;
    for (int64_t i = 0; i < size.first; ++i) {
      const int64_t down = h + padding.first - i * dilation.first, p = down / stride.first;
      if (down < 0 || p >= d.oh || p * stride.first != down) continue;
      for (int64_t j = 0; j < size.second; ++j) {
        const int64_t right = w + padding.second - j * dilation.second, q = right / stride.second;
        if (right < 0 || q >= d.ow || q * stride.second != right) continue;
        sum += planes[((i * size.second + j) * d.oh + p) * d.ow + q];
      }
    }
    x[at] = sum;
  }
};

}  // namespace

void im2col(View x, Out cols, const Im2colDims& d) {
  with_float(x.dtype, [&](auto type) {
    using T = decltype(type);
    for_each(cols.size(), TakeColumns<T>{x.as<T>(), d, cols.as<T>()});
  });
}

void col2im(View cols, Out x, const Im2colDims& d) {
  with_float(x.dtype, [&](auto type) {
    using T = decltype(type);
    for_each(x.size(), AddColumns<T>{cols.as<T>(), d, x.as<T>()});
  });
}

FASTDL_REGISTER(im2col)
FASTDL_REGISTER(col2im)

}  // namespace fastdl::cuda::gpu
