#include "cuda/cudnn.h"

#include "cuda/convolve.h"

namespace fastdl::cuda::gpu {

int Cudnn::fill(const Symbols& symbols) {
  FASTDL_CUDNN_FUNCTIONS(FASTDL_FIND)
  const int version = static_cast<int>(cudnnGetVersion());
  const int thousands = version < 10000 ? 1000 : 10000;  // 8907 was 8.9.7
  symbols.expect(version / thousands, version % thousands / 100, 9, "cuDNN 9");
  return version;
}

Library<Cudnn>& cudnn() {
  static auto& library = *new Library<Cudnn>("cuDNN", "libcudnn.so.9", forget_convolutions);
  return library;
}

}  // namespace fastdl::cuda::gpu
