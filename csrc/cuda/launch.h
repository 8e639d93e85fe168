// Launching device code, and what the threads of a block have in common. nvcc makes kernels of it, any other compiler
// functions that emulated.h runs: fastdl._cuda_emulated, for tests without a GPU.
//
// Kernels here take pointers and numbers by value. Work is cut by shape alone (on_chip.h also goes by what the device
// holds) and sums are added in a fixed order: no atomics on floats, the same bits in every run.
#pragma once
#include <cstdint>
#include <limits>
#include <new>
#include <type_traits>

#include "core/bfloat16.h"
#include "cuda/runtime.h"

#if defined(__CUDACC__)
#define FASTDL_LAMBDA [=] __device__
#define FASTDL_DEVICE_ONLY __device__ __forceinline__
#define FASTDL_UNROLL _Pragma("unroll")
#define FASTDL_UNROLL_BY(n) _Pragma(FASTDL_WORDS(unroll n))  // so many loads on their way at once
#define FASTDL_WORDS(words) #words
// An array of a block's threads, in a function that all of them call: FASTDL_SHARED(float, tile, [16][64]);
#define FASTDL_SHARED(type, name, ...) __shared__ alignas(16) type name __VA_ARGS__
// What the launch asked for of it, as an array of bytes.
#define FASTDL_SHARED_BYTES(name) alignas(16) extern __shared__ unsigned char name[]
#else
#include "cuda/emulated.h"
#define FASTDL_LAMBDA [=]
#define FASTDL_DEVICE_ONLY FASTDL_INLINE
#define FASTDL_UNROLL
#define FASTDL_UNROLL_BY(n)
#define FASTDL_SHARED(type, name, ...) auto& name = emulated::shared<type __VA_ARGS__>([] {})
#define FASTDL_SHARED_BYTES(name) auto* const name = static_cast<unsigned char*>(emulated::shared_memory(nullptr, 0))
#endif

namespace fastdl::cuda::gpu {

using std::int64_t;

constexpr int kThreads = 256, kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;
constexpr int64_t kBlocksPerProcessor = 8;  // of kThreads threads: all that fit on most architectures

template <class T>
FASTDL_BOTH T min_of(T a, T b) {
  return b < a ? b : a;
}
template <class T>
FASTDL_BOTH T max_of(T a, T b) {
  return a < b ? b : a;
}
FASTDL_BOTH int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The threads of a warp, which see each other's conditions: bit i says whether it holds on lane i.
FASTDL_DEVICE_ONLY std::uint32_t ballot(bool condition) { return __ballot_sync(kAllLanes, condition); }
FASTDL_DEVICE_ONLY int lowest_bit(std::uint32_t bits) { return __ffs(static_cast<int>(bits)) - 1; }

// f over the lanes' x in a fixed order, on every lane.
template <class T, class F>
FASTDL_DEVICE_ONLY T reduce_lanes(T x, const F& f) {
  for (int step = kWarp / 2; step > 0; step /= 2) x = f(x, __shfl_xor_sync(kAllLanes, x, step));
  return x;
}

// The threads that work on one task together.
struct Block {
  int64_t task;
  int thread, threads;

  FASTDL_DEVICE_ONLY void sync() const { __syncthreads(); }

  // f over the threads' x in a fixed order, on every thread.
  template <class T, class F>
  FASTDL_DEVICE_ONLY T reduce(T x, const F& f) const {
    FASTDL_SHARED(T, sums, [kThreads / kWarp]);
    x = reduce_lanes(x, f);
    if (thread % kWarp == 0) sums[thread / kWarp] = x;
    sync();
    x = sums[0];
    for (int warp = 1; warp < threads / kWarp; ++warp) x = f(x, sums[warp]);
    sync();  // the next call may write
    return x;
  }
  template <class T>
  FASTDL_DEVICE_ONLY T sum(T x) const {
    return reduce(x, [](T a, T b) { return a + b; });
  }

  // The sum of f(i) for begin <= i < end, in double and in a fixed order, on every thread.
  template <class F>
  FASTDL_DEVICE_ONLY double sum_of(int64_t begin, int64_t end, const F& f) const {
    double total = 0;
    for (int64_t i = begin + thread; i < end; i += threads) total += static_cast<double>(f(i));
    return sum(total);
  }

