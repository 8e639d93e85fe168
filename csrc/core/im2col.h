// Sliding windows as columns (unfold), and their sum back into images (fold).  Both overwrite their output, which may
// not alias the input. x [n,c,h,w] contiguous, in col2im's output channels-last in memory   cols [n, c kh kw, oh ow]
// contiguous Scratch of col2im: h * w per thread.
#pragma once
#include "core/kernel.h"
#include "core/window.h"

namespace fastdl {

struct Im2colDims {
  std::int64_t n, c, h, w, oh, ow;
  Window window;
};

// The only checks.
Im2colDims check_im2col(const View& x, const Window& window);
Im2colDims check_col2im(const View& cols, check::Pair output_size, const Window& window);

template <>
inline constexpr bool kAttributes<Im2colDims> = true;

namespace FASTDL_DEVICE {
inline Kernel<void(View x, Out cols, const Im2colDims& d)> im2col;
inline Kernel<void(View cols, Out x, const Im2colDims& d)> col2im;
}  // namespace FASTDL_DEVICE

}  // namespace fastdl
