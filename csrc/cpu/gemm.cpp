// Matrix product of two strided, possibly batched operands: the GEMM engine once per pair of matrices.
#include "core/gemm.h"

#include "cpu/gemm/engine.h"

namespace fastdl::cpu::FASTDL_ISA {

void gemm(View a, View b, Out c) {
  const int nb = c.ndim - 2;
  int64_t batches = 1;
  for (int d = 0; d < nb; ++d) batches *= c.shape[d];
  with_float(c.dtype, [&](auto type) {
    using T = decltype(type);
    for (int64_t e = 0; e < batches; ++e) {
      int64_t offset_a = 0, offset_b = 0, rest = e;
      for (int d = nb - 1; d >= 0; --d) {
        const int64_t i = rest % c.shape[d];
        rest /= c.shape[d];
        offset_a += i * a.strides[d];
        offset_b += i * b.strides[d];
      }
      Gemm<T> g{};
      g.m = c.shape[nb];
      g.n = c.shape[nb + 1];
      g.k = a.shape[nb + 1];
      g.a = a.as<T>() + offset_a;
      g.a_row = a.strides[nb];
      g.a_col = a.strides[nb + 1];
      g.b = b.as<T>() + offset_b;
      g.b_row = b.strides[nb];
      g.b_col = b.strides[nb + 1];
      g.c = c.as<T>() + e * g.m * g.n;
      g.c_row = g.n;
      run_gemm(g);
    }
  });
}

FASTDL_REGISTER(gemm)

}  // namespace fastdl::cpu::FASTDL_ISA
