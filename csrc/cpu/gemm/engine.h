// C[m,n] = A[m,k] B[k,n] (+ bias[n]) (+ C), then ReLU: the one GEMM engine behind dense layers, convolution and
// recurrence.
//
// B is cut into column panels; where it isn't already row-major and narrow it is packed, once, by all threads together.
// A with k contiguous is read where it stands through row pointers, A with m contiguous through its columns; only other
// strides are packed. k runs in blocks of kDepth, so that a panel of B stays in the first-level cache while tiles of A
// pass by it. Sums over k always run in the same order: results don't depend on the number of threads.
// Scratch: 1.5 kDepth * n (packed B; for m up to 8 tiles instead, per thread, 8 panels) plus, per thread, at most 8
// tiles' rows * 1.5 kDepth (packed A).
#pragma once
#include "cpu/gemm/pack.h"
#include "cpu/gemm/tile.h"

namespace fastdl::cpu::FASTDL_ISA {

template <class T>
struct Gemm {
  int64_t m, n, k;
  const T* a;
  int64_t a_row, a_col;  // element (i, k) at a[i * a_row + k * a_col]
  const T* b;
  int64_t b_row, b_col;  // element (k, j) at b[k * b_row + j * b_col]
  T* c;
  int64_t c_row;  // element (i, j) at c[i * c_row + j]
  const T* bias = nullptr;
  bool accumulate = false;
  bool relu = false;
};

// k is cut into equal blocks of about this length: 384 x 32 floats of B are the 48 KB of a first-level cache.
constexpr int64_t kDepth = 384;
constexpr int64_t kShort = 128;

FASTDL_INLINE int64_t depth_block(int64_t k) {
  const int64_t blocks = max_of(1, (k + kDepth / 2) / kDepth);
  return ceil_div(k, blocks);
}

template <class T>
struct GemmBlock {  // what one pass over a block of k needs
  const Gemm<T>& g;
  int64_t k0, kc;
  const T* packed;  // panels [n / NR][kc][NR], or nullptr: B is read in place or packed by the task
  bool pack_here;
  bool first, last;
};

template <class T>
FASTDL_INLINE int64_t row_block(int64_t m) {
  constexpr int64_t MR = TileSize<T>::rows;
  return min_of(ceil_div(m, MR), 8) * MR;
}

// Rows [i0, i0 + rows) of A as tiles [rows / MR][kc][MR]; some k's at a time for all tiles, so that a source whose k's
// are pages apart touches each page once.
template <class T>
inline void pack_rows(const GemmBlock<T>& block, int64_t i0, int64_t rows, T* packed) {
  constexpr int64_t MR = TileSize<T>::rows, kSome = 32;
  const PlainSource<T> source{block.g.a, block.g.a_row, block.g.a_col};
  for (int64_t k = 0; k < block.kc; k += kSome)
    for (int64_t i = 0; i < rows; i += MR)
      source.template pack<MR>(packed + i * block.kc + k * MR, i0 + i, min_of(MR, rows - i), block.k0 + k,
                               min_of(kSome, block.kc - k));
}

// Where a tile finds its rows of A: in place by rows or by columns, or in a packed copy.
template <class T>
struct RowAccess {
  const Gemm<T>& g;
  int64_t i0, k0, kc;
  bool by_rows, by_columns;
  const T* packed;
  const T* row[TileSize<T>::rows];

