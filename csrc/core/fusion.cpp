#include "core/fusion.h"

#include <set>

#include "core/activation.h"
#include "core/batch_norm.h"
#include "core/chain.h"
#include "core/conv2d.h"
#include "core/copy.h"
#include "core/elementwise.h"
#include "core/linear.h"
#include "core/plan.h"
#include "core/pool2d.h"

namespace fastdl {

namespace {

using check::same_layout;
using check::same_view;

// The arguments of a call of this kernel, or nullptr for another kernel's call and a step that is gone.
template <class... Args>
std::tuple<std::decay_t<Args>...>* arguments_of(const Step& step, const Kernel<void(Args...)>& kernel) {
  if (!step.call || step.call->kernel() != &kernel) return nullptr;
  return &static_cast<KernelCall<Args...>&>(*step.call).arguments();
}

bool dense(const View& x) {
  const check::Extent e = check::extent(x);
  return e.end - e.begin == static_cast<std::uintptr_t>(x.size() * item_size(x.dtype));
}

// The same elements in the same order of memory, whatever the shapes.
bool same_memory(const View& a, const View& b) {
  return a.data == b.data && a.dtype == b.dtype && a.size() == b.size() && dense(a) && dense(b);
}

class Fusion {
 public:
  Fusion(Program& program, const std::vector<View>& results) : program_(program) {
    for (const View& view : results) read_later_.insert(program.arena->allocation(view.data));
    for (const auto& input : program.bindings)
      for (const Binding& b : input) bound_.insert(b.view);
  }

  void run() {
    for (std::size_t i = 0; i < program_.steps.size(); ++i) {
      join_relu(i);
      join_relu_backward(i);
      join_pool_backward(i);
      drop_copy(i);
      drop_check(i);
    }
    for (std::size_t i = 0; i < program_.steps.size(); ++i) {  // after all that ReLU could join
      join_residual(i);
      join_gradient_sum(i);
      join_gate(i);
      take_moments(i);
    }
    join_chains(program_, read_later_);
    std::erase_if(program_.steps, [](const Step& step) { return !step.call; });
  }

 private:
  // The one step that reads the allocation which step i makes, or 0 if there are more, it is read after the program, or
  // it is not made by step i alone. again: step i may write anew what held something else until then.
  std::size_t only_reader(std::size_t i, std::int64_t allocation, bool again = false) const {
    if (allocation < 0 || read_later_.count(allocation) != 0) return 0;
    std::size_t reader = 0;
    for (std::size_t j = again ? i + 1 : 0; j < program_.steps.size(); ++j)
      for (const Use& use : program_.steps[j].uses) {
        if (use.allocation != allocation) continue;
        if (j == i) {
          if (use.access != Access::kWrite) return 0;
        } else if (j < i || reader != 0 || use.access != Access::kRead) {
          return 0;
        } else {
          reader = j;
        }
      }
    return reader;
  }

  // Whether no step of [i, j) uses what step j writes through `to`, so that step i may write it already. Memory of the
  // arena is planned afterwards: there only the allocation counts.
  bool untouched(std::size_t i, std::size_t j, const View& to) const {
    const std::int64_t allocation = allocation_of(j, to);
    for (; i < j; ++i)
      for (const Use& use : program_.steps[i].uses)
        if (allocation >= 0 ? use.allocation == allocation : check::overlap(*use.view, to)) return false;
    return true;
  }

  bool shows_an_input(std::size_t j) const {
    for (const Use& use : program_.steps[j].uses)
      if (bound_.count(use.view) != 0) return true;
    return false;
  }

  std::int64_t allocation_of(std::size_t i, const View& view) const {
    for (const Use& use : program_.steps[i].uses)
      if (use.view == &view) return use.allocation;
    return -1;
  }

  // Step i also reads `view`, through its argument `argument`.
  void add_use(std::size_t i, View& argument, const View& view, std::int64_t allocation) {
    argument = view;
    program_.steps[i].uses.push_back({&argument, Access::kRead, allocation});
  }

  // Step i uses through `from` what step j uses through `to`; step j goes.
  void replace(std::size_t i, View& from, std::size_t j, const View& to) {
    const std::int64_t allocation = allocation_of(j, to);
    for (Use& use : program_.steps[i].uses)
      if (use.view == &from) use.allocation = allocation;
    from.data = to.data;
    program_.steps[j] = {};
  }

