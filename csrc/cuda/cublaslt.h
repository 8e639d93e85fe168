// NVIDIA's cuBLASLt of CUDA 13, for matrix products.
#pragma once
#include "cuda/cublaslt_api.h"
#include "cuda/library.h"

namespace fastdl::cuda::gpu {

#define FASTDL_API ::fastdl::cublaslt
struct CublasLt {
  FASTDL_CUBLASLT_FUNCTIONS(FASTDL_MEMBER)
  int fill(const Symbols& symbols);  // 130100 for 13.1.0
};
#undef FASTDL_API

Library<CublasLt>& cublaslt();

}  // namespace fastdl::cuda::gpu
