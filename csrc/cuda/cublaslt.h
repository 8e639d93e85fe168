// NVIDIA's cuBLASLt, opened when the first matrix product asks for it: a copy that the process already has, or one that
// Python finds. Never linked and never required: without it matmul() says no and fastdl's own kernels serve.
#pragma once
#include <functional>
#include <string>

#include "cuda/cublaslt_api.h"

namespace fastdl::cuda::gpu {

// The library's functions, under their own names.
struct CublasLt {
#define FASTDL_MEMBER(name) decltype(&::fastdl::cublaslt::name) name = nullptr;
  FASTDL_CUBLASLT_FUNCTIONS(FASTDL_MEMBER)
#undef FASTDL_MEMBER
};

// Opens the library, from the dynamic linker's own search if the path is empty, and returns its version, 130100 for
// 13.1.0. Throws with the reason if it can't be opened or isn't cuBLASLt of CUDA 13; what was open then stays in use.
int load_cublaslt(const std::string& path);
// Goes back to fastdl's own kernels. The library stays in memory: others may be using it.
void unload_cublaslt();
// Is called by the first product, outside of any lock, and may call load_cublaslt.
void set_cublaslt_finder(std::function<void()> find);
// The functions, or nullptr without a library. Asks the finder if it has not been asked yet.
const CublasLt* cublaslt();

}  // namespace fastdl::cuda::gpu
