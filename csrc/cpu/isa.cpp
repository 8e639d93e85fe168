// Which instruction set serves: by the CPU's features, never by its vendor or model; FASTDL_CPU_ISA forces one.
#include <cstdlib>

#include "core/error.h"
#include "core/kernel.h"
#include "cpu/runtime.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace fastdl {

namespace {

const char* const kNames[kIsaCount] = {"baseline", "avx2", "avx512"};

// By this machine, and built: the sets of a build are the first FASTDL_ISA_COUNT.
bool supported(int isa) {
  if (isa >= FASTDL_ISA_COUNT) return false;
  if (isa == kBaseline) return true;
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  if (isa == kAvx2) return avx2;
  return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#else
  return false;
#endif
}

int best() {
  int isa = kBaseline;
  for (int level = kBaseline; level < kIsaCount; ++level)
    if (supported(level)) isa = level;
  return isa;
}

}  // namespace

int g_isa = best();

std::vector<std::string> isa_levels() {
  std::vector<std::string> names;
  for (int level = kBaseline; level < kIsaCount; ++level)
    if (supported(level)) names.emplace_back(kNames[level]);
  return names;
}

std::string get_isa() { return kNames[g_isa]; }

void set_isa(const std::string& name) {
  std::string allowed;
  for (int level = kBaseline; level < kIsaCount; ++level) {
    if (!supported(level)) continue;
    if (name == kNames[level]) {
      g_isa = level;
      return;
    }
    allowed += (allowed.empty() ? "'" : ", '") + std::string(kNames[level]) + "'";
  }
  throw ValueError("FASTDL_CPU_ISA must be one of " + allowed + " on this machine, got '" + name + "'");
}

// FTZ (bit 15) turns subnormal results into zero, DAZ (bit 6) reads subnormal operands as zero.
#if defined(__x86_64__)
DenormalGuard::DenormalGuard() : saved_(_mm_getcsr()) {
  if ((saved_ & 0x8040u) != 0x8040u) _mm_setcsr(static_cast<unsigned>(saved_ | 0x8040u));
}
DenormalGuard::~DenormalGuard() {
  if ((saved_ & 0x8040u) != 0x8040u) _mm_setcsr(static_cast<unsigned>(saved_));
}
#elif defined(__aarch64__)
DenormalGuard::DenormalGuard() {
  asm volatile("mrs %0, fpcr" : "=r"(saved_));
  asm volatile("msr fpcr, %0" ::"r"(saved_ | (std::uint64_t{1} << 24)));
}
DenormalGuard::~DenormalGuard() { asm volatile("msr fpcr, %0" ::"r"(saved_)); }
#else
DenormalGuard::DenormalGuard() : saved_(0) {}
DenormalGuard::~DenormalGuard() = default;
#endif

}  // namespace fastdl
