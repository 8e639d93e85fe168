#include "cuda/cublaslt.h"

#include "cuda/matmul.h"

namespace fastdl::cuda::gpu {

int CublasLt::fill(const Symbols& symbols) {
  FASTDL_CUBLASLT_FUNCTIONS(FASTDL_FIND)
  const int version = static_cast<int>(cublasLtGetVersion());
  symbols.expect(version / 10000, version / 100 % 100, 13, "that of CUDA 13");
  return version;
}

Library<CublasLt>& cublaslt() {
  static auto& library = *new Library<CublasLt>("cuBLASLt", "libcublasLt.so.13", forget_plans);
  return library;
}

}  // namespace fastdl::cuda::gpu
