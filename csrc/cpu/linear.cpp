// Dense layer on the GEMM engine. dx, dweight and dbias, a column sum, share one parallel region unless they are large.
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

void linear_backward(View dy, View x, View weight, View gate, Out dx, Out dweight, Out dbias) {
  const int64_t rows = x.shape[0], in = x.shape[1], out = weight.shape[0];
  with_float(x.dtype, [&](auto type) {
    using T = decltype(type);
    // dy [r, o] weight [o, i] and dy^T [o, r] x [r, i]
    const GemmPlan<T> to_x({dx ? rows : 0, in, out, dy.as<T>(), out, 1, weight.as<T>(), in, 1, dx.as<T>(), in, nullptr,
                            false, gate.as<T>()});
    const GemmPlan<T> to_weight(
        {dweight ? out : 0, in, rows, dy.as<T>(), 1, out, x.as<T>(), in, 1, dweight.as<T>(), in});
    const ColumnSums<T> to_bias(dy.as<T>(), rows, dbias ? out : 0, dbias.as<T>());
    const auto tasks_of = [](const GemmPlan<T>& plan) {
      if (!plan.large()) return plan.tasks();
      plan.run_large();
      return int64_t{0};
    };
    const int64_t first = tasks_of(to_x), second = first + tasks_of(to_weight), all = second + to_bias.tasks();
    // A thread's run of tasks has some of both products.
    const int64_t pairs = 2 * min_of(first, second - first);
    const double cost = to_x.cost() + to_weight.cost() + to_bias.cost();
    parallel_for(all, cost / static_cast<double>(max_of(1, all)), [&](int64_t task) {
      if (task >= second) return to_bias.run(task - second);
      const bool pair = task < pairs;
      if (pair ? task % 2 == 0 : first > second - first)
        to_x.run(pair ? task / 2 : task - pairs / 2);
      else
        to_weight.run(pair ? task / 2 : task - pairs / 2);
    });
    to_bias.finish();
  });
}

FASTDL_REGISTER(linear_forward)
FASTDL_REGISTER(linear_backward)

}  // namespace fastdl::cpu::FASTDL_ISA