  FASTDL_INLINE void set(TileArgs<T>& t, int64_t i, int64_t count) {
    constexpr int64_t MR = TileSize<T>::rows;
    if (by_rows) {
      for (int64_t r = 0; r < count; ++r) row[r] = g.a + (i0 + i + r) * g.a_row + k0;
      t.rows = row;
    } else {
      t.rows = nullptr;
      t.a = by_columns ? g.a + (i0 + i) + k0 * g.a_col : packed + i * kc;
      t.lda = by_columns ? g.a_col : MR;
    }
  }
};

template <class T>
FASTDL_INLINE void set_panel(TileArgs<T>& t, const GemmBlock<T>& block, const T* packed, int64_t panel) {
  constexpr int64_t NR = TileSize<T>::cols;
  const Gemm<T>& g = block.g;
  const int64_t j = panel * NR;
  t.cols = min_of(NR, g.n - j);
  t.b = packed ? packed : g.b + block.k0 * g.b_row + j;
  t.ldb = packed ? NR : g.b_row;
  t.bias = g.bias && block.last ? g.bias + j : nullptr;
}

// Rows [i0, i0 + rows) of C, all columns of panels [p0, p1). A panel meets all tiles before the next, so that it stays
// in the first-level cache; where k is short, a tile meets all panels instead, and C is written row by row.
template <class T>
inline void run_rows(const GemmBlock<T>& block, int64_t i0, int64_t rows, int64_t p0, int64_t p1) {
  constexpr int64_t MR = TileSize<T>::rows, NR = TileSize<T>::cols;
  const Gemm<T>& g = block.g;
  const bool by_rows = g.a_col == 1;
  // Columns far apart touch a new page for each k: from some reuse on a packed copy is faster.
  const bool near = p1 - p0 == 1 || g.a_col * static_cast<int64_t>(sizeof(T)) < 2048;
  const bool by_columns = !by_rows && g.a_row == 1 && near;
  Scratch<T> packed_a(by_rows || by_columns ? 0 : ceil_div(rows, MR) * MR * block.kc);
  if (!by_rows && !by_columns) pack_rows<T>(block, i0, rows, packed_a);
  const int64_t panel_size = NR * block.kc;
  Scratch<T> packed_b(block.pack_here ? (p1 - p0) * panel_size : 0);
  if (block.pack_here) {
    const PlainSource<T> source{g.b, g.b_col, g.b_row};
    for (int64_t p = p0; p < p1; ++p)
      source.template pack<NR>(packed_b + (p - p0) * panel_size, p * NR, min_of(NR, g.n - p * NR), block.k0, block.kc);
  }
  const auto panel_at = [&](int64_t p) -> const T* {
    if (block.pack_here) return packed_b + (p - p0) * panel_size;
    return block.packed ? block.packed + p * panel_size : nullptr;
  };
  RowAccess<T> access{g, i0, block.k0, block.kc, by_rows, by_columns, packed_a, {}};
  TileArgs<T> t{};
  t.kc = block.kc;
  t.ldc = g.c_row;
  t.accumulate = !block.first || g.accumulate;
  t.relu = g.relu && block.last;
  const bool tile_first = block.kc <= kShort;
  const int64_t tiles = ceil_div(rows, MR), panels = p1 - p0;
  for (int64_t outer = 0; outer < (tile_first ? tiles : panels); ++outer) {
    if (tile_first)
      access.set(t, outer * MR, min_of(MR, rows - outer * MR));
    else
      set_panel(t, block, panel_at(p0 + outer), p0 + outer);
    for (int64_t inner = 0; inner < (tile_first ? panels : tiles); ++inner) {
      const int64_t i = (tile_first ? outer : inner) * MR, p = p0 + (tile_first ? inner : outer);
      const int64_t count = min_of(MR, rows - i);
      if (tile_first)
        set_panel(t, block, panel_at(p), p);
      else
        access.set(t, i, count);
      t.c = g.c + (i0 + i) * g.c_row + p * NR;
      run_tile(t, static_cast<int>(count));
    }
  }
}

template <class T>
inline void clear_c(const Gemm<T>& g) {  // k == 0: the sum is empty, the epilogue stays
  for (int64_t i = 0; i < g.m; ++i)
    for (int64_t j = 0; j < g.n; ++j) {
      T& c = g.c[i * g.c_row + j];
      c = (g.accumulate ? c : T(0)) + (g.bias ? g.bias[j] : T(0));
      if (g.relu) c = activation::relu(c);
    }
}

// B can be read in place if rows are contiguous, no panel is cut short, and it is touched only a few times.
template <class T>
FASTDL_INLINE bool reads_b_in_place(const Gemm<T>& g) {
  constexpr int64_t NR = TileSize<T>::cols;
  return g.b_col == 1 && g.n % NR == 0 && (g.m <= 4 * TileSize<T>::rows || g.n == NR);
}

template <class T>
inline void run_gemm(const Gemm<T>& g) {
  constexpr int64_t NR = TileSize<T>::cols;
  if (g.m == 0 || g.n == 0) return;
  if (g.k == 0) return clear_c(g);
  const int64_t panels = ceil_div(g.n, NR);
  const bool in_place = reads_b_in_place(g);
  const int64_t depth = depth_block(g.k);
  const int64_t mb = row_block<T>(g.m), row_blocks = ceil_div(g.m, mb);
  // With one block of rows each panel is used by one task, which packs it itself, at most 8 at a time: they are still
  // in the second-level cache when the tiles come.
  const bool pack_here = !in_place && row_blocks == 1, pack_first = !in_place && !pack_here;
  Scratch<T> packed_b(pack_first ? panels * NR * depth : 0);
  const PlainSource<T> source{g.b, g.b_col, g.b_row};
  const int64_t wanted = max_of(ceil_div(16, row_blocks), pack_here ? ceil_div(panels, 8) : 1);
  const int64_t groups = min_of(panels, wanted);  // column groups: enough tasks for all
  for (int64_t k0 = 0; k0 < g.k; k0 += depth) {
    const int64_t kc = min_of(depth, g.k - k0);
    if (pack_first)
      parallel_for(panels, 0.5 * static_cast<double>(NR * kc), [&](int64_t p) {
        source.template pack<NR>(packed_b + p * NR * kc, p * NR, min_of(NR, g.n - p * NR), k0, kc);
      });
    const T* const packed = pack_first ? packed_b.operator T*() : nullptr;
    const GemmBlock<T> block{g, k0, kc, packed, pack_here, k0 == 0, k0 + kc == g.k};
    const double cost = static_cast<double>(min_of(mb, g.m) * g.n) / static_cast<double>(groups) * kc / 64.0;
    parallel_for(row_blocks * groups, cost, [&](int64_t task) {
      const int64_t i0 = task / groups * mb, group = task % groups;
      run_rows(block, i0, min_of(mb, g.m - i0), group * panels / groups, (group + 1) * panels / groups);
    });
  }
}

}  // namespace fastdl::cpu::FASTDL_ISA
