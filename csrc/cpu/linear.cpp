// Dense layer on the GEMM engine. Forward reads x in place and packs the weight; dx and dweight find both operands with
// the long axis contiguous, so little is packed. dbias is a column sum in row order.
#include "core/linear.h"

#include "cpu/gemm/engine.h"

namespace fastdl::cpu::FASTDL_ISA {

namespace {

// sums[j] = sum of x[i][j] over the rows i, in row order for every j.
template <class T>
void column_sums(const T* x, int64_t rows, int64_t cols, T* sums) {
  constexpr int64_t W = kLanes<T>;
  parallel_for(ceil_div(cols, 4 * W), static_cast<double>(rows) * 2, [&](int64_t task) {
    const int64_t j0 = task * 4 * W, width = min_of(4 * W, cols - j0);
    if (width == 4 * W) {
      Vec<T> acc[4] = {};
      for (int64_t i = 0; i < rows; ++i)
        for (int v = 0; v < 4; ++v) acc[v] += load(x + i * cols + j0 + v * W);
      for (int v = 0; v < 4; ++v) store(sums + j0 + v * W, acc[v]);
      return;
    }
    for (int64_t j = j0; j < j0 + width; j += W) {
      const int64_t count = min_of(W, cols - j);
      Vec<T> acc{};
      for (int64_t i = 0; i < rows; ++i) acc += load_part(x + i * cols + j, count);
      store_part(sums + j, acc, count);
    }
  });
}

}  // namespace

void linear_forward(View x, View weight, View bias, View y) {
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
    run_gemm(g);
  });
}

void linear_backward(View dy, View x, View weight, View dx, View dweight, View dbias) {
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
