// Threads along the columns of x [m,c], contiguous, that walk down its rows: each keeps a pack of neighbouring columns
// and takes every so-and-so-many-th row, so that a warp reads whole lines and the grid goes through memory from the
// beginning to the end.
#pragma once
#include "cuda/launch.h"

namespace fastdl::cuda::gpu {

// Threads that keep factors or sums in registers leave room for so many blocks on a processor (those before 8.0 have
// no place for more). All blocks of a launch fit on a device of 132 processors at once; their number does not depend
// on the device, as it decides the order of sums.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
constexpr int kMapBlocksPerProcessor = 4;
#else
constexpr int kMapBlocksPerProcessor = 6;
#endif
constexpr int kSumBlocksPerProcessor = 4;
constexpr int64_t kMostMapBlocks = 768, kMostSumBlocks = 512;

constexpr int kFinishThreads = 128;  // that add up a column's sums of blocks

constexpr int kEmulatedLanes = 8;  // of a block in plain loops: so that sums are merged there as well

#if defined(__CUDACC__)
constexpr int kColumnThreads = kThreads, kColumnWidth = kWarp;
#else
constexpr int kColumnThreads = kEmulatedLanes, kColumnWidth = 1;
#endif

// How a matrix is shared out, by its shape alone: blocks of `width` packs side by side and `lanes` rows, `tiles` of
// them along the columns and `blocks` down the rows.
struct Columns {
  int64_t rows, packs;
  int width, lanes;
  int64_t tiles, blocks;

  FASTDL_BOTH int64_t step() const { return blocks * lanes; }
  // How many rows the lanes of a block take together.
  FASTDL_BOTH int64_t rows_of(int64_t block) const {
    const int64_t left = rows % step() - block * lanes;
    return rows / step() * lanes + max_of(int64_t{0}, min_of(left, int64_t{lanes}));
  }
};

// At most so many blocks in all; a thread takes at least kRowsPerThread rows, where there are as many.
inline Columns columns_of(int64_t rows, int64_t packs, int64_t most_blocks, int threads = kColumnThreads,
                          int widest = kColumnWidth) {
  constexpr int kRowsPerThread = 4;
  Columns c{rows, packs, 1, 1, 0, 0};
  while (c.width < packs && c.width < widest) c.width *= 2;
  c.lanes = threads / c.width;
  c.tiles = ceil_div(packs, c.width);
  const int64_t most = most_blocks / max_of(c.tiles, int64_t{1});
  c.blocks = max_of(int64_t{1}, min_of(ceil_div(rows, c.lanes * kRowsPerThread), most));
  return c;
}

// One thread's part: rows first, first + step, ... of one pack of columns.
struct Strip {
  int64_t pack, first, step, rows;

  FASTDL_BOTH int64_t count() const { return first < rows ? ceil_div(rows - first, step) : 0; }
  FASTDL_BOTH int64_t row(int64_t i) const { return first + i * step; }
};

// store_rounded to a row of a strip. nvcc 13.0 would store the elements one by one, as it does where an address is a
// sum of three; its intrinsics stay whole.
template <int N, class T>
FASTDL_DEVICE_ONLY void store_in_row(T* p, const Pack<Wide<T>, N>& pack) {
#if defined(__CUDACC__)
  if constexpr (N * sizeof(T) % 8 == 0 && N > 1) {
    using Word = std::conditional_t<N * sizeof(T) % 16 == 0, uint4, uint2>;
    const Pack<T, N> narrow = rounded<T>(pack);
    Word words[sizeof(narrow) / sizeof(Word)];
    __builtin_memcpy(words, &narrow, sizeof(narrow));
    FASTDL_UNROLL
    for (std::size_t i = 0; i < sizeof(narrow) / sizeof(Word); ++i) __stwb(reinterpret_cast<Word*>(p) + i, words[i]);
    return;
  }
#endif
  store_rounded(p, pack);
}

#if defined(__CUDACC__)

template <class F>
__global__ void __launch_bounds__(kThreads, kMapBlocksPerProcessor) strips_kernel(Columns c, F f) {
  const int thread = static_cast<int>(threadIdx.x);
  const unsigned tiles = static_cast<unsigned>(c.tiles), block = blockIdx.x / tiles, tile = blockIdx.x % tiles;
  const int64_t pack = int64_t{tile} * c.width + thread % c.width;
  if (pack < c.packs) f(Strip{pack, int64_t{block} * c.lanes + thread / c.width, c.step(), c.rows});
}

template <class F>
__global__ void __launch_bounds__(kThreads, kSumBlocksPerProcessor) sums_kernel(Columns c, F f) {
  using Sum = typename F::Sum;
  __shared__ alignas(16) unsigned char memory[kThreads * sizeof(Sum)];
  Sum* const sums = reinterpret_cast<Sum*>(memory);
  const int thread = static_cast<int>(threadIdx.x), lane = thread / c.width;
  const unsigned tiles = static_cast<unsigned>(c.tiles), block = blockIdx.x / tiles, tile = blockIdx.x % tiles;
  const int64_t pack = int64_t{tile} * c.width + thread % c.width;
  new (sums + thread)
      Sum(pack < c.packs ? f.take(Strip{pack, int64_t{block} * c.lanes + lane, c.step(), c.rows}) : Sum());
  for (int half = c.lanes / 2; half > 0; half /= 2) {
    __syncthreads();
    if (lane < half) sums[thread].merge(sums[thread + half * c.width]);
  }
  if (lane == 0 && pack < c.packs) f.store(block, pack, sums[thread]);
}

// f(strip) on every thread.
template <class F>
void for_strips(const Columns& c, const F& f) {
  if (c.tiles == 0) return;
  strips_kernel<<<static_cast<unsigned>(c.tiles * c.blocks), kThreads, 0, stream()>>>(c, f);
  check_launch();
}

// f.store(block, pack, sum) for every pack of columns in each block of rows, where sum is what f.take(strip) gave on
// the block's lanes, merged in a fixed order.
template <class F>
void for_sums(const Columns& c, const F& f) {
  if (c.tiles == 0) return;
  sums_kernel<<<static_cast<unsigned>(c.tiles * c.blocks), kThreads, 0, stream()>>>(c, f);
  check_launch();
}

#else

template <class F>
void for_strips(const Columns& c, const F& f) {
  for (int64_t block = 0; block < c.blocks; ++block)
    for (int64_t pack = 0; pack < c.packs; ++pack)
      for (int lane = 0; lane < c.lanes; ++lane) f(Strip{pack, block * c.lanes + lane, c.step(), c.rows});
}

template <class F>
void for_sums(const Columns& c, const F& f) {
  for (int64_t block = 0; block < c.blocks; ++block)
    for (int64_t pack = 0; pack < c.packs; ++pack) {
      typename F::Sum sums[kEmulatedLanes];
      for (int lane = 0; lane < c.lanes; ++lane)
        sums[lane] = f.take(Strip{pack, block * c.lanes + lane, c.step(), c.rows});
      for (int half = c.lanes / 2; half > 0; half /= 2)
        for (int lane = 0; lane < half; ++lane) sums[lane].merge(sums[lane + half]);
      f.store(block, pack, sums[0]);
    }
}

#endif

}  // namespace fastdl::cuda::gpu
