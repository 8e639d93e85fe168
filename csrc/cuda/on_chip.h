// Sums down the columns of a matrix whose rows stay on the chip: each thread reads its rows once and keeps them in its
// block's shared memory, so that what the sums are for is done without reading them again, in the same kernel. A block
// that has all rows of its columns goes on at once. Otherwise the blocks wait for each other, once: each then adds the
// sums of all for itself, which for narrow strips of columns costs less than a second wait.
#pragma once
#include "cuda/columns.h"

#if defined(__CUDACC__)
#include <cooperative_groups.h>
#else
#include <stdexcept>
#include <vector>
#endif

namespace fastdl::cuda::gpu {

#if defined(__CUDACC__)
// One block has a processor's shared memory to itself: its threads must keep enough loads on their way.
constexpr int kChipThreads = 512;
constexpr int64_t kMostAlone = 256;
#else
constexpr int kChipThreads = kEmulatedLanes;
constexpr int64_t kMostAlone = 16;
#endif

// Up to so many rows per thread (1024 of 16 floats, 4096 of one channel) a block takes all rows: two rounds of loads,
// which take no longer than a wait for others. Of more than kMostAlone such blocks most would queue.
constexpr int kRowsAlone = 8;

// What a thread has kept.
template <class Item>
struct Slots {
  Item* first;
  FASTDL_DEVICE_ONLY Item& operator[](int i) const { return first[i * kChipThreads]; }
};

// f(i, load(i)) for i < count, with some loads on their way before the first of them is used; past the end that of the
// last, so that none has a condition.
template <class Load, class F>
FASTDL_DEVICE_ONLY void with_loads_ahead(int count, const Load& load, const F& f) {
  using Item = decltype(load(0));
  constexpr int kAhead = sizeof(Item) <= 8 ? 8 : 4;
  for (int i = 0; i < count; i += kAhead) {
    Item items[kAhead];
    FASTDL_UNROLL
    for (int a = 0; a < kAhead; ++a) items[a] = load(min_of(i + a, count - 1));
    FASTDL_UNROLL
    for (int a = 0; a < kAhead; ++a)
      if (i + a < count) f(i + a, items[a]);
  }
}

// f(thread) on each thread of a block, after all have done what came before.
template <class F>
FASTDL_DEVICE_ONLY void each_thread(const F& f) {
#if defined(__CUDACC__)
  __syncthreads();
  f(static_cast<int>(threadIdx.x));
#else
  for (int thread = 0; thread < kChipThreads; ++thread) f(thread);
#endif
}

// What the blocks do before they wait for each other, and after. f says what is kept, in kItems of type Item per row:
//   Sum take(strip, slots)                  keeps the strip's rows
//   void store(block, pack, sum)            for the other blocks
//   Sum gather(strip)                       of blocks instead of rows, what they stored
//   void finish(pack, k, sum, first)        of all rows, for one of a pack's kColumns; first: on one block only
//   void apply(strip, slots)                knows what finish wrote, and has the rows of take
template <class F>
struct OnChip {
  using Sum = typename F::Sum;
  using Item = typename F::Item;
  Columns columns;
  F f;

  // No blocks where the rows don't fit on the chip.
  static Columns share_out(int64_t rows, int64_t packs) {
#if defined(__CUDACC__)
    constexpr int kStripBytes = 64;  // two sectors, of every row
    constexpr int kWidest = kStripBytes / sizeof(Item) < kWarp ? kStripBytes / sizeof(Item) : kWarp;
#else
    constexpr int kWidest = 2;
#endif
    Columns c = columns_of(rows, packs, waiting_blocks(), kChipThreads, kWidest);
    Columns alone = c;
    alone.blocks = 1;
    if (rows <= c.lanes * kRowsAlone && c.tiles <= kMostAlone && bytes(alone) <= block_memory()) return alone;
    if (c.tiles * c.blocks > waiting_blocks() || bytes(c) > block_memory()) c.blocks = 0;
    return c;
  }
  static int64_t bytes(const Columns& c) {
    return kChipThreads * static_cast<int64_t>(sizeof(Sum) + ceil_div(c.rows, c.step()) * F::kItems * sizeof(Item));
  }
  FASTDL_BOTH bool waits() const { return columns.blocks > 1; }

