// Sliding windows as columns and back, one image plane at a time. A row of columns for one tap is a row of the image,
// shifted: copied (or, in col2im, added) as a run between the borders, zeros outside. Bound by memory, not arithmetic.
#include "core/im2col.h"

#include "cpu/simd.h"

namespace fastdl::cpu::FASTDL_ISA {

namespace {

struct Run {  // of windows [begin, end) whose tap lies inside the image; the first reads position `place`
  int64_t begin, end, place;
};

// Windows q with 0 <= q * stride + shift < size.
FASTDL_INLINE Run inside(int64_t shift, int64_t stride, int64_t size, int64_t windows) {
  const int64_t begin = shift < 0 ? ceil_div(-shift, stride) : 0;
  const int64_t end = shift < size ? min_of(windows, ceil_div(size - shift, stride)) : 0;
  return {begin, max_of(begin, end), begin * stride + shift};
}

template <class T>
FASTDL_INLINE void copy_row(const T* in, const Run& run, int64_t stride, int64_t windows, T* out) {
  const int64_t begin = min_of(run.begin, windows), count = min_of(run.end, windows) - begin;
  for (int64_t q = 0; q < begin; ++q) out[q] = T(0);
  if (count > 0) {
    const T* from = in + run.place;
    if (stride == 1)
      __builtin_memcpy(out + begin, from, static_cast<std::size_t>(count) * sizeof(T));
    else
      for (int64_t q = 0; q < count; ++q) out[begin + q] = from[q * stride];
  }
  for (int64_t q = begin + max_of(count, 0); q < windows; ++q) out[q] = T(0);
}

template <class T>
void columns_of_plane(const T* x, const Im2colDims& d, T* cols) {
  const auto& [size, stride, padding, dilation] = d.window;
  for (int64_t i = 0; i < size.first; ++i)
    for (int64_t j = 0; j < size.second; ++j) {
      const Run run = inside(j * dilation.second - padding.second, stride.second, d.w, d.ow);
      for (int64_t p = 0; p < d.oh; ++p, cols += d.ow) {
        const int64_t h = p * stride.first + i * dilation.first - padding.first;
        const bool outside = h < 0 || h >= d.h;
        copy_row(x + (outside ? 0 : h * d.w), outside ? Run{d.ow, d.ow, 0} : run, stride.second, d.ow, cols);
      }
    }
}

// Adds in the order of the taps, as the reference does.
template <class T>
void plane_of_columns(const T* cols, const Im2colDims& d, T* x) {
  const auto& [size, stride, padding, dilation] = d.window;
  for (int64_t e = 0; e < d.h * d.w; ++e) x[e] = T(0);
  for (int64_t i = 0; i < size.first; ++i)
    for (int64_t j = 0; j < size.second; ++j) {
      const Run run = inside(j * dilation.second - padding.second, stride.second, d.w, d.ow);
      for (int64_t p = 0; p < d.oh; ++p, cols += d.ow) {
        const int64_t h = p * stride.first + i * dilation.first - padding.first;
        if (h < 0 || h >= d.h) continue;
        T* to = x + h * d.w + run.place;
        const int64_t count = min_of(run.end, d.ow) - run.begin;
        for (int64_t q = 0; q < count; ++q) to[q * stride.second] += cols[run.begin + q];
      }
    }
}

}  // namespace

void im2col(View x, Out cols, const Im2colDims& d) {
  const int64_t plane = cols.shape[1] / max_of(d.c, 1) * cols.shape[2];
  with_float(x.dtype, [&](auto type) {
    using T = decltype(type);
    parallel_for(d.n * d.c, static_cast<double>(plane),
                 [&](int64_t task) { columns_of_plane(x.as<T>() + task * d.h * d.w, d, cols.as<T>() + task * plane); });
  });
}

void col2im(View cols, Out x, const Im2colDims& d) {
  constexpr int64_t kChannels = 16;  // per task: whole cache lines of the channels-last output
  const int64_t plane = cols.shape[1] / max_of(d.c, 1) * cols.shape[2], blocks = ceil_div(d.c, kChannels);
  with_float(x.dtype, [&](auto type) {
    using T = decltype(type);
    parallel_for(d.n * blocks, static_cast<double>(kChannels * plane), [&](int64_t task) {
      const int64_t image = task / blocks, first = task % blocks * kChannels;
      Scratch<T> sum(d.h * d.w);
      for (int64_t c = first; c < min_of(first + kChannels, d.c); ++c) {
        plane_of_columns<T>(cols.as<T>() + (image * d.c + c) * plane, d, sum);
        T* to = x.as<T>() + image * d.h * d.w * d.c + c;
        for (int64_t e = 0; e < d.h * d.w; ++e) to[e * d.c] = sum[e];
      }
    });
  });
}

FASTDL_REGISTER(im2col)
FASTDL_REGISTER(col2im)

}  // namespace fastdl::cpu::FASTDL_ISA
