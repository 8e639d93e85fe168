// The stream that kernels are launched on, the device's size, and launch errors as exceptions. Without nvcc (the
// emulated module) there is no stream, and tables stay where they are.
#pragma once
#include <cstddef>
#include <cstdint>

#if defined(__CUDACC__) || defined(FASTDL_CUDA)
#include <cuda_runtime_api.h>
#endif

namespace fastdl::cuda::gpu {

#if defined(__CUDACC__) || defined(FASTDL_CUDA)
cudaStream_t stream();  // of this thread's call, set by the bindings from CuPy's current stream
void set_stream(void* stream);
void check_launch();  // throws RuntimeError with CUDA's words if the last launch failed
void probe();         // runs a kernel and waits for it; throws likewise
#endif

// Emulated: device 0, with few processors of compute capability 9.
int current_device();
std::int64_t processors();       // multiprocessors of the current device
int compute_capability_major();  // of the current device

// A number on the device that is 0 before and after a kernel counts with it. Calls take turns with many of them, as
// graphs recorded on this stream may be launched on several others at once.
unsigned* counter();

// Shared memory that a block may have on the current device, in bytes; and how many such blocks run at the same time
// and may wait for each other, 0 where none may. Emulated: little and few, so that small arrays pass both borders.
std::int64_t block_memory();
std::int64_t waiting_blocks();

// Is a graph being captured on the stream? Then nothing can be allocated, waited for or tried out, and what a kernel
// would have to make throws RuntimeError: `what` completes "a CUDA graph is being captured and needs ...".
bool is_capturing();
[[noreturn]] void refuse_capture(const char* what);
#if !defined(__CUDACC__) && !defined(FASTDL_CUDA)
void emulate_capture(bool on);
// What is timed takes no time, or with `on` less than what was timed before.
void emulate_clock(bool on);
float emulated_time();
// The threads of a kernel, where they could run at the same time: in order (0), in reverse (1), or mixed and some
// warps late (other seeds).
void emulate_order(unsigned order);
#endif

// A small table of the host as the device sees it: uploaded once for each content and device, and kept. Raises while a
// graph is captured, if the table is new: a step is warmed up first.
const void* resident(const void* host, std::size_t bytes);
template <class T>
const T* resident(const T* host, std::int64_t count) {
  return static_cast<const T*>(resident(static_cast<const void*>(host), static_cast<std::size_t>(count) * sizeof(T)));
}

// Memory that is copied as it lies: `bytes` of them.
struct Piece {
  const void* from;
  void* to;
  std::int64_t bytes;
};
// words[i] = values[i] for `count` numbers of the host, and the pieces copied, which don't overlap: one launch for 64
// and 8 of them. The numbers travel as arguments of the kernel, so that the call neither waits nor needs memory of the
// host that stays as it is.
void write(std::int64_t* words, const std::int64_t* values, std::int64_t count, const Piece* pieces = nullptr,
           std::int64_t piece_count = 0);

// Memory for a kernel's own use until the next one that is launched on this stream, on a border of 256 bytes; never
// smaller afterwards.
void* workspace(std::size_t bytes);
template <class T>
T* workspace(std::int64_t count) {
  return static_cast<T*>(workspace(static_cast<std::size_t>(count) * sizeof(T)));
}

}  // namespace fastdl::cuda::gpu
