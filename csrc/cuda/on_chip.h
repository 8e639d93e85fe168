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

// Up to so many rows per thread (1024 of 16 floats, 4096 of one channel) a block takes all rows: one round of loads
// or two, which take no longer than a wait for others. Of more than kMostAlone such blocks most would queue.
constexpr int kRowsAlone = 8;

// Rows that a thread loads before it uses the first.
template <class Item>
inline constexpr int kChipRowsAhead = sizeof(Item) <= 16 ? 8 : 4;
constexpr int kKeptRowsAhead = 4;  // the same of rows that it has kept

// What a thread has kept.
template <class Item>
struct Slots {
  Item* first;
  FASTDL_DEVICE_ONLY Item& operator[](int i) const { return first[i * kChipThreads]; }
};

// What the blocks do before they wait for each other, and after. f says what is kept, in kItems of type Item per row:
//   Taken take(strip, slots)                      keeps the strip's rows
//   void finish(column, first, second, once)      its two sums of all rows; once: on one block only
//   void apply(strip, slots)                      knows what finish wrote, and has the rows of take
template <class F>
struct OnChip {
  using Item = typename F::Item;
  using Kept = BlockSums<F, kChipThreads>;
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
    alone.share_out(1);
    if (rows <= c.lanes * kRowsAlone && c.tiles <= kMostAlone && bytes(alone) <= block_memory()) return alone;
    if (c.tiles * c.blocks > waiting_blocks() || bytes(c) > block_memory())
      c.blocks = 0;
    else  // with as many rows for every thread, fewer blocks take no longer
      c.share_out(max_of(int64_t{1}, ceil_div(rows, c.lanes * max_of(int64_t{1}, most_rows(c)))));
    return c;
  }
  static int64_t bytes(const Columns& c) {
    return Kept::kBytes + kChipThreads * most_rows(c) * F::kItems * static_cast<int64_t>(sizeof(Item));
  }
  static int64_t most_rows(const Columns& c) { return c.whole + (c.rest > 0); }
  FASTDL_BOTH bool waits() const { return columns.blocks > 1; }

  FASTDL_DEVICE_ONLY void before(unsigned tile, unsigned block, unsigned char* memory) const {
    const Kept sums = sums_in(memory);
    each_thread<kChipThreads>([&](int thread) {
      const Strip s = columns.strip(tile, block, thread);
      sums.set(thread, s.pack < columns.packs ? f.take(s, slots(memory, thread)) : typename F::Taken());
    });
    sums.merge(columns.rows);
    if (waits()) sums.store(f.partial, tile, block);
  }
  FASTDL_DEVICE_ONLY void after(unsigned tile, unsigned block, unsigned char* memory) const {
    const Kept sums = sums_in(memory);
    if (waits()) {
      each_thread<kChipThreads>([&](int thread) {
        const int64_t pack = columns.pack(tile, thread);
        if (pack < columns.packs) sums.set(thread, sums.stored(f.partial, pack, columns.lane(thread)));
      });
      sums.merge(columns.blocks);
    }
    each_thread<kChipThreads>([&](int thread) {
      const int column = thread / F::kColumns, k = thread % F::kColumns;
      const int64_t pack = columns.pack(tile, column);
      if (column < columns.width() && pack < columns.packs)
        f.finish(pack * F::kColumns + k, sums.at(k, column), sums.at(F::kColumns + k, column), block == 0);
    });
    each_thread<kChipThreads>([&](int thread) {
      const Strip s = columns.strip(tile, block, thread);
      if (s.pack < columns.packs) f.apply(s, slots(memory, thread));
    });
  }

 private:
  FASTDL_DEVICE_ONLY Kept sums_in(unsigned char* memory) const { return {columns, reinterpret_cast<double*>(memory)}; }
  FASTDL_DEVICE_ONLY Slots<Item> slots(unsigned char* memory, int thread) const {
    return {reinterpret_cast<Item*>(memory + Kept::kBytes) + thread};
  }
};

#if defined(__CUDACC__)

template <class F>
__global__ void __launch_bounds__(kChipThreads, 1) on_chip_kernel(OnChip<F> program) {
  alignas(16) extern __shared__ unsigned char chip_memory[];
  program.before(blockIdx.x, blockIdx.y, chip_memory);
  if (program.waits()) cooperative_groups::this_grid().sync();
  program.after(blockIdx.x, blockIdx.y, chip_memory);
}

// Blocks that wait take a cooperative launch: all of them run at the same time, or there is an error.
template <class F>
void for_sums_on_chip(const Columns& c, const F& f) {
  if (c.tiles == 0) return;
  OnChip<F> program{c, f};
  void* arguments[] = {&program};
  const dim3 blocks = grid_of(c), threads(kChipThreads);
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
  const auto tiles = static_cast<unsigned>(c.tiles), blocks = tiles * static_cast<unsigned>(c.blocks);
  const unsigned together = program.waits() ? blocks : 1;
  if (c.tiles > 0 && (OnChip<F>::bytes(c) > block_memory() || int64_t{together} > waiting_blocks()))
    throw std::runtime_error("a kernel could not be launched: more than fits on the chip");
  for (unsigned first = 0; first < blocks; first += together) {
    std::vector<unsigned char> memory(together * bytes, 0xff);  // NaN: nothing may count on what is there
    for (unsigned b = first; b < first + together; ++b)
      program.before(b % tiles, b / tiles, memory.data() + (b - first) * bytes);
    for (unsigned b = first; b < first + together; ++b)
      program.after(b % tiles, b / tiles, memory.data() + (b - first) * bytes);
  }
}

#endif

}  // namespace fastdl::cuda::gpu
