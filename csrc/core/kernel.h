// A kernel as its callers see it: one name, and behind it one implementation per instruction set.
//
// A contract header declares `inline Kernel<void(View, View, ...)> relu_forward;` in namespace fastdl::cpu. The
// family's csrc/cpu/*.cpp is compiled once per instruction set, inside namespace fastdl::cpu::FASTDL_ISA, and enters
// its function with FASTDL_REGISTER(relu_forward). A call flushes denormals for its duration and goes to the set in
// use.
#pragma once
#include <cstdint>

#include "core/call.h"
#include "core/view.h"

// The device of a module: its kernels stand in a namespace of that name. `_cpu` and `_cuda` are built from the same
// contracts and bindings.
#ifndef FASTDL_DEVICE
#define FASTDL_DEVICE cpu
#endif

namespace fastdl {

namespace FASTDL_DEVICE {}
namespace device = FASTDL_DEVICE;

enum Isa : int { kBaseline, kAvx2, kAvx512, kIsaCount };

extern int g_isa;  // the instruction set in use

// Flushes denormals on this thread until destroyed, then restores the caller's mode. Subnormal operands cost some
// hundred cycles each, and weights that decay towards zero end up there.
class DenormalGuard {
 public:
  DenormalGuard();
  ~DenormalGuard();
  DenormalGuard(const DenormalGuard&) = delete;
  DenormalGuard& operator=(const DenormalGuard&) = delete;

 private:
  std::uint64_t saved_;
};

template <class Signature>
struct Kernel;
template <class... Args>
class KernelCall;

template <class... Args>
struct Kernel<void(Args...)> {
  using Function = void (*)(Args...);
  Function table[kIsaCount] = {};
  const char* name = "";
  bool elementwise = false;

  void operator()(Args... args) const {
    if (is_recording()) record(std::make_unique<KernelCall<Args...>>(*this, args...));
    DenormalGuard guard;
    table[g_isa](args...);
  }
};

// A kernel that makes each element of its result from the same elements of its arrays; a recorded program may run it
// piece by piece together with others.
template <class Signature>
struct Elementwise : Kernel<Signature> {
  constexpr Elementwise() { this->elementwise = true; }
};

// One call of a kernel with copies of its arguments, as a recorded program keeps it.
template <class... Args>
class KernelCall final : public Call {
 public:
  KernelCall(const Kernel<void(Args...)>& kernel, const Args&... args) : kernel_(kernel), args_(args...) {}
  const char* name() const override {
    if constexpr (requires { op_name(std::get<0>(args_)); })
      return op_name(std::get<0>(args_));
    else
      return kernel_.name;
  }
  const void* kernel() const override { return &kernel_; }
  void play() const override {
    std::apply([this](const auto&... args) { kernel_.table[g_isa](args...); }, args_);
  }
  Elements elements() const override {
    Elements elements;
    if (kernel_.elementwise) std::apply([&](const auto&... args) { (describe(elements, args), ...); }, args_);
    return elements;
  }
  void play_cut(Cut piece) const override {
    auto args = args_;
    std::apply(
        [&](auto&... args) {
          (cut(piece, args), ...);
          kernel_.table[g_isa](args...);
        },
        args);
  }
  void visit(ArgumentVisitor& visitor) override {
    std::apply([&](auto&... args) { (visit_argument(visitor, args), ...); }, args_);
  }
  std::tuple<std::decay_t<Args>...>& arguments() { return args_; }

 private:
  const Kernel<void(Args...)>& kernel_;
  std::tuple<std::decay_t<Args>...> args_;
};

}  // namespace fastdl

#define FASTDL_REGISTER(kernel)                                                       \
  namespace {                                                                         \
  [[maybe_unused]] const bool registered_##kernel =                                   \
      (::fastdl::device::kernel.name = #kernel,                                       \
       ::fastdl::device::kernel.table[FASTDL_ISA_LEVEL] = &FASTDL_ISA::kernel, true); \
  }