  // On how many threads before this one the condition holds; total: on how many of all.
  FASTDL_DEVICE_ONLY int rank(bool condition, int& total) const {
    FASTDL_SHARED(int, counts, [kThreads / kWarp]);
    const std::uint32_t holds = ballot(condition);
    if (thread % kWarp == 0) counts[thread / kWarp] = __popc(holds);
    sync();
    int before = 0;
    total = 0;
    for (int warp = 0; warp < threads / kWarp; ++warp) {
      if (warp < thread / kWarp) before += counts[warp];
      total += counts[warp];
    }
    sync();  // the next call may write
    return before + __popc(holds & ((1u << thread % kWarp) - 1));
  }
};

// What for_tasks_finished asks of tasks that need nothing before the first.
struct Unprepared {
  FASTDL_DEVICE_ONLY int prepare(const Block&) const { return 0; }
};

// N elements that are loaded and stored in one access.
template <class T, int N>
struct alignas(N * sizeof(T) <= 16 ? N * sizeof(T) : 16) Pack {
  T v[N];
};
template <class T>
inline constexpr int kPack = sizeof(T) >= 8 ? 2 : 4;
template <>
inline constexpr int kPack<bfloat16> = 8;

// Emulated: an error unless p is on a border of To.
template <class To>
FASTDL_BOTH void check_border([[maybe_unused]] const void* p) {
#if !defined(__CUDACC__)
  emulated::check_alignment(p, alignof(To));
#endif
}

template <int N, class T>
FASTDL_BOTH Pack<T, N> load_pack(const T* p) {
  check_border<Pack<T, N>>(p);
  if constexpr (N == 1)
    return {{*p}};
  else
    return *reinterpret_cast<const Pack<T, N>*>(p);
}
template <int N, class T>
FASTDL_BOTH Pack<T, N> filled(T x) {
  Pack<T, N> pack;
  for (int k = 0; k < N; ++k) pack.v[k] = x;
  return pack;
}
// What a kernel writes for an index out of range: the host can't look at indices in a GPU's memory.
template <class T>
FASTDL_BOTH T not_a_number() {
  return std::numeric_limits<T>::quiet_NaN();
}
template <int N, class T>
FASTDL_BOTH void store_pack(T* p, const Pack<T, N>& pack) {
  check_border<Pack<T, N>>(p);
  if constexpr (N == 1)
    *p = pack.v[0];
  else
    *reinterpret_cast<Pack<T, N>*>(p) = pack;
}

// Two bfloat16 in a word, the first in its lower half: one instruction for each on the way up, one for both on the way
// down on GPUs that have it.
FASTDL_BOTH float float_of(std::uint32_t word) {
  float x;
  __builtin_memcpy(&x, &word, sizeof x);
  return x;
}
FASTDL_BOTH std::uint32_t rounded_pair(float first, float second) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  std::uint32_t word;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(second), "f"(first));
  return word;
#else
  return std::uint32_t{bfloat16(first).bits} | std::uint32_t{bfloat16(second).bits} << 16;
#endif
}
template <class T, int N>
inline constexpr bool kPairs = std::is_same_v<T, bfloat16> && N % 2 == 0;

// The same in what is computed in: elements are widened when they are loaded, and rounded when they are stored.
template <int N, class T>
FASTDL_BOTH Pack<Wide<T>, N> widened(const Pack<T, N>& narrow) {
  Pack<Wide<T>, N> pack;
  if constexpr (kPairs<T, N>) {
    std::uint32_t words[N / 2];
    __builtin_memcpy(words, &narrow, sizeof words);
    for (int k = 0; k < N; k += 2) {
      pack.v[k] = float_of(words[k / 2] << 16);
      pack.v[k + 1] = float_of(words[k / 2] & 0xffff0000u);
    }
  } else {
    for (int k = 0; k < N; ++k) pack.v[k] = narrow.v[k];
  }
  return pack;
}
template <int N, class T>
FASTDL_BOTH Pack<Wide<T>, N> load_wide(const T* p) {
  return widened(load_pack<N>(p));
}
template <class T, int N>
FASTDL_BOTH Pack<T, N> rounded(const Pack<Wide<T>, N>& pack) {
  Pack<T, N> narrow;
  if constexpr (kPairs<T, N>) {
    std::uint32_t words[N / 2];
    for (int k = 0; k < N; k += 2) words[k / 2] = rounded_pair(pack.v[k], pack.v[k + 1]);
    __builtin_memcpy(&narrow, words, sizeof words);
  } else {
    for (int k = 0; k < N; ++k) narrow.v[k] = static_cast<T>(pack.v[k]);
  }
  return narrow;
}
template <int N, class T>
FASTDL_BOTH void store_rounded(T* p, const Pack<Wide<T>, N>& pack) {
  store_pack(p, rounded<T>(pack));
}

// How many threads a kernel has, and what they need: bytes of shared memory beside what it declares; waits: blocks wait
// for each other, so that all of them run at the same time, or there is an error.
struct Launch {
  dim3 blocks;
  int threads = kThreads;
  int64_t bytes = 0;
  bool waits = false;
};

template <class... P>
void launch(void (*kernel)(P...), const Launch& l, const std::type_identity_t<P>&... args) {
#if defined(__CUDACC__)
  if (l.bytes > 0)  // always all that there is: another thread may be launching the same kernel
    (void)cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(block_memory()));
  void* arguments[] = {const_cast<void*>(static_cast<const void*>(&args))...};
  const dim3 threads(static_cast<unsigned>(l.threads));
  const auto bytes = static_cast<std::size_t>(l.bytes);
  if (l.waits)
    (void)cudaLaunchCooperativeKernel(kernel, l.blocks, threads, arguments, bytes, stream());
  else
    (void)cudaLaunchKernel(kernel, l.blocks, threads, arguments, bytes, stream());
  check_launch();
