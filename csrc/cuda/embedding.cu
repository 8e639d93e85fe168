// Embedding: forward copies rows, a pack per thread. Backward gives each row of dweight, or piece of one, to a warp,
// which looks for its number through all of index and adds what it finds in order, in registers: no atomics, and each
// element of dweight is written once. The search costs rows * index / 32 steps of a warp, little for some ten thousand
// of both.
#include "core/embedding.h"

#include "cuda/map.h"

namespace fastdl::cuda::gpu {

namespace {

template <class T, class Index>
struct CopyRows {
  const T* weight;
  const Index* index;
  int64_t width;
  T* y;
  template <int N>
  FASTDL_DEVICE_ONLY void run(int64_t i, Nothing) const {
    const int64_t k = i / width;
    store_pack(y + i, load_pack<N>(weight + int64_t{index[k]} * width + (i - k * width)));
  }
};

template <class T, class Index>
struct AddRows {
  static constexpr int kColumns = 8;  // a lane's, kLanes apart
  static constexpr int kPiece = kColumns * kLanes;
  const T* dy;
  const Index* index;
  int64_t count, width, pieces, padding_idx;
  T* dweight;

  FASTDL_DEVICE_ONLY void operator()(const Warp& warp) const {
    const int64_t row = warp.task / pieces, column = (warp.task - row * pieces) * kPiece + warp.lane;
    T sum[kColumns] = {};
    for (int64_t first = 0; first < count && row != padding_idx; first += kLanes) {
      const int64_t k = first + warp.lane;
      // Bit by bit from the lowest: in the order of index.
      for (std::uint32_t found = warp.ballot(k < count && index[k] == row); found != 0; found &= found - 1)
        add(dy + (first + lowest(found)) * width, column, sum);
    }
    for (int j = 0; j < kColumns; ++j)
      if (column + j * kLanes < width) dweight[row * width + column + j * kLanes] = sum[j];
  }

  FASTDL_DEVICE_ONLY void add(const T* from, int64_t column, T (&sum)[kColumns]) const {
    for (int j = 0; j < kColumns; ++j)
      if (column + j * kLanes < width) sum[j] += from[column + j * kLanes];
  }

  static FASTDL_DEVICE_ONLY int lowest(std::uint32_t bits) {
#if defined(__CUDACC__)
    return __ffs(static_cast<int>(bits)) - 1;
#else
    return __builtin_ctz(bits);
#endif
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
                          CopyRows<T, Index>{weight.as<T>(), index.as<Index>(), width, y.as<T>()});
    });
  });
}

void embedding_backward(View dy, View index, int64_t padding_idx, Out dweight) {
  const int64_t rows = dweight.shape[0], width = dweight.shape[1];
  with_float(dy.dtype, [&](auto type) {
    with_index(index.dtype, [&](auto index_type) {
      using T = decltype(type);
      using Index = decltype(index_type);
      const int64_t pieces = ceil_div(width, AddRows<T, Index>::kPiece);
      for_warps(rows * pieces, AddRows<T, Index>{dy.as<T>(), index.as<Index>(), index.size(), width, pieces,
                                                 padding_idx, dweight.as<T>()});
    });
  });
}

FASTDL_REGISTER(embedding_forward)
FASTDL_REGISTER(embedding_backward)

}  // namespace fastdl::cuda::gpu
