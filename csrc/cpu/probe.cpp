// Ceilings of the machine: multiply-adds that wait for nothing, and copies that do nothing else.
#include "core/probe.h"

#include "cpu/simd.h"

namespace fastdl::cpu::FASTDL_ISA {

namespace {

constexpr int kChains = 12;  // independent sums: more than latency (4) times units (2), and 14 registers with a and b
constexpr int kTasks = 8;    // per thread, so that one that starts late costs little

template <class T>
T chains(int64_t steps, T a_, T b_) {
  const Vec<T> a = splat(a_), b = splat(b_);
  Vec<T> sum[kChains];
#pragma GCC unroll 12
  for (int i = 0; i < kChains; ++i) sum[i] = splat(static_cast<T>(i));
  for (int64_t step = 0; step < steps; ++step)
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) sum[i] = sum[i] * a + b;
  Vec<T> all{};
  for (int i = 0; i < kChains; ++i) all += sum[i];
  return sum_lanes<T>(all);
}

// Keeps a value, and the work that made it, without storing it; the compiler can't look inside.
FASTDL_INLINE void keep(Vec<float>& v) {
#if FASTDL_ISA_LEVEL == 2
  asm volatile("" : "+v"(v));
#elif defined(__SSE2__)
  asm volatile("" : "+x"(v));
#else
  asm volatile("" : "+m"(v));
#endif
}

FASTDL_INLINE void stream(float* p, Vec<float> v) {
#if FASTDL_ISA_LEVEL == 2
  _mm512_stream_ps(p, (__m512)v);
#elif FASTDL_ISA_LEVEL == 1
  _mm256_stream_ps(p, (__m256)v);
#elif defined(__SSE2__)
  _mm_stream_ps(p, (__m128)v);
#else
  store(p, v);
#endif
}

constexpr int kUnroll = 4;  // vectors in flight

template <MemoryLoop loop>
void pass(const float* x, float* y, int64_t n) {
  constexpr int64_t W = kLanes<float>;
  for (int64_t i = 0; i < n; i += kUnroll * W) {
    Vec<float> v[kUnroll];
#pragma GCC unroll 4
    for (int u = 0; u < kUnroll; ++u) {
      Vec<float> one = load(x + i + u * W);
      if constexpr (loop == MemoryLoop::kRead) keep(one);
      v[u] = one;
    }
#pragma GCC unroll 4
    for (int u = 0; u < kUnroll; ++u) {
      if constexpr (loop == MemoryLoop::kCopy) store(y + i + u * W, v[u]);
      if constexpr (loop == MemoryLoop::kStream) stream(y + i + u * W, v[u]);
    }
    asm volatile("" ::: "memory");  // else the compiler makes a memcpy of it, which streams when it likes
  }
}

template <MemoryLoop loop>
void passes(const float* x, float* y, int64_t n, int64_t repeats) {
  const int64_t part = n / num_threads();
  parallel_for(num_threads(), 1e6, [&](int64_t task) {
    for (int64_t r = 0; r < repeats; ++r) pass<loop>(x + task * part, y + task * part, part);
#if defined(__SSE2__)
    if constexpr (loop == MemoryLoop::kStream) _mm_sfence();
#endif
  });
}

}  // namespace

void probe_fma(DType dtype, int64_t steps, Out flops) {
  with_float(dtype, [&](auto type) {
    using T = decltype(type);
    const int64_t tasks = kTasks * num_threads();
    const volatile T a = T(0.999), b = T(0.001);  // every sum tends to 1; read at run time, so nothing can be folded
    Scratch<T> results(tasks);
    parallel_for(tasks, 1e6, [&](int64_t task) { results[task] = chains<T>(steps, a, b); });
    *flops.as<double>() = 2.0 * kChains * kLanes<T> * static_cast<double>(steps * tasks);
  });
}

void probe_memory(MemoryLoop loop, View x_, Out y_, int64_t repeats) {
  const float* x = x_.as<float>();
  float* y = y_.as<float>();
  const int64_t n = x_.size();
  switch (loop) {
    case MemoryLoop::kCopy:
      return passes<MemoryLoop::kCopy>(x, y, n, repeats);
    case MemoryLoop::kStream:
      return passes<MemoryLoop::kStream>(x, y, n, repeats);
    case MemoryLoop::kRead:
      return passes<MemoryLoop::kRead>(x, y, n, repeats);
  }
}

FASTDL_REGISTER(probe_fma)
FASTDL_REGISTER(probe_memory)

}  // namespace fastdl::cpu::FASTDL_ISA
