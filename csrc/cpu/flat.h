// Element-wise loops over flat memory: whole vectors, a part at the end, blocks for the threads.
#pragma once
#include "cpu/simd.h"

namespace fastdl::cpu::FASTDL_ISA {

constexpr int64_t kFlatBlock = 8192;  // elements per task: 32 KiB of float, about a microsecond of work

// y[i] = f(x[i]...) for i in [0, n), f on vectors; cost is the time of one element in ns. y may be one of the x.
template <class T, class F, class... In>
FASTDL_INLINE void map_flat(int64_t n, double cost, T* y, const F& f, const In*... x) {
  constexpr int64_t W = kLanes<T>;
  parallel_for(ceil_div(n, kFlatBlock), cost * static_cast<double>(min_of(n, kFlatBlock)), [&](int64_t task) {
    const int64_t end = min_of(n, (task + 1) * kFlatBlock);
    int64_t i = task * kFlatBlock;
    for (; i + W <= end; i += W) store(y + i, f(load(x + i)...));
    if (i < end) store_part(y + i, f(load_part(x + i, end - i)...), end - i);
  });
}

}  // namespace fastdl::cpu::FASTDL_ISA