  FASTDL_DEVICE_ONLY void before(unsigned index, unsigned char* memory) const {
    Sum* const sums = reinterpret_cast<Sum*>(memory);
    merge(index, sums, columns.rows, [&](const Strip& s, int thread) { return f.take(s, slots(memory, thread)); });
    if (!waits()) return;
    each_thread([&](int thread) {
      const Strip s = strip(index, thread);
      if (thread < columns.width && s.pack < columns.packs) f.store(block(index), s.pack, sums[thread]);
    });
  }
  FASTDL_DEVICE_ONLY void after(unsigned index, unsigned char* memory) const {
    Sum* const sums = reinterpret_cast<Sum*>(memory);
    if (waits())
      merge(index, sums, columns.blocks, [&](const Strip& s, int thread) {
        return f.gather(Strip{s.pack, thread / columns.width, columns.lanes, columns.blocks});
      });
    each_thread([&](int thread) {
      const int pack = thread / F::kColumns;
      const Strip s = strip(index, pack);
      if (pack < columns.width && s.pack < columns.packs)
        f.finish(s.pack, thread % F::kColumns, sums[pack], block(index) == 0);
    });
    each_thread([&](int thread) {
      const Strip s = strip(index, thread);
      if (s.pack < columns.packs) f.apply(s, slots(memory, thread));
    });
  }

 private:
  FASTDL_DEVICE_ONLY unsigned block(unsigned index) const { return index / static_cast<unsigned>(columns.tiles); }
  FASTDL_DEVICE_ONLY Strip strip(unsigned index, int thread) const {
    const unsigned tile = index % static_cast<unsigned>(columns.tiles);
    return {int64_t{tile} * columns.width + thread % columns.width,
            int64_t{block(index)} * columns.lanes + thread / columns.width, columns.step(), columns.rows};
  }
  FASTDL_DEVICE_ONLY Slots<Item> slots(unsigned char* memory, int thread) const {
    return {reinterpret_cast<Item*>(memory + kChipThreads * sizeof(Sum)) + thread};
  }
  // sums[thread] of lane 0: those of all lanes, of which only the first `used` may have anything.
  template <class Take>
  FASTDL_DEVICE_ONLY void merge(unsigned index, Sum* sums, int64_t used, const Take& take) const {
    each_thread([&](int thread) {
      const Strip s = strip(index, thread);
      new (sums + thread) Sum(s.pack < columns.packs ? take(s, thread) : Sum());
    });
    for (int half = columns.lanes / 2; half > 0; half /= 2) {
      if (half >= used) continue;
      each_thread([&](int thread) {
        if (thread < half * columns.width) sums[thread].merge(sums[thread + half * columns.width]);
      });
    }
  }
};

#if defined(__CUDACC__)

template <class F>
__global__ void __launch_bounds__(kChipThreads, 1) on_chip_kernel(OnChip<F> program) {
  alignas(16) extern __shared__ unsigned char chip_memory[];
  program.before(blockIdx.x, chip_memory);
  if (program.waits()) cooperative_groups::this_grid().sync();
  program.after(blockIdx.x, chip_memory);
}

// Blocks that wait take a cooperative launch: all of them run at the same time, or there is an error.
template <class F>
void for_sums_on_chip(const Columns& c, const F& f) {
  if (c.tiles == 0) return;
  OnChip<F> program{c, f};
  void* arguments[] = {&program};
  const dim3 blocks(static_cast<unsigned>(c.tiles * c.blocks)), threads(kChipThreads);
  const std::size_t bytes = static_cast<std::size_t>(OnChip<F>::bytes(c));
  // Always all that there is: another thread may be launching the same kernel.
  (void)cudaFuncSetAttribute(on_chip_kernel<F>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(block_memory()));
  if (program.waits())
    (void)cudaLaunchCooperativeKernel(on_chip_kernel<F>, blocks, threads, arguments, bytes, stream());
  else
    (void)cudaLaunchKernel(on_chip_kernel<F>, blocks, threads, arguments, bytes, stream());
  check_launch();
}

#else

template <class F>
void for_sums_on_chip(const Columns& c, const F& f) {
  const OnChip<F> program{c, f};
  const auto bytes = static_cast<std::size_t>(OnChip<F>::bytes(c));
  const auto blocks = static_cast<unsigned>(c.tiles * c.blocks);
  const unsigned together = program.waits() ? blocks : 1;
  if (c.tiles > 0 && (OnChip<F>::bytes(c) > block_memory() || int64_t{together} > waiting_blocks()))
    throw std::runtime_error("a kernel could not be launched: more than fits on the chip");
  for (unsigned first = 0; first < blocks; first += together) {
    std::vector<unsigned char> memory(together * bytes, 0xff);  // NaN: nothing may count on what is there
    for (unsigned b = 0; b < together; ++b) program.before(first + b, memory.data() + b * bytes);
    for (unsigned b = 0; b < together; ++b) program.after(first + b, memory.data() + b * bytes);
  }
}

#endif

}  // namespace fastdl::cuda::gpu
