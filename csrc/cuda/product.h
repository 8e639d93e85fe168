// A tiled product for operands of any kind: c(i, j) = sum over k of a(i, k) * b(k, j), for several such at once. What
// the library's GEMM can't take, and convolutions without a column matrix (implicit GEMM), where operands compute their
// places.
//
// An operand has of(batch), which gives something with at(i, k) or at(k, j), and `k_near`: neighbours in k lie side by
// side, so that threads read along k. put(batch, i, j, sum) takes the results, and put.row, if it has one, several of a
// row. A long k with few tiles is cut by the shape alone; the pieces' sums are added in order. Scratch: at most
// kMostTiles tiles. Sums are of T, whatever the operands' elements and the results are: for bfloat16 of float, rounded
// once.
#pragma once
#include "core/activation_math.h"
#include "core/bfloat16.h"
#include "cuda/launch.h"

namespace fastdl::cuda::gpu {

constexpr int kTile = 64, kDeep = 16, kPatch = 4;  // rows and columns of a tile, k's at once, and of a thread's part
constexpr int64_t kMostTiles = 264;                // two for each processor of a large device
constexpr int64_t kPieceOfK = 256;                 // k's that are worth a piece
static_assert(kTile / kPatch * (kTile / kPatch) == kThreads);

// How a product is shared out among blocks, by its sizes alone: tiles of so many rows and columns, and a long k with
// few of them in pieces of whole chunks.
template <int rows, int columns, int chunk>
struct Tiling {
  int64_t batch, m, n, k, down, tiles, piece, pieces;

  Tiling(int64_t batch_, int64_t m_, int64_t n_, int64_t k_) : batch(batch_), m(m_), n(n_), k(k_) {
    down = ceil_div(m, rows);
    tiles = down * ceil_div(n, columns);
    const int64_t wanted = max_of(int64_t{1}, min_of(k / kPieceOfK, kMostTiles / max_of(batch * tiles, int64_t{1})));
    piece = max_of(int64_t{1}, ceil_div(ceil_div(k, wanted), chunk)) * chunk;
    pieces = max_of(int64_t{1}, ceil_div(k, piece));
  }
  int64_t scratch() const { return pieces > 1 ? batch * pieces * m * n : 0; }  // sums of pieces

  // What a task makes: `which` counts batches, and in them pieces.
  struct Part {
    int64_t which, batch, row, column, begin, end;
  };
  FASTDL_DEVICE_ONLY Part part(int64_t task) const {
    const int64_t tile = task % tiles, which = task / tiles, begin = which % pieces * piece;
    return {which, which / pieces, tile % down * rows, tile / down * columns, begin, min_of(k, begin + piece)};
  }
};

template <class A, class B, class Put, class T>
struct Product {
  Tiling<kTile, kTile, 1> t;
  A a;
  B b;
  Put put;

  FASTDL_DEVICE_ONLY void operator()(const Block& block) const {
    FASTDL_SHARED(T, left, [kDeep][kTile + kPatch]);  // a column more of patches: rows begin in other banks
    FASTDL_SHARED(T, right, [kDeep][kTile + kPatch]);
    const auto [which, batch, row, column, begin, end] = t.part(block.task);
    const auto a_of = a.of(batch);
    const auto b_of = b.of(batch);
    const int down = block.thread / (kTile / kPatch) * kPatch, across = block.thread % (kTile / kPatch) * kPatch;
    T sum[kPatch][kPatch] = {};
    for (int64_t from = begin; from < end; from += kDeep) {
      for (int e = block.thread; e < kDeep * kTile; e += block.threads) {
        const int i = a.k_near ? e / kDeep : e % kTile, ka = a.k_near ? e % kDeep : e / kTile;
        left[ka][i] = row + i < t.m && from + ka < end ? a_of.at(row + i, from + ka) : T(0);
        const int j = b.k_near ? e / kDeep : e % kTile, kb = b.k_near ? e % kDeep : e / kTile;
        right[kb][j] = column + j < t.n && from + kb < end ? b_of.at(from + kb, column + j) : T(0);
      }
      block.sync();
      add(left, right, down, across, sum);
      block.sync();
    }
    const int64_t i0 = row + down, j0 = column + across;
    FASTDL_UNROLL  // an index that isn't a constant would put the sums into memory
        for (int i = 0; i < kPatch; ++i)
            FASTDL_UNROLL for (int j = 0; j < kPatch; ++j) if (i0 + i < t.m && j0 + j < t.n)
                put(which, i0 + i, j0 + j, sum[i][j]);
  }