#else
  const auto call = [&] { kernel(args...); };
  emulated::run(
      {l.blocks, l.threads, static_cast<std::size_t>(l.bytes), l.waits},
      [](const void* of) { (*static_cast<const decltype(call)*>(of))(); }, &call);
#endif
}

template <class F>
__global__ void __launch_bounds__(kThreads) each_kernel(int64_t n, F f) {
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < n; i += int64_t{gridDim.x} * kThreads) f(i);
}

// What f, the work of a block, asks for: threads at most, blocks at least on a processor, which bound its registers,
// and bytes of shared memory beside what it declares.
struct Usual {
  static constexpr int kThreads = gpu::kThreads, kBlocks = 1, kSharedBytes = 0;
};
template <class F>
using Needs = std::conditional_t<requires { F::kSharedBytes; }, F, Usual>;

template <class F>
__global__ void __launch_bounds__(Needs<F>::kThreads, Needs<F>::kBlocks) tasks_kernel(int64_t tasks, F f) {
  for (int64_t task = blockIdx.x; task < tasks; task += gridDim.x)
    f(Block{task, static_cast<int>(threadIdx.x), static_cast<int>(blockDim.x)});
}

// prepare() once per block, its result to every f.
template <int N, class Prepare, class F>
__global__ void __launch_bounds__(kThreads) packs_kernel(int64_t n, Prepare prepare, F f) {
  using Ready = decltype(prepare());
  FASTDL_SHARED(unsigned char, shared, [sizeof(Ready)]);
  if (threadIdx.x == 0) new (shared) Ready(prepare());
  __syncthreads();
  const Ready ready = *reinterpret_cast<const Ready*>(shared);
  const int64_t first = int64_t{blockIdx.x} * kThreads + threadIdx.x, step = int64_t{gridDim.x} * kThreads;
  for (int64_t i = first; i < n / N; i += step) f.template run<N>(i * N, ready);
  if (first < n % N) f.template run<1>(n / N * N + first, ready);
}

// f(block, f.prepare(block)) for the tasks, and f.finish(block) by the block that is done last, after all of them.
template <class F>
__global__ void __launch_bounds__(kThreads, F::kBlocks) finished_tasks_kernel(int64_t tasks, unsigned* done, F f) {
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  const auto ready = f.prepare(Block{blockIdx.x, thread, threads});
  for (int64_t task = blockIdx.x; task < tasks; task += gridDim.x) f(Block{task, thread, threads}, ready);
  FASTDL_SHARED(bool, last);
  __threadfence();
  __syncthreads();
  if (thread == 0) last = atomicAdd(done, 1u) == gridDim.x - 1;
  __syncthreads();
  if (!last) return;
  __threadfence();
  f.finish(Block{0, thread, threads});
  if (thread == 0) *done = 0;
}

inline unsigned grid_of(int64_t blocks, int64_t per_processor = kBlocksPerProcessor) {
  return static_cast<unsigned>(max_of(int64_t{1}, min_of(blocks, per_processor * processors())));
}

// f(i) for every i < n.
template <class F>
void for_each(int64_t n, const F& f) {
  if (n <= 0) return;
  launch(each_kernel<F>, {grid_of(ceil_div(n, kThreads))}, n, f);
}

// f(block) for every task, `threads` (a multiple of 32, at most kThreads) to each.
template <class F>
void for_tasks(int64_t tasks, int threads, const F& f) {
  if (tasks <= 0) return;
  const unsigned blocks = grid_of(tasks, kBlocksPerProcessor * kThreads / threads);
  launch(tasks_kernel<F>, {blocks, threads, Needs<F>::kSharedBytes}, tasks, f);
}

// f(block, ready) for every task, kThreads to each, where ready is what f.prepare(block) gave each block before its
// first, and then f.finish(block) by one block. F::kBlocks blocks a processor, as each of them prepares.
template <class F>
void for_tasks_finished(int64_t tasks, const F& f) {
  unsigned* const done = counter();
  launch(finished_tasks_kernel<F>, {grid_of(tasks, F::kBlocks)}, tasks, done, f);
}

// f.run<N>(i, prepare()) for packs of N elements from i on, and run<1> for what is left. packed: every array begins on
// a border of packs.
template <int N, class Prepare, class F>
void for_packs(int64_t n, bool packed, const Prepare& prepare, const F& f) {
  if (n <= 0) return;
  const unsigned blocks = grid_of(ceil_div(n, kThreads * (packed ? N : 1)));
  if (packed)
    launch(packs_kernel<N, Prepare, F>, {blocks}, n, prepare, f);
  else
    launch(packs_kernel<1, Prepare, F>, {blocks}, n, prepare, f);
}

inline bool on_border(const void* p) { return reinterpret_cast<std::uintptr_t>(p) % 16 == 0; }

}  // namespace fastdl::cuda::gpu
