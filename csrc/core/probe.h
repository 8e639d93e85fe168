// Loops that show what this machine can do at best: the ceilings that `fastdl bench` sets its figures against.
#pragma once
#include "core/kernel.h"

namespace fastdl {

enum class MemoryLoop { kCopy, kStream, kRead };

namespace FASTDL_DEVICE {
// Multiply-adds in registers, on every thread. flops [1], float64: how many operations that were, a multiply-add
// counting 2.
inline Kernel<void(DType dtype, std::int64_t steps, Out flops)> probe_fma;

// kCopy: y = x. kStream: the same with stores that bypass the caches, where the instruction set has them. kRead: reads
// x alone, y is not used. Every thread does its own part `repeats` times over.
// x [n], y [n]: float32, 64-byte aligned; n is a multiple of 64 times the number of threads.
inline Kernel<void(MemoryLoop loop, View x, Out y, std::int64_t repeats)> probe_memory;
}  // namespace FASTDL_DEVICE

}  // namespace fastdl
