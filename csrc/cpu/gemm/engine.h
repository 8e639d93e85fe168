// C[m,n] = A[m,k] B[k,n] (+ bias[n]) (+ C): the one GEMM engine behind dense layers, convolution and recurrence.
//
// B is cut into column panels; where it isn't already row-major and narrow it is packed, once, by all threads together.
// A with k contiguous is read where it stands through row pointers, A with m contiguous through its columns; only other
// strides are packed. k runs in blocks of kDepth, so that a panel of B stays in the first-level cache while tiles of A
// pass by it. Sums over k always run in the same order: results don't depend on the number of threads.
// Scratch: 1.5 kDepth * n (packed B) plus, per thread, at most 8 tiles' rows * 1.5 kDepth (packed A).
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
};

// k is cut into equal blocks of about this length: 384 x 32 floats of B are the 48 KB of a first-level cache.
constexpr int64_t kDepth = 384;

FASTDL_INLINE int64_t depth_block(int64_t k) {
  const int64_t blocks = max_of(1, (k + kDepth / 2) / kDepth);
  return ceil_div(k, blocks);
}

template <class T>
struct GemmBlock {  // what one pass over a block of k needs
  const Gemm<T>& g;
  int64_t k0, kc;
  const T* packed;  // panels [n / NR][kc][NR], or nullptr: B is read in place
  bool first, last;
};

template <class T>
FASTDL_INLINE int64_t row_block(int64_t m) {
  constexpr int64_t MR = TileSize<T>::rows;
  return min_of(ceil_div(m, MR), 8) * MR;
}

// Rows [i0, i0 + rows) of C, all columns of panels [p0, p1).
template <class T>
inline void run_rows(const GemmBlock<T>& block, int64_t i0, int64_t rows, int64_t p0, int64_t p1) {
  constexpr int MR = TileSize<T>::rows, NR = TileSize<T>::cols;
  const Gemm<T>& g = block.g;
  const bool by_rows = g.a_col == 1;
  // Columns far apart touch a new page for each k: from some reuse on a packed copy is faster.
  const bool by_columns = !by_rows && g.a_row == 1 && (p1 - p0 < 4 || g.a_col * static_cast<int64_t>(sizeof(T)) < 2048);
  Scratch<T> packed_a(by_rows || by_columns ? 0 : ceil_div(rows, MR) * MR * block.kc);
  if (!by_rows && !by_columns) {
    const PlainSource<T> source{g.a, g.a_row, g.a_col};
    for (int64_t i = 0; i < rows; i += MR)
      source.template pack<MR>(packed_a + i * block.kc, i0 + i, min_of(MR, rows - i), block.k0, block.kc);
  }
  TileArgs<T> t{};
  t.kc = block.kc;
  t.taps = 1;
  t.ldc = g.c_row;
  t.accumulate = !block.first || g.accumulate;
  for (int64_t panel = p0; panel < p1; ++panel) {
    const int64_t j = panel * NR;
    t.cols = min_of(NR, g.n - j);
    t.b = block.packed ? block.packed + j * block.kc : g.b + block.k0 * g.b_row + j;
    t.ldb = block.packed ? NR : g.b_row;
    t.bias = g.bias && block.last ? g.bias + j : nullptr;
    for (int64_t i = 0; i < rows; i += MR) {
      const int count = static_cast<int>(min_of(MR, rows - i));
      const T* row[MR];
      t.c = g.c + (i0 + i) * g.c_row + j;
      if (by_rows) {
        for (int r = 0; r < count; ++r) row[r] = g.a + (i0 + i + r) * g.a_row + block.k0;
        t.rows = row;
      } else {
        t.rows = nullptr;
        t.a = by_columns ? g.a + (i0 + i) + block.k0 * g.a_col : packed_a + i * block.kc;
        t.lda = by_columns ? g.a_col : MR;
      }
      run_tile(t, count);
    }
  }
}

template <class T>
inline void clear_c(const Gemm<T>& g) {  // k == 0: the sum is empty, the epilogue stays
  for (int64_t i = 0; i < g.m; ++i)
    for (int64_t j = 0; j < g.n; ++j) {
      T& c = g.c[i * g.c_row + j];
      c = (g.accumulate ? c : T(0)) + (g.bias ? g.bias[j] : T(0));
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
  Scratch<T> packed_b(in_place ? 0 : panels * NR * depth);
  const PlainSource<T> source{g.b, g.b_col, g.b_row};
  const int64_t mb = row_block<T>(g.m), row_blocks = ceil_div(g.m, mb);
  const int64_t groups = min_of(panels, max_of(1, ceil_div(16, row_blocks)));  // column groups: enough tasks for all
  for (int64_t k0 = 0; k0 < g.k; k0 += depth) {
    const int64_t kc = min_of(depth, g.k - k0);
    if (!in_place)
      parallel_for(panels, 0.5 * static_cast<double>(NR * kc), [&](int64_t p) {
        source.template pack<NR>(packed_b + p * NR * kc, p * NR, min_of(NR, g.n - p * NR), k0, kc);
      });
    const GemmBlock<T> block{g, k0, kc, in_place ? nullptr : packed_b.operator T*(), k0 == 0, k0 + kc == g.k};
    const double cost = static_cast<double>(min_of(mb, g.m) * g.n) / static_cast<double>(groups) * kc / 64.0;
    parallel_for(row_blocks * groups, cost, [&](int64_t task) {
      const int64_t i0 = task / groups * mb, group = task % groups;
      run_rows(block, i0, min_of(mb, g.m - i0), group * panels / groups, (group + 1) * panels / groups);
    });
  }
}

}  // namespace fastdl::cpu::FASTDL_ISA
