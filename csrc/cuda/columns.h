// Threads along the columns of x [m,c], contiguous, that walk down its rows: each keeps a pack of neighbouring columns
// and takes every so-and-so-many-th row, so that a warp reads whole lines and the grid goes through memory from the
// beginning to the end.
#pragma once
#include "cuda/launch.h"

namespace fastdl::cuda::gpu {

// F::kBlocks blocks of a kernel have room on a processor; those before 8.0 have no place for more than four. All blocks
// of a launch fit on a device of so many processors at once; their number does not depend on the device, as it decides
// the order of sums. A thread adds up to kRunRows rows in the type that it computes in, such runs in double: its error
// does not grow with the rows. Emulated: less of all, so that small arrays take all ways.
#if defined(__CUDACC__)
constexpr int64_t kUsualProcessors = 128;
constexpr int kColumnThreads = kThreads, kColumnWidth = kWarp, kRunRows = 128;
#else
constexpr int64_t kUsualProcessors = 4;
constexpr int kColumnThreads = 64, kColumnWidth = 8, kRunRows = 8;
#endif
constexpr int kFinishThreads = 128;  // that add up a column's sums of blocks

// One thread's part: so many rows of one pack of columns, the first and their distance as numbers of packs from the
// beginning of the array.
struct Strip {
  int64_t pack, first, step;
  int count;
};

// How a matrix is shared out, by its shape alone: blocks of 2^bits packs side by side and `lanes` rows, `tiles` of them
// along the columns and `blocks` down the rows. Each lane has `whole` rows, the first `rest` of all lanes one more.
struct Columns {
  int64_t rows, packs;
  int bits, lanes;
  int64_t tiles, blocks;
  int whole, rest;
  int64_t step;  // in packs

  void share_out(int64_t among) {
    blocks = among;
    whole = static_cast<int>(rows / (blocks * lanes));
    rest = static_cast<int>(rows % (blocks * lanes));
    step = blocks * lanes * packs;
  }
  FASTDL_BOTH int width() const { return 1 << bits; }
  FASTDL_BOTH int column(int thread) const { return thread & (width() - 1); }
  FASTDL_BOTH int lane(int thread) const { return thread >> bits; }
  FASTDL_BOTH int64_t pack(unsigned tile, int thread) const { return (int64_t{tile} << bits) + column(thread); }
  FASTDL_BOTH Strip strip(unsigned tile, unsigned block, int thread) const {
    const int row = static_cast<int>(block) * lanes + lane(thread);
    const int64_t p = pack(tile, thread);
    return {p, row * packs + p, step, whole + (row < rest)};
  }
  // The same from the last row up.
  FASTDL_BOTH Strip upward(const Strip& s) const {
    return {s.pack, (rows - 1) * packs + 2 * s.pack - s.first, -s.step, s.count};
  }
};

// At most so many blocks in all; a thread takes at least kRowsPerThread rows, where there are as many.
inline Columns columns_of(int64_t rows, int64_t packs, int64_t most_blocks, int threads = kColumnThreads,
                          int widest = kColumnWidth) {
  constexpr int kRowsPerThread = 4;
  Columns c{rows, packs, 0, 0, 0, 0, 0, 0, 0};
  while (c.width() < packs && c.width() < widest) ++c.bits;
  c.lanes = threads >> c.bits;
  c.tiles = ceil_div(packs, c.width());
  const int64_t most = most_blocks / max_of(c.tiles, int64_t{1});
  c.share_out(max_of(int64_t{1}, min_of(ceil_div(rows, c.lanes * kRowsPerThread), most)));
  return c;
}

template <class F>
Columns columns_for(int64_t rows, int64_t packs) {
  return columns_of(rows, packs, F::kBlocks * kUsualProcessors);
}

// f(i, at, load(i, at)) for kRows rows from row i on, in place `at`: all are loaded before the first is used.
template <int kRows, class Load, class F>
FASTDL_DEVICE_ONLY void rows_together(int i, int64_t at, int64_t step, const Load& load, const F& f) {
  decltype(load(i, at)) items[kRows];
  FASTDL_UNROLL
  for (int a = 0; a < kRows; ++a) items[a] = load(i + a, at + a * step);
  FASTDL_UNROLL
  for (int a = 0; a < kRows; ++a) f(i + a, at + a * step, items[a]);
}

// The same for what is left of a strip from row i on, fewer than 2 * kRows rows.
template <int kRows, class Load, class F>
FASTDL_DEVICE_ONLY void rows_left(const Strip& s, int i, const Load& load, const F& f) {
  if (i + kRows <= s.count) {
    rows_together<kRows>(i, s.first + i * s.step, s.step, load, f);
    i += kRows;
  }
  if constexpr (kRows > 1) rows_left<kRows / 2>(s, i, load, f);
}

// The same for each row i of a strip, where its pack is number `at` of the array, kAhead rows at a time, and then half
// as many and so on: a load under a condition would be moved to where it is used.
template <int kAhead, class Load, class F>
FASTDL_DEVICE_ONLY void each_row(const Strip& s, const Load& load, const F& f) {
  int i = 0;
  FASTDL_UNROLL_BY(1)
  for (int64_t at = s.first; i + kAhead <= s.count; i += kAhead, at += kAhead * s.step)
    rows_together<kAhead>(i, at, s.step, load, f);
  if constexpr (kAhead > 1)
    if (i < s.count) rows_left<kAhead / 2>(s, i, load, f);
}

// How many rows to load before the first is used, for so many bytes on their way, but four at most: each takes
// registers for its place as well.
template <class Item, int kBytes>
inline constexpr int kRowsAhead = kBytes < 2 * sizeof(Item)   ? 1
                                  : kBytes < 4 * sizeof(Item) ? 2
                                                              : 4;

// K sums, of one strip in the type that is computed in, of more in double.
template <class V, int K>
struct ColumnSums {
  V v[K] = {};
};

// The kSums sums of each of kColumns columns that F takes: of a block's threads in its memory, those of one kind side
// by side, and of all blocks in F's partial [block][sum][column].
template <class F, int threads>
struct BlockSums {
  static constexpr int N = F::kColumns, kValues = F::kSums * N;
  static constexpr int64_t kBytes = int64_t{threads} * kValues * sizeof(double);
  const Columns& columns;
  double* memory;
  int thread;

