// Sums down the columns of a matrix whose rows stay on the chip: each thread reads its rows once and keeps them in its
// block's shared memory, so that what the sums are for is done without reading them again, in the same kernel. A block
// that has all rows of its columns goes on at once. Otherwise the blocks wait for each other, once: each then adds the
// sums of all for itself, which for narrow strips of columns costs less than a second wait.
#pragma once
#include "cuda/columns.h"

#if defined(__CUDACC__)
#include <cooperative_groups.h>
#endif

namespace fastdl::cuda::gpu {

// One block has a processor's shared memory to itself: its threads must keep enough loads on their way. Strips are two
// sectors of every row wide. Emulated: less of all, so that small arrays take all ways.
#if defined(__CUDACC__)
constexpr int kChipThreads = 512, kStripBytes = 64;
template <class Item>
inline constexpr int kChipWidth = kStripBytes / sizeof(Item) < kWarp ? kStripBytes / sizeof(Item) : kWarp;
constexpr int64_t kMostAlone = 256;
FASTDL_DEVICE_ONLY void sync_grid() { cooperative_groups::this_grid().sync(); }
#else
constexpr int kChipThreads = 64;
template <class Item>
inline constexpr int kChipWidth = 2;
constexpr int64_t kMostAlone = 16;
inline void sync_grid() { emulated::wait(emulated::What::grid); }
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
    Columns c = columns_of(rows, packs, waiting_blocks(), kChipThreads, kChipWidth<Item>);
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

  FASTDL_DEVICE_ONLY void operator()(unsigned tile, unsigned block, int thread, unsigned char* memory) const {
    const Kept sums{columns, reinterpret_cast<double*>(memory), thread};
    const Slots<Item> slots{reinterpret_cast<Item*>(memory + Kept::kBytes) + thread};
    const Strip s = columns.strip(tile, block, thread);
    sums.set(s.pack < columns.packs ? f.take(s, slots) : typename F::Taken());
    sums.merge(columns.rows);
    if (waits()) {
      sums.store(f.partial, tile, block);
      sync_grid();
      if (s.pack < columns.packs) sums.set(sums.stored(f.partial, s.pack, columns.lane(thread)));
      sums.merge(columns.blocks);
    }
    const int column = thread / F::kColumns, k = thread % F::kColumns;
    if (const int64_t pack = columns.pack(tile, column); column < columns.width() && pack < columns.packs)
      f.finish(pack * F::kColumns + k, sums.at(k, column), sums.at(F::kColumns + k, column), block == 0);
    __syncthreads();
    if (s.pack < columns.packs) f.apply(s, slots);
  }
};

template <class F>
__global__ void __launch_bounds__(kChipThreads, 1) on_chip_kernel(OnChip<F> program) {
  FASTDL_SHARED_BYTES(chip_memory);
  program(blockIdx.x, blockIdx.y, static_cast<int>(threadIdx.x), chip_memory);
}

template <class F>
void for_sums_on_chip(const Columns& c, const F& f) {
  if (c.tiles == 0) return;
  const OnChip<F> program{c, f};
  launch(on_chip_kernel<F>, {grid_of(c), kChipThreads, OnChip<F>::bytes(c), program.waits()}, program);
}

}  // namespace fastdl::cuda::gpu
