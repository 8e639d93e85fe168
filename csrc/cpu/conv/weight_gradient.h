// dweight: for each run of taps, (input channels of the run)^T times dy, summed over output pixels.
//
// A GEMM with k = output pixels in which both operands are k-major already: a tile of 14 input channels x 32 output
// channels walks over the pixels of a block, its rows read from the zero-padded band, its columns from dy. Blocks are
// cut by shape; chunks of blocks sum into partial gradients [tap][c][o] of their own, added up in the order of the
// chunks at the end: the same bits for any number of threads.
#pragma once
#include "cpu/conv/correlate.h"

namespace fastdl::cpu::FASTDL_ISA {

template <class T>
struct WeightGradient {
  int64_t images, groups;
  int64_t depth, width;  // channels per group of x and of dy
  Taps th, tw;
  const T* x;
  const T* dy;
  T* dweight;  // [groups * width][depth][taps]
};

constexpr int64_t kPartialElements = int64_t{1} << 22;

// Columns [first, first + cols) of the block's dy as [pixel][NR], zeros past the last column.
template <class T>
FASTDL_INLINE void pack_columns(const T* dy, int64_t filters, int64_t pixels, int64_t cols, T* out) {
  constexpr int64_t NR = TileSize<T>::cols, W = kLanes<T>;
  for (int64_t i = 0; i < pixels; ++i, dy += filters, out += NR)
    for (int64_t v = 0; v < NR; v += W)
      store(out + v, v + W <= cols ? load(dy + v) : v < cols ? load_part(dy + v, cols - v) : Vec<T>{});
}

// Adds the block's products to partial [tap][depth][width] of one group, columns of one panel.
template <class T>
inline void multiply_panel(const WeightGradient<T>& c, const Band<T>& band, const Runs& runs, const TileArgs<T>& args,
                           int64_t group, T* partial) {
  constexpr int64_t MR = TileSize<T>::rows;
  TileArgs<T> t = args;
  for (int64_t r = 0; r < runs.count; ++r)
    for (int64_t i = 0; i < runs.length; i += MR) {
      t.a = band.p + runs.offset[r] + group * c.depth + i;
      t.c = partial + (r * runs.length + i) * c.width;
      run_tile(t, static_cast<int>(min_of(MR, runs.length - i)));
    }
}

// Depthwise: partial [tap][channel].
template <class T>
inline void multiply_depthwise(const WeightGradient<T>& c, const Band<T>& band, const Runs& runs, const int64_t* rows,
                               int64_t row_count, const T* dy, bool add, T* partial) {
  constexpr int64_t W = kLanes<T>;
  for (int64_t r = 0; r < runs.count; ++r)
    for (int64_t g = 0; g < c.groups; g += W) {
      const int64_t lanes = min_of(W, c.groups - g);
      T* const to = partial + r * c.groups + g;
      Vec<T> sum = add ? load_part(to, lanes) : Vec<T>{};
      const T* d = dy + g;
      for (int64_t row = 0; row < row_count; ++row) {
        const T* x = band.p + rows[row] + runs.offset[r] + g;
        for (int64_t u = 0; u < c.tw.outputs; ++u, x += c.tw.step * band.pixel, d += c.groups)
          sum += lanes == W ? load(x) * load(d) : load_part(x, lanes) * load_part(d, lanes);
      }
      store_part(to, sum, lanes);
    }
}

// One block's share of panels [p0, p1) (all groups counted through), added to partial or written if it is the first.
template <class T>
inline void weight_gradient_block(const WeightGradient<T>& c, const Blocking& blocks, int64_t index, bool first,
                                  int64_t p0, int64_t p1, T* partial) {
  constexpr int64_t NR = TileSize<T>::cols;
  const int64_t channels = c.groups * c.depth, filters = c.groups * c.width, taps = c.th.count * c.tw.count;
  const int64_t panels = ceil_div(c.width, NR);
  const bool depthwise = c.depth == 1 && c.width == 1;
  const Block block = block_at(blocks, c.images, c.th.outputs, index);
  Scratch<T> memory(band_size<T>(blocks, c.th, c.tw, channels));
  const Band<T> band = make_band<T>(c.x, channels, c.th, c.tw, block, memory);
  Scratch<int64_t> run_memory(taps), rows(block.images * block.rows);
  const Runs runs = make_runs(band, c.th, c.tw, c.depth, !depthwise, run_memory);
  const int64_t row_count = block.images * block.rows, pixels = row_count * c.tw.outputs;
  for (int64_t n = 0; n < block.images; ++n)
    for (int64_t t = 0; t < block.rows; ++t) rows[n * block.rows + t] = n * band.image + t * c.th.step * band.row;
  const T* dy = c.dy + (block.image * c.th.outputs + block.row) * c.tw.outputs * filters;
  if (depthwise) return multiply_depthwise<T>(c, band, runs, rows, row_count, dy, !first, partial);
  const bool in_place = filters == NR && c.groups == 1;
  Scratch<T> packed(in_place ? 0 : pixels * NR);
  TileArgs<T> t{};
  t.kc = c.tw.outputs;
  t.taps = row_count;
  t.offsets = rows;
  t.lda = c.tw.step * band.pixel;
  t.b = in_place ? dy : packed.operator T*();
  t.ldb = NR;
  t.ldc = c.width;
  t.accumulate = !first;
  for (int64_t p = p0; p < p1; ++p) {
    const int64_t group = p / panels, j = p % panels * NR;
    t.cols = min_of(NR, c.width - j);
    if (!in_place) pack_columns<T>(dy + group * c.width + j, filters, pixels, t.cols, packed);
    multiply_panel(c, band, runs, t, group, partial + group * taps * c.depth * c.width + j);
  }
}

template <class T>
inline void weight_gradient(const WeightGradient<T>& c) {
  constexpr int64_t NR = TileSize<T>::cols;
  const int64_t taps = c.th.count * c.tw.count, matrix = taps * c.depth * c.width, size = c.groups * matrix;
  const int64_t image = c.th.outputs * c.tw.outputs, channels = c.groups * c.depth;
  if (size == 0) return;
  if (c.images == 0) {
    for (int64_t i = 0; i < size; ++i) c.dweight[i] = T(0);
    return;
  }
  const bool depthwise = c.depth == 1 && c.width == 1;
  const int64_t panels = depthwise ? 1 : c.groups * ceil_div(c.width, NR);
  const Blocking blocks = cut_blocks(c.images, c.th, c.tw, channels, pixels_per_block<T>(c.images * image, channels));
  const int64_t chunks = min_of(min_of(blocks.count, 16), max_of(1, kPartialElements / size));
  const int64_t columns = min_of(panels, ceil_div(16, chunks));  // groups of panels, where chunks are few
  Scratch<T> partial(chunks * size);
  const double cost =
      static_cast<double>(c.images * image) * static_cast<double>(size) / static_cast<double>(chunks * columns) / 64;
  parallel_for(chunks * columns, cost, [&](int64_t task) {
    const int64_t chunk = task / columns, column = task % columns;
    const int64_t from = chunk * blocks.count / chunks, until = (chunk + 1) * blocks.count / chunks;
    for (int64_t index = from; index < until; ++index)
      weight_gradient_block(c, blocks, index, index == from, column * panels / columns, (column + 1) * panels / columns,
                            partial + chunk * size);
  });
  // partial [chunk][g][tap][c][o] (depthwise [chunk][tap][g]) summed and turned into dweight [g][o][c][tap].
  const int64_t group_step = depthwise ? 1 : matrix, tap_step = depthwise ? c.groups : c.depth * c.width;
  parallel_for(c.groups * c.depth, static_cast<double>(taps * c.width * chunks), [&](int64_t task) {
    const int64_t group = task / c.depth, k = task % c.depth;
    for (int64_t s = 0; s < taps; ++s) {
      const T* from = partial + group * group_step + s * tap_step + k * c.width;
      T* to = c.dweight + group * matrix + k * taps + s;
      for (int64_t j = 0; j < c.width; ++j) {
        T sum = from[j];
        for (int64_t chunk = 1; chunk < chunks; ++chunk) sum += from[chunk * size + j];
        to[j * c.depth * taps] = sum;
      }
    }
  });
}

}  // namespace fastdl::cpu::FASTDL_ISA
