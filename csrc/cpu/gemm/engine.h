// C[m,n] = A[m,k] B[k,n] (+ bias[n]), then ReLU or a ReLU's backward: the one GEMM engine behind dense layers and
// convolution.
//
// C is cut into tasks, blocks of rows times groups of column panels, and each task works alone. A task takes k in
// blocks of about kDepth; for each it packs one panel of B (a tile's columns side by side for each k; in the
// first-level cache when the tiles come), then runs its tiles past it. A with k contiguous is read where it stands,
// unless a task has panels enough to pay for a packed copy. Where few rows or few columns meet a long k that both
// operands have contiguous, products are dot products and nothing is packed (dot.h); a few rows and columns are a plain
// loop. In a large product packing everything once per task would show, so threads pack B together, then share the
// rows: a hand-off per block of k. Sums over k always run in the same order, cut by shape alone: results don't depend
// on the number of threads. Scratch per thread: 1.5 kDepth * (a tile's columns + at most kMostRows rows); in large
// products as much for the rows, and 1.5 kDepth * (kMostPanels tiles' columns) for all threads together.
#pragma once
#include "cpu/gemm/dot.h"
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
  bool relu = false;
  const T* gate = nullptr;  // what a ReLU made of C, for the ReLU's backward; element (i, j) at gate[i * c_row + j]
};

constexpr int64_t kDepth = 512;     // times a panel's columns: B streams from the second-level cache, A from there too
constexpr int64_t kMostRows = 256;  // times kDepth floats of packed A: half of a small second-level cache
constexpr int64_t kMostPanels = 128;  // times a panel of B: 8 MB

FASTDL_INLINE int64_t depth_block(int64_t k) {  // k in equal blocks of 2/3 to 3/2 kDepth
  return ceil_div(k, max_of(1, (k + kDepth / 2) / kDepth));
}

template <class T>
class GemmPlan {
 public:
  FASTDL_INLINE explicit GemmPlan(const Gemm<T>& gemm) : g(gemm) {
    tiles = ceil_div(g.m, MR);
    panels = ceil_div(g.n, NR);
    if (tiles * panels == 0) return;
    if (is_tiny()) {
      row_tasks = col_tasks = 1;
      return;
    }
    dot = g.a_col == 1 && g.b_row == 1 && ((g.n <= 16 && g.k >= 128) || (g.m <= 32 && g.k >= 256));  // measured
    cut();
    const int64_t each = ceil_div(panels, col_tasks);
    const bool aliased = g.a_row % (4096 / static_cast<int64_t>(sizeof(T))) == 0 && g.m >= MR && each > 1;
    pack_a = g.a_col != 1 ? g.a_row != 1 || each > 2 : each >= kReuse || aliased;
    b_in_place = g.b_col == 1 && tiles <= 2;
  }

  FASTDL_INLINE int64_t tasks() const { return row_tasks * col_tasks; }
  FASTDL_INLINE double cost() const {  // of all tasks, in ns
    return static_cast<double>(g.m * g.n) * static_cast<double>(g.k + 8) / 80;
  }

  // Whether packing B once for all threads pays for a hand-off per block of k.
  FASTDL_INLINE bool large() const { return row_tasks > 1 && !dot && cost() > 8e6; }

  void run(int64_t task) const {
    if (is_tiny()) return run_tiny();
    const int64_t r = task / col_tasks, q = task % col_tasks;
    const int64_t i0 = r * tiles / row_tasks * MR, i1 = min_of(g.m, (r + 1) * tiles / row_tasks * MR);
    const int64_t p0 = q * panels / col_tasks, p1 = (q + 1) * panels / col_tasks;
    if (dot) return run_dot(i0, i1, p0 * NR, min_of(g.n, p1 * NR));
    const int64_t depth = depth_block(g.k), most = min_of(i1 - i0, kMostRows / MR * MR);
    Scratch<T> packed_a(pack_a ? ceil_div(most, MR) * MR * depth : 0);
    for (int64_t i = i0; i < i1; i += most)
      for (int64_t k = 0; k < g.k; k += depth) {
        const Part part{i, min_of(i1, i + most), p0, p1, k, min_of(depth, g.k - k)};
        Scratch<T> packed_b(b_in_place && g.n % NR == 0 ? 0 : strip_of(part) * NR * part.kc);
        run_tiles(part, packed_a, packed_b, nullptr);
      }
  }

