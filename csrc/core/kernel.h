// A kernel as its callers see it: one name, and behind it one implementation per instruction set.
//
// A contract header declares `inline Kernel<void(View, View, ...)> relu_forward;` in namespace fastdl::cpu. The
// family's csrc/cpu/*.cpp is compiled once per instruction set, inside namespace fastdl::cpu::FASTDL_ISA, and enters
// its function with FASTDL_REGISTER(relu_forward). A call flushes denormals for its duration and goes to the set in
// use.
#pragma once
#include <cstdint>

#include "core/view.h"

namespace fastdl {

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
struct Kernel<void(Args...)> {
  using Function = void (*)(Args...);
  Function table[kIsaCount] = {};

  void operator()(Args... args) const {
    DenormalGuard guard;
    table[g_isa](args...);
  }
};

}  // namespace fastdl

#define FASTDL_REGISTER(kernel)                                                    \
  namespace {                                                                      \
  [[maybe_unused]] const bool registered_##kernel =                                \
      (::fastdl::cpu::kernel.table[FASTDL_ISA_LEVEL] = &FASTDL_ISA::kernel, true); \
  }
