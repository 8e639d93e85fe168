// CUDA's threads on the host, for tests without a GPU: every thread of a launch runs by itself until it waits for
// others of its warp, its block or the grid. Kernels are the same sources as on a GPU, with CUDA's names for what they
// ask for.
//
// What a GPU leaves undefined is an error or shows: threads that wait for others that don't come, lanes that exchange
// different things, launches and accesses that don't fit, and shared memory, which is full of NaN at first, written
// beyond its end. Copies into shared memory are made when they are waited for. The order of threads can be changed
// (emulate_order in runtime.h): what must not depend on it has to give the same bits.
#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "core/view.h"

#define threadIdx ::fastdl::cuda::gpu::emulated::t_place.thread
#define blockIdx ::fastdl::cuda::gpu::emulated::t_place.block
#define blockDim ::fastdl::cuda::gpu::emulated::t_place.threads
#define gridDim ::fastdl::cuda::gpu::emulated::t_place.blocks
#define __global__
#define __launch_bounds__(...)

namespace fastdl::cuda::gpu {

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

namespace emulated {

class Run;
struct Thread;
// The thread that runs now.
struct Place {
  dim3 thread, block, threads, blocks;
  Thread* now;
  Run* run;
};
extern constinit thread_local Place t_place;

struct Grid {
  dim3 blocks;
  int threads;
  std::size_t dynamic_bytes;  // of shared memory
  bool waits;                 // as a whole: all its blocks run at the same time

  unsigned count() const { return blocks.x * blocks.y; }
};
// body(of) on every thread.
void run(const Grid& grid, void (*body)(const void* of), const void* of);

enum class What : std::uint8_t { block, grid, shuffle, ballot, matrix, product };
void wait(What what);

// A block's memory for the array that `key` stands for, on a border of 16 bytes; null: what the launch asked for.
void* shared_memory(const void* key, std::size_t bytes);
template <class Array, class Tag>
Array& shared(Tag) {
  static const char key = 0;
  return *static_cast<Array*>(shared_memory(&key, sizeof(Array)));
}

// What each lane of the warp hands over, until this thread's next exchange but one.
constexpr int kWarp = 32;
constexpr std::size_t kMostExchanged = 32;
unsigned char* exchanged();
template <class T>
struct Lanes {
  const unsigned char* slots;
  T operator[](int lane) const {
    T x;
    std::memcpy(&x, slots + static_cast<std::size_t>(lane) * kMostExchanged, sizeof x);
    return x;
  }
};
template <class T>
Lanes<T> exchange(const T& mine, What what) {
  static_assert(sizeof(T) <= kMostExchanged);
  unsigned char* const slots = exchanged();
  std::memcpy(slots + threadIdx.x % kWarp * kMostExchanged, &mine, sizeof mine);
  wait(what);
  return {slots};
}

// 16 bytes to shared memory, zeros from null, when the group that ends next is waited for.
void copy_later(void* to, const void* from);
void end_group();
void wait_for_groups(std::size_t running);

[[noreturn]] void fail_unaligned(const void* p, std::size_t border);
inline void check_alignment(const void* p, std::size_t border) {
  if (reinterpret_cast<std::uintptr_t>(p) % border != 0) fail_unaligned(p, border);
}

}  // namespace emulated

inline void __syncthreads() { emulated::wait(emulated::What::block); }
inline void __threadfence() {}
inline int __popc(unsigned x) { return std::popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
template <class T>
T __shfl_xor_sync(unsigned, T x, int step) {
  return emulated::exchange(x, emulated::What::shuffle)[static_cast<int>(threadIdx.x) % emulated::kWarp ^ step];
}
inline unsigned __ballot_sync(unsigned, bool condition) {
  const auto lanes = emulated::exchange(condition, emulated::What::ballot);
  unsigned bits = 0;
  for (int lane = 0; lane < emulated::kWarp; ++lane) bits |= unsigned{lanes[lane]} << lane;
  return bits;
}
template <class T>
T atomicAdd(T* p, T x) {
  const T before = *p;
  *p += x;
  return before;
}

}  // namespace fastdl::cuda::gpu
