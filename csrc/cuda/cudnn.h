// NVIDIA's cuDNN 9, for convolutions.
#pragma once
#include "cuda/cudnn_api.h"
#include "cuda/library.h"

namespace fastdl::cuda::gpu {

#define FASTDL_API ::fastdl::cudnn
struct Cudnn {
  FASTDL_CUDNN_FUNCTIONS(FASTDL_MEMBER)
  int fill(const Symbols& symbols);  // 90600 for 9.6.0
};
#undef FASTDL_API

Library<Cudnn>& cudnn();

}  // namespace fastdl::cuda::gpu
