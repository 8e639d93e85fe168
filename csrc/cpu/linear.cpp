// Dense layer on the GEMM engine. Forward reads x in place and packs the weight; dx and dweight find both operands with
// the long axis contiguous, so little is packed. dbias is a column sum.
#include "core/linear.h"

#include "cpu/gemm/column_sums.h"
#include "cpu/gemm/engine.h"

namespace fastdl::cpu::FASTDL_ISA {

void linear_forward(View x, View weight, View bias, bool relu, Out y) {
  with_float(x.dtype, [&](auto type) {
    using T = decltype(type);
    Gemm<T> g{};
    g.m = x.shape[0];
    g.n = weight.shape[0];
    g.k = x.shape[1];
    g.a = x.as<T>();
    g.a_row = g.k;
    g.a_col = 1;
    g.b = weight.as<T>();
    g.b_row = 1;
    g.b_col = g.k;
    g.c = y.as<T>();
    g.c_row = g.n;
    g.bias = bias.as<T>();
    g.relu = relu;
    run_gemm(g);
  });
}

void linear_backward(View dy, View x, View weight, Out dx, Out dweight, Out dbias) {
  const int64_t rows = x.shape[0], in = x.shape[1], out = weight.shape[0];
  with_float(x.dtype, [&](auto type) {
    using T = decltype(type);
    if (dx) {  // dy [r, o] weight [o, i]
      Gemm<T> g{rows, in, out, dy.as<T>(), out, 1, weight.as<T>(), in, 1, dx.as<T>(), in};
      run_gemm(g);
    }
    if (dweight) {  // dy^T [o, r] x [r, i]
      Gemm<T> g{out, in, rows, dy.as<T>(), 1, out, x.as<T>(), in, 1, dweight.as<T>(), in};
      run_gemm(g);
    }
    if (dbias) column_sums(dy.as<T>(), rows, out, dbias.as<T>());
  });
}

FASTDL_REGISTER(linear_forward)
FASTDL_REGISTER(linear_backward)

}  // namespace fastdl::cpu::FASTDL_ISA
