// dweight: for each run of taps, (input channels of the run)^T times dy, summed over output pixels.
//
// A GEMM with k = output pixels in which both operands are k-major already: a tile of 14 input channels x 32 output
// channels walks over the pixels of a block, its rows read from the zero-padded band, its columns from dy. Blocks are
// cut by shape; chunks of blocks sum into partial gradients [tap][c][o] of their own, added up in the order of the
// chunks at the end: the same bits for any number of threads. dbias, a column sum of dy, is taken from each block while
// it is in the cache.
#pragma once
#include "cpu/conv/correlate.h"
#include "cpu/gemm/column_sums.h"
#include "cpu/gemm/pack.h"

namespace fastdl::cpu::FASTDL_ISA {

template <class T>
struct WeightGradient {
  int64_t images, groups;
  int64_t depth, width;  // channels per group of x and of dy
  Taps th, tw;
  const T* x;
  const T* dy;
  T* dweight;  // [groups * width][depth][taps]
  T* dbias;    // [groups * width] or nullptr
  bool exact;  // tap by tap, over the pixels for which it lies inside the image
};

constexpr int64_t kPartialElements = int64_t{1} << 23;
constexpr int64_t kCloseColumns = 64;                 // of dy, for which rows are read where they stand
constexpr int64_t kRowTiles = 4;                      // tiles of rows packed at once
constexpr int64_t kBlockElements = int64_t{1} << 18;  // of a block's x and dy: half of a second-level cache

// Columns [first, first + cols) of the block's dy as [pixel][NR], zeros past the last column.
template <class T>
FASTDL_INLINE void pack_columns(const T* dy, int64_t filters, int64_t pixels, int64_t cols, T* out) {
  constexpr int64_t NR = TileSize<T>::cols, W = kLanes<T>;
  for (int64_t i = 0; i < pixels; ++i, dy += filters, out += NR)
    for (int64_t v = 0; v < NR; v += W)
      store(out + v, v + W <= cols ? load(dy + v) : v < cols ? load_part(dy + v, cols - v) : Vec<T>{});
}

// `count` rows of a tile, from row on, copied side by side, [k][MR]: where channels are many, pixels are pages apart.
template <class T>
FASTDL_INLINE void pack_rows(const TileArgs<T>& t, const T* row, int64_t count, T* out) {
  constexpr int64_t MR = TileSize<T>::rows;
  for (int64_t tap = 0; tap < t.taps; ++tap) {
    const T* a = row + t.offsets[tap];
    if (count == MR)
      copy_rows<MR>(out, a, t.lda, t.kc);
    else
      for (int64_t k = 0; k < t.kc; ++k)
        __builtin_memcpy(out + k * MR, a + k * t.lda, static_cast<std::size_t>(count) * sizeof(T));
    out += t.kc * MR;
  }
}

// What a run of taps sums over: pixels of the block, `length` neighbours in an output row at a time.
struct Pixels {
  int64_t* a;  // [rows]: where each begins in the source, from the run's place, and
  int64_t* b;  //         in dy
  int64_t rows, length;
};

// The pixels for which tap (i, j) lies inside the image.
template <class T>
FASTDL_INLINE void find_pixels(const WeightGradient<T>& c, const Block& block, const Band<T>& source, int64_t i,
                               int64_t j, int64_t ldb, Pixels& pixels) {
  const int64_t down = c.th.offset[i], right = c.tw.offset[j];
  const Range rows = outputs_inside(down, c.th.step, c.th.size, block.row, block.row + block.rows);
  const Range cols = outputs_inside(right, c.tw.step, c.tw.size, 0, c.tw.outputs);
  pixels.rows = 0;
  pixels.length = cols.count();
  for (int64_t n = 0; n < block.images && cols.count() > 0; ++n)
    for (int64_t t = rows.first; t < rows.last; ++t, ++pixels.rows) {
      pixels.a[pixels.rows] =
          n * source.image + (t * c.th.step + down) * source.row + (cols.first * c.tw.step + right) * source.pixel;
      pixels.b[pixels.rows] = ((n * block.rows + t - block.row) * c.tw.outputs + cols.first) * ldb;
    }
}

// Puts or adds a run's products into partial [k][width], `cols` columns from dy packed as [panel][pixel][NR].
template <class T>
inline void multiply_run(const TileArgs<T>& args, const T* from, int64_t length, const T* packed, int64_t pixels,
                         int64_t cols, Ahead (&ahead)[2], bool add, T* partial) {
  constexpr int64_t MR = TileSize<T>::rows, NR = TileSize<T>::cols;
  const bool pack = cols > kCloseColumns;
  TileArgs<T> t = args;
  // Neighbouring rows share cache lines of x: pack several tiles.
  const int64_t most = args.taps * args.kc, each = ceil_div(length, ceil_div(length, MR));
  const int64_t rows = pack ? kRowTiles * MR : each;
  Scratch<T> packed_rows(pack ? most * rows : 0);
  Scratch<int64_t> offsets(pack ? args.taps : 0);
  if (pack) {
    t.lda = MR;
    t.offsets = offsets;
    if (!t.b_offsets) t.kc = most, t.taps = 1;
    for (int64_t tap = 0; tap < t.taps; ++tap) offsets[tap] = tap * t.kc * MR;
  }
  for (int64_t first = 0; first < length; first += rows) {
    const int64_t last = min_of(length, first + rows);
    for (int64_t i = first; pack && i < last; i += MR)
      pack_rows<T>(args, from + i, min_of(MR, last - i), packed_rows + (i - first) * most);
    for (int64_t j = 0; j < cols; j += NR) {
      t.b = packed + j * pixels;
      t.cols = min_of(NR, cols - j);
      for (int64_t i = first, count; i < last; i += count) {
        count = min_of(pack ? MR : each, last - i);
        t.a = pack ? packed_rows + (i - first) * most : from + i;
        t.c = partial + i * t.ldc + j;
        t.addend = add ? t.c : nullptr;
        for (Ahead& next : ahead) next.step();
        run_tile<Form::columns>(t, count);
      }
    }
  }
}

// The same for a block read as planes: rows of a tile are taps and channels, k the outputs of a row.
template <class T>
inline void multiply_planes(const WeightGradient<T>& c, const Planes<T>& planes, const TileArgs<T>& args,
                            const T* packed, int64_t cols, bool add, T* partial) {
  constexpr int64_t MR = TileSize<T>::rows, NR = TileSize<T>::cols;
  const int64_t taps = c.th.count * c.tw.count * c.depth, pixels = args.taps * args.kc;
  const T* row[MR];
  TileArgs<T> t = args;
  t.rows = row;
  for (int64_t i = 0; i < taps; i += MR) {
    const int64_t count = min_of(MR, taps - i);
    for (int64_t r = 0; r < count; ++r) row[r] = planes.p + planes.offset[i + r];
    for (int64_t j = 0; j < cols; j += NR) {
      t.b = packed + j * pixels;
      t.cols = min_of(NR, cols - j);
      t.c = partial + i * c.width + j;
      t.addend = add ? t.c : nullptr;
      run_tile<Form::rows>(t, count);
    }
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

// sums[j] += or = the sum of dy over the block's pixels.
template <class T>
inline void bias_gradient_block(const T* dy, int64_t filters, int64_t pixels, bool add, T* sums) {
  constexpr int64_t kWidth = 4 * kLanes<T>;
  T some[kWidth];
  for (int64_t j = 0; j < filters; j += kWidth) {
    const int64_t cols = min_of(kWidth, filters - j);
    sum_columns<T, 4>(dy + j, pixels, filters, cols, some);
    for (int64_t i = 0; i < cols; ++i) sums[j + i] = add ? sums[j + i] + some[i] : some[i];
  }
}

// One block's share of panels [p0, p1) (all groups counted through), added to partial or written if it is the first.
template <class T>
inline void weight_gradient_block(const WeightGradient<T>& c, const Blocking& blocks, int64_t index, bool first,
                                  int64_t p0, int64_t p1, T* partial, T* partial_bias) {
  constexpr int64_t NR = TileSize<T>::cols;
  const int64_t channels = c.groups * c.depth, filters = c.groups * c.width, taps = c.th.count * c.tw.count;
  const int64_t panels = ceil_div(c.width, NR);
  const bool depthwise = c.depth == 1 && c.width == 1;
  const Block block = block_at(blocks, c.images, c.th.outputs, index);
  const bool planar = reads_planes(c.th, c.tw, c.groups, c.depth, c.width);
  Scratch<T> memory(c.exact  ? 0
                    : planar ? planes_size(blocks, c.th, c.tw, channels)
                             : band_size<T>(blocks, c.th, c.tw, channels));
  Scratch<int64_t> run_memory(taps * (planar ? channels : 1)), rows(block.images * block.rows);
  Scratch<int64_t> columns_at(c.exact ? block.images * block.rows : 0);
  Band<T> band{};
  Runs runs{run_memory, taps, c.depth};
  Planes<T> planes{};
  if (c.exact) {
    const int64_t row = c.tw.size * channels;
    band = {c.x + block.image * c.th.size * row, c.th.size * row, row, channels};
  } else if (planar) {
    planes = make_planes<T>(c.x, channels, c.th, c.tw, block, memory, run_memory);
  } else {
    band = make_band<T>(c.x, channels, c.th, c.tw, block, memory);
    runs = make_runs(band, c.th, c.tw, c.depth, !depthwise, run_memory);
  }
  const int64_t row_count = block.images * block.rows, pixels = row_count * c.tw.outputs;
  for (int64_t n = 0; n < block.images; ++n)
    for (int64_t t = 0; t < block.rows; ++t)
      rows[n * block.rows + t] = planar ? n * planes.image + t * planes.row : n * band.image + t * c.th.step * band.row;
  const T* dy = c.dy + (block.image * c.th.outputs + block.row) * c.tw.outputs * filters;
  if (partial_bias && p0 == 0) bias_gradient_block(dy, filters, pixels, !first, partial_bias);
  if (depthwise) return multiply_depthwise<T>(c, band, runs, rows, row_count, dy, !first, partial);
  const bool in_place = (filters == NR || filters == kLanes<T>) && c.groups == 1;
  Scratch<T> packed(in_place ? 0 : min_of(p1 - p0, panels) * NR * pixels);
  TileArgs<T> t{};
  t.kc = c.tw.outputs;
  t.taps = row_count;
  t.offsets = rows;
  t.lda = c.tw.step * band.pixel;
  t.ldb = in_place ? filters : NR;
  t.ldc = c.width;
  if (c.exact) t.b_offsets = columns_at;
  const int64_t tiles = (p1 - p0) * runs.count * ceil_div(runs.length, TileSize<T>::rows);
  const bool more = index + 1 < blocks.count;
  Ahead ahead[] = {rows_ahead(c.x, channels, c.th, c.tw, blocks, c.images, index, tiles),
                   Ahead(dy + pixels * filters, more && p1 - p0 == c.groups * panels ? pixels * filters : 0, tiles)};
  for (int64_t p = p0; p < p1;) {
    const int64_t group = p / panels, start = p % panels * NR, end = min_of(panels, p1 - group * panels) * NR;
    const T* columns = dy + group * c.width + start;
    const int64_t cols = min_of(end, c.width) - start;
    if (!in_place)
      for (int64_t j = 0; j < cols; j += NR)
        pack_columns<T>(columns + j, filters, pixels, min_of(NR, cols - j), packed + j * pixels);
    const T* const right = in_place ? columns : packed.operator T*();
    T* const to = partial + group * taps * c.depth * c.width + start;
    if (planar) multiply_planes<T>(c, planes, t, right, cols, !first, to);
    for (int64_t r = 0; r < runs.count && !planar; ++r) {
      const T* from = band.p + group * c.depth + (c.exact ? 0 : runs.offset[r]);
      if (c.exact) {
        Pixels inside{rows, columns_at, 0, 0};
        find_pixels(c, block, band, r / c.tw.count, r % c.tw.count, t.ldb, inside);
        t.taps = inside.rows;
        t.kc = inside.length;
      }
      multiply_run<T>(t, from, runs.length, right, pixels, cols, ahead, !first, to + r * runs.length * c.width);
    }
    p += ceil_div(end - start, NR);
  }
}

// dweight [group][o][c][tap] from the partial [chunk][group][tap][c][o], a square of vectors at a time.
template <class T>
inline void add_partials(int64_t groups, int64_t depth, int64_t width, int64_t taps, const T* partial, int64_t chunks,
                         T* dweight) {
  constexpr int64_t L = kLanes<T>;
  const int64_t vectors = ceil_div(width, L), row = depth * taps, size = groups * row * width;
  parallel_for(groups * vectors, static_cast<double>(L * row * chunks) / 8, [&](int64_t task) {
    const int64_t group = task / vectors, j = task % vectors * L, lanes = min_of(L, width - j);
    const T* const from = partial + group * row * width + j;
    T* const to = dweight + (group * width + j) * row;
    for (int64_t e = 0; e < row; e += L) {
      const int64_t some = min_of(L, row - e);
      Vec<T> square[L];
      for (int64_t i = 0; i < L; ++i) {
        square[i] = Vec<T>{};
        if (i >= some) continue;
        const T* p = from + ((e + i) % taps * depth + (e + i) / taps) * width;
        for (int64_t chunk = 0; chunk < chunks; ++chunk, p += size)
          square[i] += lanes == L ? load(p) : load_part(p, lanes);
      }
      transpose<T>(square);
      for (int64_t lane = 0; lane < lanes; ++lane)
        some == L ? store(to + lane * row + e, square[lane]) : store_part(to + lane * row + e, square[lane], some);
    }
  });
}

template <class T>
inline void weight_gradient(WeightGradient<T> c) {
  constexpr int64_t MR = TileSize<T>::rows, NR = TileSize<T>::cols;
  const int64_t taps = c.th.count * c.tw.count, size = c.groups * taps * c.depth * c.width;
  const int64_t image = c.th.outputs * c.tw.outputs, channels = c.groups * c.depth, pixels = c.images * image;
  if (size == 0) return;
  if (c.images == 0) {
    for (int64_t i = 0; i < size; ++i) c.dweight[i] = T(0);
    return;
  }
  const bool depthwise = c.depth == 1 && c.width == 1;
  c.exact = !depthwise && !reads_planes(c.th, c.tw, c.groups, c.depth, c.width) && zeros_read(c.th, c.tw) > 0.045;
  const int64_t panels = depthwise ? 1 : c.groups * ceil_div(c.width, NR);
  // About 16 tasks for any number of threads to share: panels, and where they are few, chunks of pixels. Blocks long
  // enough for the sums in registers to be worth their way to memory; a lone panel of dy in the first-level cache.
  const int64_t wanted = min_of(ceil_div(16, panels), max_of(1, kPartialElements / size));
  const int64_t fitting = kBlockElements / ((channels + c.groups * c.width) * MR);
  const int64_t most = max_of(2, min_of(min_of(panels == 1 ? 20 : 28, fitting), pixels / (wanted * MR))) * MR;
  Blocking blocks = cut_blocks(c.images, c.th, c.tw, channels, most);
  const int64_t chunks = min_of(blocks.count, wanted), threads = num_threads();
  if (blocks.bands == 1) blocks.count = min_of(c.images, ceil_div(blocks.count, chunks) * chunks);  // even chunks
  int64_t columns = 1;  // groups of panels; sums don't know of them
  while (columns < panels && chunks * columns % threads != 0 && chunks * columns < 4 * threads) ++columns;
  const int64_t filters = c.groups * c.width;
  Scratch<T> partial(chunks * size), partial_bias(c.dbias ? chunks * filters : 0);
  const double cost =
      static_cast<double>(pixels) * static_cast<double>(size) / static_cast<double>(chunks * columns) / 64;
  parallel_for(chunks * columns, cost, [&](int64_t task) {
    const int64_t chunk = task / columns, column = task % columns;
    const int64_t from = chunk * blocks.count / chunks, until = (chunk + 1) * blocks.count / chunks;
    for (int64_t index = from; index < until; ++index)
      weight_gradient_block(c, blocks, index, index == from, column * panels / columns, (column + 1) * panels / columns,
                            partial + chunk * size, c.dbias ? partial_bias + chunk * filters : nullptr);
  });
  for (int64_t j = 0; c.dbias && j < filters; ++j) {
    c.dbias[j] = partial_bias[j];
    for (int64_t chunk = 1; chunk < chunks; ++chunk) c.dbias[j] += partial_bias[chunk * filters + j];
  }
  if (depthwise)  // partial [chunk][tap][channel]
    add_partials<T>(1, 1, c.groups, taps, partial, chunks, c.dweight);
  else
    add_partials<T>(c.groups, c.depth, c.width, taps, partial, chunks, c.dweight);
}

}  // namespace fastdl::cpu::FASTDL_ISA