  void run_large() const {
    const int64_t depth = depth_block(g.k), group = min_of(panels, kMostPanels), threads = num_threads();
    const int64_t blocks = min_of(tiles, threads * ceil_div(g.m, threads * kMostRows));
    const double share = cost() * static_cast<double>(depth) / static_cast<double>(g.k * blocks);
    const PlainSource<T> columns{g.b, g.b_col, g.b_row};
    Scratch<T> packed_b(group * NR * depth);
    for (int64_t p0 = 0; p0 < panels; p0 += group)
      for (int64_t k0 = 0; k0 < g.k; k0 += depth) {
        const int64_t p1 = min_of(panels, p0 + group), kc = min_of(depth, g.k - k0);
        parallel_for(p1 - p0, static_cast<double>(NR * kc), [&](int64_t p) {
          const int64_t j = (p0 + p) * NR;
          columns.template pack<NR>(packed_b + p * NR * kc, j, min_of(NR, g.n - j), k0, kc);
        });
        parallel_for(blocks, share, [&](int64_t block) {
          const int64_t i0 = block * tiles / blocks * MR, i1 = min_of(g.m, (block + 1) * tiles / blocks * MR);
          Scratch<T> packed_a(pack_a ? ceil_div(i1 - i0, MR) * MR * depth : 0);
          run_tiles({i0, i1, p0, p1, k0, kc}, packed_a, nullptr, packed_b);
        });
      }
  }

 private:
  static constexpr int64_t MR = TileSize<T>::rows, NR = TileSize<T>::cols;
  static constexpr int64_t kReuse = 8;   // panels that pay for packing A
  static constexpr int64_t kTiny = 128;  // products that take less time than packing and a tile's entry and exit

  Gemm<T> g;
  int64_t tiles, panels, row_tasks = 0, col_tasks = 0;
  bool dot = false, pack_a = false, b_in_place = false;

  // A task a thread, so that a thread finds what it wrote last time in its own cache, or more where there is much to
  // do: the cut into row blocks and column groups that packs least. B is packed once per row block, A once per column
  // group.
  FASTDL_INLINE void cut() {
    constexpr double kLong = 4e6;  // ns
    const int64_t threads = num_threads();
    const int64_t more = cost() > kLong * static_cast<double>(threads);
    const int64_t wanted = threads == 1 ? 1 : threads * (1 + more);
    int64_t best = -1;
    for (int64_t rows = 1; rows <= min_of(wanted, tiles); ++rows) {
      const int64_t cols = min_of(panels, ceil_div(wanted, rows));
      if (rows * cols < wanted && rows < tiles && rows < wanted) continue;
      const int64_t cost = rows * g.n + cols * (g.a_col == 1 && panels / cols < kReuse ? 0 : g.m);
      if (best >= 0 && cost >= best) continue;
      best = cost;
      row_tasks = rows;
      col_tasks = cols;
    }
  }

  FASTDL_INLINE bool is_tiny() const { return g.m * g.n * g.k <= kTiny; }

  // One element after the other; without k the sums are empty and the epilogue stays.
  void run_tiny() const {
    for (int64_t i = 0; i < g.m; ++i)
      for (int64_t j = 0; j < g.n; ++j) {
        T sum = 0;
        for (int64_t k = 0; k < g.k; ++k) sum += g.a[i * g.a_row + k * g.a_col] * g.b[k * g.b_row + j * g.b_col];
        if (g.bias) sum += g.bias[j];
        if (g.relu) sum = activation::relu(sum);
        if (g.gate) sum = activation::relu_backward(sum, g.gate[i * g.c_row + j]);
        g.c[i * g.c_row + j] = sum;
      }
  }

  void run_dot(int64_t i0, int64_t i1, int64_t j0, int64_t j1) const {
    dot_block(DotArgs<T>{g.a, g.a_row, g.b, g.b_col, g.k, g.c, g.c_row, g.bias, g.gate, g.relu}, i0, i1, j0, j1);
  }