  FASTDL_DEVICE_ONLY double& at(int value, int thread) const { return memory[value * threads + thread]; }
  template <class V>
  FASTDL_DEVICE_ONLY void set(const ColumnSums<V, kValues>& sums) const {
    for (int v = 0; v < kValues; ++v) at(v, thread) = static_cast<double>(sums.v[v]);
  }
  template <class V>
  FASTDL_DEVICE_ONLY void add(const ColumnSums<V, kValues>& sums) const {
    for (int v = 0; v < kValues; ++v) at(v, thread) += static_cast<double>(sums.v[v]);
  }
  // To lane 0 those of all lanes, of which only the first `used` may have anything: four lanes a step.
  FASTDL_DEVICE_ONLY void merge(int64_t used) const {
    int left = columns.lanes;
    while (left > 1 && left / 2 >= used) left /= 2;
    while (left > 1) {
      const int next = left > 2 ? left / 4 : 1;
      __syncthreads();
      if (columns.lane(thread) < next) {
        ColumnSums<double, kValues> sums;  // all read before one is written
        for (int v = 0; v < kValues; ++v) sums.v[v] = at(v, thread);
        FASTDL_UNROLL_BY(1)
        for (int lane = next; lane < left; lane += next)
          for (int v = 0; v < kValues; ++v) sums.v[v] += at(v, thread + (lane << columns.bits));
        set(sums);
      }
      left = next;
    }
    __syncthreads();
  }
  FASTDL_DEVICE_ONLY void store(double* partial, unsigned tile, unsigned block) const {
    FASTDL_UNROLL_BY(1)
    for (int i = thread; i < kValues << columns.bits; i += threads) {
      const int64_t p = columns.pack(tile, i);
      if (p < columns.packs) *place(partial, block, p, columns.lane(i)) = at(columns.lane(i), columns.column(i));
    }
  }
  // Of the blocks lane, lane + lanes, ...: what they have stored.
  FASTDL_DEVICE_ONLY ColumnSums<double, kValues> stored(double* partial, int64_t pack, int lane) const {
    ColumnSums<double, kValues> sums;
    FASTDL_UNROLL_BY(1)  // a count of rounds would take a division
    for (int block = lane; block < columns.blocks; block += columns.lanes)
      for (int v = 0; v < kValues; ++v) sums.v[v] += *place(partial, block, pack, v);
    return sums;
  }

 private:
  FASTDL_DEVICE_ONLY double* place(double* partial, int64_t block, int64_t pack, int value) const {
    return partial + ((block * F::kSums + value / N) * columns.packs + pack) * N + value % N;
  }
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

template <class F>
__global__ void __launch_bounds__(kThreads, F::kBlocks) strips_kernel(Columns c, F f) {
  const Strip s = c.strip(blockIdx.x, blockIdx.y, static_cast<int>(threadIdx.x));
  if (s.pack < c.packs) f(c.upward(s));
}

template <class F>
__global__ void __launch_bounds__(kThreads, F::kBlocks) sums_kernel(Columns c, F f) {
  FASTDL_SHARED(double, memory, [BlockSums<F, kColumnThreads>::kBytes / sizeof(double)]);
  const unsigned tile = blockIdx.x, block = blockIdx.y;
  const int thread = static_cast<int>(threadIdx.x);
  const BlockSums<F, kColumnThreads> sums{c, memory, thread};
  const Strip s = c.strip(tile, block, thread);
  if (s.pack >= c.packs || s.count == 0) sums.set(typename F::Taken());
  FASTDL_UNROLL_BY(1)
  for (int done = 0; s.pack < c.packs && done < s.count; done += kRunRows) {
    const auto taken = f.take(Strip{s.pack, s.first + done * s.step, s.step, min_of(s.count - done, kRunRows)});
    done == 0 ? sums.set(taken) : sums.add(taken);
  }
  sums.merge(c.rows);
  sums.store(f.partial, tile, block);
}

inline dim3 grid_of(const Columns& c) { return {static_cast<unsigned>(c.tiles), static_cast<unsigned>(c.blocks)}; }

// f(strip) on every thread, from the last row up.
template <class F>
void for_strips(int64_t rows, int64_t packs, const F& f) {
  const Columns c = columns_for<F>(rows, packs);
  if (c.tiles == 0) return;
  launch(strips_kernel<F>, {grid_of(c), kColumnThreads}, c, f);
}

// f.partial gets, for every block, the sums of those that f.take(strip) gives on its lanes, merged in a fixed order.
template <class F>
void for_sums(const Columns& c, const F& f) {
  if (c.tiles == 0) return;
  launch(sums_kernel<F>, {grid_of(c), kColumnThreads}, c, f);
}

}  // namespace fastdl::cuda::gpu
