// Embedding: forward copies rows, a pack per thread. Backward gives each block of threads a range of rows of dweight:
// it reads all of index, lists what falls into its range, in order, and its warps add up each row from that list, in
// registers. No atomics, and each element of dweight is written once while a list has room.
#include "core/embedding.h"

#include "cuda/map.h"

namespace fastdl::cuda::gpu {

namespace {

constexpr int64_t kBlocks = 1024;  // for the rows of dweight, at most: each reads all of index

template <class T, class Index>
struct CopyRows {
  const T* weight;
  const Index* index;
  int64_t width, rows;
  T* y;
  template <int N>
  FASTDL_DEVICE_ONLY void run(int64_t i, Nothing) const {
    const int64_t k = i / width, row = index[k];
    const bool inside = row >= 0 && row < rows;
    store_pack(y + i, inside ? load_pack<N>(weight + row * width + (i - k * width)) : filled<N>(not_a_number<T>()));
  }
};

template <class T, class Index>
struct AddRows {
  static constexpr int kColumns = 4;  // of a lane, kWarp apart
  static constexpr int kPiece = kColumns * kWarp;
  static constexpr int kList = 1024, kAhead = 4;
  const T* dy;
  const Index* index;
  int64_t count, width, padding_idx, rows, rows_per_block;
  T* dweight;

  FASTDL_DEVICE_ONLY void operator()(const Block& block) const {
    FASTDL_SHARED(int64_t, places, [kList]);  // in index
    FASTDL_SHARED(int, numbers, [kList]);     // of the row there, from the block's first on
    const int64_t first = block.task * rows_per_block, last = min_of(rows, first + rows_per_block);
    int64_t next = 0;
    do {
      const bool begun = next > 0;
      int listed = 0;
      for (; next < count && listed + block.threads <= kList; next += block.threads) {
        const int64_t k = next + block.thread, row = k < count ? int64_t{index[k]} : -1;
        const bool here = row >= first && row < last && row != padding_idx;
        int found;
        const int at = listed + block.rank(here, found);
        if (here) {
          places[at] = k;
          numbers[at] = static_cast<int>(row - first);
        }
        listed += found;
      }
      block.sync();
      add_listed(block, places, numbers, listed, last - first, begun);  // rank() waits before the next is listed
    } while (next < count);
  }

  // Pieces of rows are shared out among the warps.
  FASTDL_DEVICE_ONLY void add_listed(const Block& block, const int64_t* places, const int* numbers, int listed,
                                     int64_t height, bool begun) const {
    const int lane = block.thread % kWarp;
    const int64_t pieces = ceil_div(width, kPiece);
    for (int64_t piece = block.thread / kWarp; piece < height * pieces; piece += block.threads / kWarp) {
      const int64_t number = piece / pieces, column = (piece - number * pieces) * kPiece + lane;
      T* const to = dweight + (block.task * rows_per_block + number) * width;
      T sum[kColumns] = {};
      if (begun) load(to, column, sum);
      for (int i = 0; i < listed; i += kWarp) {
        std::uint32_t found = ballot(i + lane < listed && numbers[i + lane] == number);
        while (found != 0) add_next(places + i, column, found, sum);
      }
      for (int j = 0; j < kColumns; ++j)
        if (column + j * kWarp < width) to[column + j * kWarp] = sum[j];
    }
  }

  // Up to kAhead of the rows found, from the lowest bit on, which is the order of index; all are asked for before the
  // first is added.
  FASTDL_DEVICE_ONLY void add_next(const int64_t* places, int64_t column, std::uint32_t& found,
                                   T (&sum)[kColumns]) const {
    T ahead[kAhead][kColumns] = {};
    bool is_there[kAhead];
    for (int n = 0; n < kAhead; ++n) {
      is_there[n] = found != 0;
      if (!is_there[n]) continue;
      load(dy + places[lowest_bit(found)] * width, column, ahead[n]);
      found &= found - 1;
    }
    for (int n = 0; n < kAhead; ++n)
      for (int j = 0; j < kColumns && is_there[n]; ++j) sum[j] += ahead[n][j];
  }

  FASTDL_DEVICE_ONLY void load(const T* from, int64_t column, T (&to)[kColumns]) const {
    for (int j = 0; j < kColumns; ++j) to[j] = column + j * kWarp < width ? from[column + j * kWarp] : T(0);
  }
};

}  // namespace

void embedding_forward(View weight, View index, Out y) {
  const int64_t width = weight.shape[1];
  with_float(weight.dtype, [&](auto type) {
    with_index(index.dtype, [&](auto index_type) {
      using T = decltype(type);
      using Index = decltype(index_type);
      for_packs<kPack<T>>(index.size() * width,
                          width % kPack<T> == 0 && on_border(weight.as<T>()) && on_border(y.as<T>()), PrepareNothing{},
                          CopyRows<T, Index>{weight.as<T>(), index.as<Index>(), width, weight.shape[0], y.as<T>()});
    });
  });
}

void embedding_backward(View dy, View index, int64_t padding_idx, Out dweight) {
  const int64_t rows = dweight.shape[0], width = dweight.shape[1];
  with_float(dy.dtype, [&](auto type) {
    with_index(index.dtype, [&](auto index_type) {
      using T = decltype(type);
      using Index = decltype(index_type);
      const int64_t rows_per_block = max_of(int64_t{1}, ceil_div(rows, kBlocks));
      for_tasks(width > 0 ? ceil_div(rows, rows_per_block) : 0, kThreads,
                AddRows<T, Index>{dy.as<T>(), index.as<Index>(), index.size(), width, padding_idx, rows, rows_per_block,
                                  dweight.as<T>()});
    });
  });
}

FASTDL_REGISTER(embedding_forward)
FASTDL_REGISTER(embedding_backward)

}  // namespace fastdl::cuda::gpu