  FASTDL_DEVICE_ONLY static void add(const T (&left)[kDeep][kTile + kPatch], const T (&right)[kDeep][kTile + kPatch],
                                     int row, int column, T (&sum)[kPatch][kPatch]) {
    for (int k = 0; k < kDeep; ++k) {
      T u[kPatch], v[kPatch];
      for (int i = 0; i < kPatch; ++i) u[i] = left[k][row + i];
      for (int j = 0; j < kPatch; ++j) v[j] = right[k][column + j];
      for (int i = 0; i < kPatch; ++i)
        for (int j = 0; j < kPatch; ++j) sum[i][j] += u[i] * v[j];
    }
  }
};

// Neighbours of a row: f(i) is that of to[i].
template <int N, class T, class F>
FASTDL_DEVICE_ONLY void store_row(T* to, const F& f) {
  constexpr int V = N < kPack<T> ? N : kPack<T>;
  if (reinterpret_cast<std::uintptr_t>(to) % sizeof(Pack<T, V>) != 0) {
    for (int i = 0; i < N; ++i) to[i] = T(f(i));
  } else {
    FASTDL_UNROLL
    for (int i = 0; i < N; i += V) {
      Pack<T, V> pack;
      FASTDL_UNROLL
      for (int k = 0; k < V; ++k) pack.v[k] = T(f(i + k));
      store_pack(to + i, pack);
    }
  }
}

// Hands on the results of (i, j) and of the columns after it, of n: together where `put` takes a row.
template <class Put, class T, int N>
FASTDL_DEVICE_ONLY void put_row(const Put& put, int64_t batch, int64_t i, int64_t j, int64_t n, const T (&sums)[N]) {
  if constexpr (requires { put.row(batch, i, j, sums); })
    if (j + N <= n) return put.row(batch, i, j, sums);
  FASTDL_UNROLL
  for (int k = 0; k < N; ++k)
    if (j + k < n) put(batch, i, j + k, sums[k]);
}

// Results as they are, batch after batch; of a cut k piece after piece in each.
template <class T>
struct PutPlain {
  T* c;  // [batch and piece][m][n]
  int64_t m, n;
  FASTDL_DEVICE_ONLY void operator()(int64_t which, int64_t i, int64_t j, Wide<T> sum) const {
    c[(which * m + i) * n + j] = T(sum);
  }
  template <int N>
  FASTDL_DEVICE_ONLY void row(int64_t which, int64_t i, int64_t j, const Wide<T> (&sums)[N]) const {
    store_row<N>(c + (which * m + i) * n + j, [&](int k) { return sums[k]; });
  }
};

template <class T, class Put>
struct AddPieces {
  const T* sums;
  int64_t m, n, pieces;
  Put put;
  FASTDL_DEVICE_ONLY void operator()(int64_t at) const {
    const int64_t batch = at / (m * n), element = at % (m * n);
    T sum = 0;
    FASTDL_UNROLL_BY(16)
    for (int64_t p = 0; p < pieces; ++p) sum += sums[(batch * pieces + p) * m * n + element];
    put(batch, element / n, element % n, sum);
  }
};

// All of it: make(put) gives what makes a part with so many threads, and hands its results to `put`. sums: t.scratch()
// of T.
template <class T, class Tiles, class Put, class Make>
void multiply_parts(const Tiles& t, T* sums, const Put& put, const Make& make, int threads = kThreads) {
  const int64_t tasks = t.batch * t.pieces * t.tiles;
  if (t.pieces == 1) return for_tasks(tasks, threads, make(put));
  for_tasks(tasks, threads, make(PutPlain<T>{sums, t.m, t.n}));
  for_each(t.batch * t.m * t.n, AddPieces<T, Put>{sums, t.m, t.n, t.pieces, put});
}

template <class T, class A, class B, class Put>
void multiply(int64_t batch, int64_t m, int64_t n, int64_t k, const A& a, const B& b, const Put& put) {
  const Tiling<kTile, kTile, 1> t(batch, m, n, k);
  T* const sums = t.pieces > 1 ? workspace<T>(t.scratch()) : nullptr;
  multiply_parts(t, sums, put,
                 [&](const auto& to) { return Product<A, B, std::decay_t<decltype(to)>, T>{t, a, b, to}; });
}

// The same matrix for every batch, or one that moves on by `apart`.
template <class T>
struct Matrix {
  const T* p;
  int64_t row, column;  // strides
  bool k_near;
  int64_t apart = 0;

  FASTDL_DEVICE_ONLY Matrix of(int64_t batch) const { return {p + batch * apart, row, column, k_near, apart}; }
  FASTDL_DEVICE_ONLY T at(int64_t i, int64_t j) const { return p[i * row + j * column]; }
};

// Rows of results side by side, batch after batch, with the epilogue of a dense layer: bias per column, ReLU, or a
// ReLU's backward by what it made.
template <class T>
struct PutRows {
  T* c;
  int64_t m, n;
  const T* bias = nullptr;
  const T* gate = nullptr;
  bool relu = false;

  FASTDL_DEVICE_ONLY void operator()(int64_t batch, int64_t i, int64_t j, Wide<T> sum) const {
    const int64_t at = (batch * m + i) * n + j;
    c[at] = T(finish(at, j, sum));
  }
  template <int N>
  FASTDL_DEVICE_ONLY void row(int64_t batch, int64_t i, int64_t j, const Wide<T> (&sums)[N]) const {
    const int64_t at = (batch * m + i) * n + j;
    store_row<N>(c + at, [&](int k) { return finish(at + k, j + k, sums[k]); });
  }
  bool idle() const { return bias == nullptr && gate == nullptr && !relu; }
  FASTDL_DEVICE_ONLY Wide<T> finish(int64_t at, int64_t j, Wide<T> sum) const {
    if (bias != nullptr) sum += bias[j];
    if (relu) sum = activation::relu(sum);
    if (gate != nullptr) sum = activation::relu_backward(sum, Wide<T>(gate[at]));
    return sum;
  }
};

// What `put` does to a sum, to results that are already in memory: c has `count` of them, `columns` side by side.
template <class T, class Put>
struct Finish {
  T* c;
  int64_t columns;
  Put put;

  template <int N>
  FASTDL_DEVICE_ONLY void run(int64_t i, int) const {
    Pack<T, N> sums = load_pack<N>(c + i);
    for (int j = 0; j < N; ++j)
      sums.v[j] = T(put.finish(i + j, put.bias == nullptr ? 0 : (i + j) % columns, sums.v[j]));
    store_pack<N>(c + i, sums);
  }
};

template <class T, class Put>
void finish(T* c, int64_t count, int64_t columns, const Put& put) {
  if (put.idle()) return;
  for_packs<kPack<T>>(count, on_border(c), FASTDL_LAMBDA { return 0; }, Finish<T, Put>{c, columns, put});
}

}  // namespace fastdl::cuda::gpu
