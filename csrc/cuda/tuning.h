// Choosing among the algorithms that a library proposes by running them, for the host code that calls one.
#pragma once
#include <algorithm>
#include <cstdint>
#include <limits>

#include "cuda/runtime.h"

namespace fastdl::cuda::gpu {

#if defined(FASTDL_CUDA)

inline void* current_stream() { return stream(); }
inline void clear_error() { (void)cudaGetLastError(); }

// Milliseconds on the stream that f's work takes: the best of some rounds of runs.
template <class F>
float time_of(const F& f) {
  constexpr int kRounds = 3, kRuns = 4;
  float best = std::numeric_limits<float>::infinity();
  cudaEvent_t begin = nullptr, end = nullptr;
  if (cudaEventCreate(&begin) == cudaSuccess && cudaEventCreate(&end) == cudaSuccess)
    for (int round = 0; round < kRounds; ++round) {
      float took = 0;
      cudaEventRecord(begin, stream());
      for (int i = 0; i < kRuns; ++i) f();
      cudaEventRecord(end, stream());
      if (cudaEventSynchronize(end) == cudaSuccess && cudaEventElapsedTime(&took, begin, end) == cudaSuccess)
        best = std::min(best, took / kRuns);
    }
  if (end != nullptr) cudaEventDestroy(end);
  if (begin != nullptr) cudaEventDestroy(begin);
  return best;
}

#else

inline void* current_stream() { return nullptr; }
inline void clear_error() {}

template <class F>
float time_of(const F&) {
  return emulated_time();
}

#endif

// The first candidate that runs, unless a later one is more than a twentieth faster: noise should not choose, as other
// algorithms give other bits.
struct Fastest {
  int chosen = -1;  // none runs
  float milliseconds = 0;

  // run: makes the work with the candidate, or returns false.
  template <class F>
  void offer(int candidate, const F& run) {
    if (!run()) return clear_error();
    const float took = time_of(run);
    if (chosen < 0 || took < 0.95f * milliseconds) {
      chosen = candidate;
      milliseconds = took;
    }
  }
};

// The border that a pointer lies on, 16 bytes at most: the widest access, and what every array of CuPy has that begins
// at a multiple of four floats, so that a captured step finds the plans of the eager one.
inline std::uint32_t alignment(const void* p) {
  const auto address = reinterpret_cast<std::uintptr_t>(p);
  return address % 16 == 0 ? 16 : address % 8 == 0 ? 8 : address % 4 == 0 ? 4 : 2;
}

}  // namespace fastdl::cuda::gpu