  // Where a call that can apply ReLU to its result has its switch (a sum: its operation) and its result.
  struct Producer {
    bool* relu = nullptr;
    Out* y = nullptr;
    BinaryOp* sum = nullptr;
  };
  Producer producer(const Step& step) const {
    if (auto* linear = arguments_of(step, device::linear_forward))
      return {&std::get<3>(*linear), &std::get<4>(*linear)};
    if (auto* conv = arguments_of(step, device::conv2d_forward)) return {&std::get<3>(*conv), &std::get<4>(*conv)};
    if (auto* norm = arguments_of(step, device::batch_norm_forward)) return {&std::get<8>(*norm), &std::get<4>(*norm)};
    auto* binary = arguments_of(step, device::binary);
    if (binary != nullptr && std::get<0>(*binary) == BinaryOp::kAdd)
      return {nullptr, &std::get<2>(*binary), &std::get<0>(*binary)};
    return {};
  }

  void join_relu(std::size_t i) {
    const Producer p = producer(program_.steps[i]);
    if (p.y == nullptr || (p.relu != nullptr && *p.relu)) return;
    const std::size_t j = only_reader(i, allocation_of(i, *p.y));
    auto* forward = j != 0 ? arguments_of(program_.steps[j], device::relu_forward) : nullptr;
    if (forward == nullptr || shows_an_input(j)) return;
    const View &x = std::get<0>(*forward), &z = std::get<1>(*forward);
    if (!same_memory(x, *p.y) || !same_layout(x, z) || !untouched(i, j, z)) return;
    if (p.sum != nullptr)
      *p.sum = BinaryOp::kAddRelu;
    else
      *p.relu = true;
    replace(i, *p.y, j, z);
  }

  // relu_backward joins the batch_norm_backward that reads its result, if the forward pass was joined too.
  void join_relu_backward(std::size_t i) {
    auto* backward = arguments_of(program_.steps[i], device::relu_backward);
    if (backward == nullptr || shows_an_input(i)) return;
    const View &dy = std::get<0>(*backward), &y = std::get<1>(*backward), &dx = std::get<2>(*backward);
    const std::size_t k = only_reader(i, allocation_of(i, dx));
    auto* norm = k != 0 ? arguments_of(program_.steps[k], device::batch_norm_backward) : nullptr;
    if (norm == nullptr || std::get<6>(*norm) || !same_memory(dx, std::get<0>(*norm)) || !same_layout(dx, dy)) return;
    auto* forward = joined_forward(k, std::get<4>(*norm), i, y);
    if (forward == nullptr || written(i + 1, k, allocation_of(i, dy), dy)) return;
    const View& bias = std::get<2>(*forward);
    if (bias) add_use(k, std::get<3>(*norm), bias, -1);
    std::get<6>(*norm) = true;
    replace(k, std::get<0>(*norm), i, dy);
  }

  // The arguments of the batch_norm_forward with ReLU whose mean step k reads and whose result step i reads as y, with
  // a bias (if any) that is neither in the arena nor an input.
  std::tuple<View, View, View, double, Out, Out, Out, BatchNormRunning, bool, View, View>* joined_forward(
      std::size_t k, const View& mean, std::size_t i, const View& y) const {
    for (std::size_t f = 0; f < i; ++f) {
      auto* forward = arguments_of(program_.steps[f], device::batch_norm_forward);
      if (forward == nullptr || !std::get<8>(*forward)) continue;
      const bool same = allocation_of(f, std::get<5>(*forward)) == allocation_of(k, mean) &&
                        allocation_of(f, std::get<4>(*forward)) == allocation_of(i, y) &&
                        same_memory(std::get<4>(*forward), y);
      const View& bias = std::get<2>(*forward);
      const bool constant = allocation_of(f, bias) < 0 && bound_.count(&bias) == 0 && !written(f, k, -1, bias);
      if (same && (!bias || constant)) return forward;
    }
    return nullptr;
  }