  // Where a tile finds its rows: in place, by rows or by columns, or in the packed copy [tile][kc][MR].
  FASTDL_INLINE void set_rows(TileArgs<T>& t, const T* packed, int64_t i, int64_t from, int64_t k0) const {
    if (pack_a) {
      t.a = packed + (i - from) * t.kc;
      t.lda = MR;
    } else if (g.a_col == 1) {
      t.a = g.a + i * g.a_row + k0;
      t.spacing = g.a_row;
    } else {
      t.a = g.a + i + k0 * g.a_col;
      t.lda = g.a_col;
    }
  }

  struct Part {
    int64_t i0, i1;  // rows
    int64_t p0, p1;  // panels
    int64_t k0, kc;
  };

  // The panels of a strip stay in the first-level cache while tiles pass: one where k is long, more where it is short.
  static FASTDL_INLINE int64_t strip_of(const Part& part) {
    return min_of(part.p1 - part.p0, max_of(1, kDepth / part.kc));
  }

  // ready: the part's panels of B, packed before, or nullptr.
  void run_tiles(const Part& part, T* packed_a, T* packed_b, const T* ready) const {
    const int64_t strip = strip_of(part), kc = part.kc, k0 = part.k0;
    const bool pack_b = !ready && !b_in_place;
    const PlainSource<T> rows{g.a, g.a_row, g.a_col}, columns{g.b, g.b_col, g.b_row}, done{ready, 1, NR};
    const int64_t tile_count = ceil_div(part.i1 - part.i0, MR);
    const bool fetch = pack_b && strip == 1 && (g.b_col == 1 || g.b_row == 1);
    TileArgs<T> t{};
    t.kc = kc;
    t.ldc = g.c_row;
    const bool last = k0 + kc == g.k;
    t.relu = g.relu && last;
    if (pack_a) rows.template pack_tiles<MR>(packed_a, part.i0, part.i1 - part.i0, k0, kc);
    for (int64_t first = part.p0; first < part.p1; first += strip) {
      const int64_t end = min_of(part.p1, first + strip), until = min_of(end * NR, g.n);
      for (int64_t j = first * NR; !ready && j < until; j += NR)
        if (pack_b || j + NR > g.n)
          columns.template pack<NR>(packed_b + (j - first * NR) * kc, j, min_of(NR, g.n - j), k0, kc);
      for (int64_t i = part.i0; i < part.i1; i += MR) {
        const int64_t count = min_of(MR, part.i1 - i), tile = (i - part.i0) / MR;
        set_rows(t, packed_a, i, part.i0, k0);
        if (fetch && end < part.p1)
          columns.template prefetch<NR>(end * NR, min_of(NR, g.n - end * NR), k0, kc, tile, tile_count);
        if (ready && end < part.p1) done.template prefetch<NR>(0, NR, (end - part.p0) * kc, kc, tile, tile_count);
        for (int64_t j = first * NR; j < until; j += NR) {
          t.cols = min_of(NR, g.n - j);
          const bool in_place = !ready && !pack_b && t.cols == NR;
          t.b = in_place ? g.b + k0 * g.b_row + j
                : ready  ? ready + (j - part.p0 * NR) * kc
                         : packed_b + (j - first * NR) * kc;
          t.ldb = in_place ? g.b_row : NR;
          t.bias = g.bias && last ? g.bias + j : nullptr;
          t.c = g.c + i * g.c_row + j;
          t.addend = k0 > 0 ? t.c : nullptr;
          t.gate = g.gate && last ? g.gate + i * g.c_row + j : nullptr;
          !pack_a&& g.a_col == 1 ? run_tile<Form::spaced>(t, count) : run_tile<Form::columns>(t, count);
        }
      }
    }
  }
};

template <class T>
inline void run_gemm(const Gemm<T>& g) {
  const GemmPlan<T> plan(g);
  if (plan.large()) return plan.run_large();
  parallel_for(plan.tasks(), plan.cost() / static_cast<double>(max_of(1, plan.tasks())),
               [&](int64_t task) { plan.run(task); });
}

}  // namespace fastdl::cpu::FASTDL_ISA
