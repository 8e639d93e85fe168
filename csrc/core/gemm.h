// c = a @ b over the last two dimensions, the others broadcast.  Overwrites c, which may alias neither input.
// a [..., m, k]   b [..., k, n]   c [..., m, n], contiguous.   Any strides in a and b (0 where a dimension broadcasts).
// Scratch: see csrc/cpu/gemm/engine.h.
#pragma once
#include "core/check.h"
#include "core/kernel.h"

namespace fastdl {

struct GemmDims {
  int batch_ndim;
  std::int64_t batch[kMaxDims];
  std::int64_t m, n, k;
};
GemmDims check_gemm(const View& a, const View& b);

namespace FASTDL_DEVICE {
inline Kernel<void(View a, View b, Out c)> gemm;  // a and b already broadcast to c's batch dimensions
}

}  // namespace fastdl