  // The max_pool2d_backward whose result relu_backward alone reads takes that over, if it pooled what the ReLU made.
  void join_pool_backward(std::size_t i) {
    auto* backward = arguments_of(program_.steps[i], device::relu_backward);
    if (backward == nullptr || shows_an_input(i)) return;
    const View &dy = std::get<0>(*backward), &z = std::get<1>(*backward), &dx = std::get<2>(*backward);
    for (std::size_t p = 0; p < i; ++p) {
      auto* pool = arguments_of(program_.steps[p], device::max_pool2d_backward);
      if (pool == nullptr || std::get<2>(*pool) || only_reader(p, allocation_of(p, std::get<3>(*pool))) != i) continue;
      Out& to = std::get<3>(*pool);
      const std::size_t f = pooling_of(p, std::get<1>(*pool), i, z);
      if (f == p || !same_view(to, dy) || !same_layout(dy, dx) || !untouched(p, i, dx)) return;
      const Out& y = std::get<1>(*arguments_of(program_.steps[f], device::max_pool2d_forward));
      add_use(p, std::get<2>(*pool), y, allocation_of(f, y));
      return replace(p, to, i, dx);
    }
  }

  // The max_pool2d_forward that made the offsets of step p from what step i reads as z; p if there is none or if its
  // arrays have changed since.
  std::size_t pooling_of(std::size_t p, const View& offsets, std::size_t i, const View& z) const {
    for (std::size_t f = 0; f < p; ++f) {
      auto* forward = arguments_of(program_.steps[f], device::max_pool2d_forward);
      if (forward == nullptr) continue;
      const View &x = std::get<0>(*forward), &y = std::get<1>(*forward), &made = std::get<2>(*forward);
      const std::int64_t from = allocation_of(f, x), out = allocation_of(f, y), marks = allocation_of(f, made);
      if (from < 0 || out < 0 || marks < 0 || from != allocation_of(i, z) || marks != allocation_of(p, offsets))
        continue;
      if (same_view(x, z) && !written(f + 1, i, from, x) && !written(f + 1, p, out, y)) return f;
    }
    return p;
  }

  // The sum that alone reads what step i writes to y; no other step in between touches its result or writes its other
  // operand, which is nullptr if there is no such sum. in_place: that operand may be where the result goes.
  struct Sum {
    std::size_t step = 0;
    BinaryOp op{};
    const View *other = nullptr, *z = nullptr;
  };
  Sum sum_after(std::size_t i, const View& y, bool in_place) const {
    const std::size_t j = only_reader(i, allocation_of(i, y));
    auto* binary = j != 0 ? arguments_of(program_.steps[j], device::binary) : nullptr;
    if (binary == nullptr || shows_an_input(j)) return {};
    const auto& [op, nest, z, a, b] = *binary;
    const View &mine = same_memory(a, y) ? a : b, &other = &mine == &a ? b : a;
    if ((op != BinaryOp::kAdd && op != BinaryOp::kAddRelu) || !same_memory(mine, y)) return {};
    if (!same_layout(mine, z) || !same_layout(other, z) || !dense(z)) return {};
    const std::int64_t allocation = allocation_of(j, other), to = allocation_of(j, z);
    const bool aliased = allocation >= 0 || to >= 0 ? allocation == to : check::overlap(other, z);
    if ((aliased && !(in_place && same_view(other, z))) || written(i, j, allocation, other) || !untouched(i, j, z))
      return {};
    return {j, op, &other, &z};
  }

  void join_residual(std::size_t i) {
    auto* norm = arguments_of(program_.steps[i], device::batch_norm_forward);
    if (norm == nullptr || std::get<8>(*norm) || std::get<9>(*norm)) return;
    const Sum sum = sum_after(i, std::get<4>(*norm), false);
    if (sum.other == nullptr) return;
    std::get<8>(*norm) = sum.op == BinaryOp::kAddRelu;
    add_use(i, std::get<9>(*norm), *sum.other, allocation_of(sum.step, *sum.other));
    replace(i, std::get<4>(*norm), sum.step, *sum.z);
  }

  void join_gradient_sum(std::size_t i) {
    auto* conv = arguments_of(program_.steps[i], device::conv2d_backward);
    if (conv == nullptr || !std::get<5>(*conv) || std::get<3>(*conv) || std::get<4>(*conv)) return;
    const Sum sum = sum_after(i, std::get<5>(*conv), true);
    if (sum.other == nullptr || sum.op != BinaryOp::kAdd) return;
    add_use(i, std::get<3>(*conv), *sum.other, allocation_of(sum.step, *sum.other));
    replace(i, std::get<5>(*conv), sum.step, *sum.z);
  }

  void join_gate(std::size_t i) {
    auto* conv = arguments_of(program_.steps[i], device::conv2d_backward);
    auto* linear = arguments_of(program_.steps[i], device::linear_backward);
    if (conv == nullptr && linear == nullptr) return;
    View& gate = conv != nullptr ? std::get<4>(*conv) : std::get<3>(*linear);
    Out& dx = conv != nullptr ? std::get<5>(*conv) : std::get<4>(*linear);
    const std::size_t j = dx && !gate ? only_reader(i, allocation_of(i, dx), true) : 0;
    auto* backward = j != 0 ? arguments_of(program_.steps[j], device::relu_backward) : nullptr;
    if (backward == nullptr || shows_an_input(j)) return;
    const auto& [dy, y, z] = *backward;
    const std::int64_t allocation = allocation_of(j, y), to = allocation_of(j, z);
    if (!same_memory(dy, dx) || !same_layout(dy, y) || !same_layout(dy, z) || !untouched(i, j, z)) return;
    if (allocation >= 0 || to >= 0 ? allocation == to : check::overlap(y, z)) return;
    if (written(i, j, allocation, y)) return;
    add_use(i, gate, y, allocation);
    replace(i, dx, j, z);
  }

  void take_moments(std::size_t i) {
    auto* conv = arguments_of(program_.steps[i], device::conv2d_forward);
    if (conv == nullptr || std::get<6>(*conv)) return;
    const Out& y = std::get<4>(*conv);
    const std::int64_t allocation = allocation_of(i, y);
    for (std::size_t j = i + 1; allocation >= 0 && j < program_.steps.size(); ++j) {
      auto* norm = arguments_of(program_.steps[j], device::batch_norm_forward);
      if (norm == nullptr || allocation_of(j, std::get<0>(*norm)) != allocation) continue;
      const View& x = std::get<0>(*norm);
      if (std::get<10>(*norm) || !same_memory(x, y) || x.shape[1] != y.shape[1] || written(i + 1, j, allocation, x))
        return;
      View moments;
      moments.dtype = DType::f64;
      moments.ndim = 1;
      moments.shape[0] = moments_size(x.shape[0], x.shape[1]);
      moments.strides[0] = 1;
      moments.data = program_.arena->take(static_cast<std::size_t>(moments.shape[0]) * sizeof(double));
      const std::int64_t number = program_.arena->allocation(moments.data);
      program_.arena->give(moments.data);  // its place is planned with all others
      std::get<6>(*conv) = moments;
      program_.steps[i].uses.push_back({&std::get<6>(*conv), Access::kWrite, number});
      add_use(j, std::get<10>(*norm), moments, number);
      return;
    }
  }

  // Whether a step of [i, j) writes this memory.
  bool written(std::size_t i, std::size_t j, std::int64_t allocation, const View& x) const {
    for (; i < j; ++i)
      for (const Use& use : program_.steps[i].uses)
        if (use.access != Access::kRead &&
            (allocation >= 0 ? use.allocation == allocation : check::overlap(*use.view, x)))
          return true;
    return false;
  }

  // Every array that step i writes for a copy alone goes to the copy's place.
  void drop_copy(std::size_t i) {
    for (std::size_t u = 0; u < program_.steps[i].uses.size(); ++u) {
      const Use use = program_.steps[i].uses[u];
      const std::size_t j = use.access == Access::kWrite ? only_reader(i, use.allocation) : 0;
      auto* copy = j != 0 ? arguments_of(program_.steps[j], device::copy) : nullptr;
      if (copy == nullptr || shows_an_input(j)) continue;
      const View &src = std::get<0>(*copy), &dst = std::get<1>(*copy);
      if (same_view(src, *use.view) && same_layout(src, dst) && untouched(i, j, dst)) replace(i, *use.view, j, dst);
    }
  }

  // A check of what an earlier step has checked goes.
  void drop_check(std::size_t i) {
    if (!program_.steps[i].call || program_.steps[i].uses.empty()) return;  // an empty array is no use
    for (std::size_t j = 0; j < i; ++j) {
      Step &step = program_.steps[i], &earlier = program_.steps[j];
      if (!earlier.call || !step.call->repeats(*earlier.call)) continue;
      const Use& use = step.uses[0];
      if (written(j + 1, i, use.allocation, *use.view)) continue;
      for (auto& input : program_.bindings) std::erase_if(input, [&](const Binding& b) { return b.view == use.view; });
      step = {};
      return;
    }
  }

  Program& program_;
  std::set<std::int64_t> read_later_;
  std::set<const View*> bound_;
};

}  // namespace

void fuse(Program& program, const std::vector<View>& results) {
  Fusion(program, results).run();
  plan_memory(program, results);
}

}  // namespace fastdl
