// Correlation, the product that forward and the input gradient share (correlation.h), in one of the forms that suit it.
//
// A GEMM whose rows of A are read from each output pixel's place plus one offset per run of taps: no column matrix and
// no packed activations (indirect convolution, Dukhan 2019, arXiv:1907.02129). The weight is packed once per
// call. With one channel per group (depthwise) channels are the vector and each pixel sums its taps directly.
#pragma once
#include "cpu/columns.h"
#include "cpu/conv/ahead.h"
#include "cpu/conv/correlation.h"
#include "cpu/conv/planes.h"
#include "cpu/conv/positions.h"

namespace fastdl::cpu::FASTDL_ISA {

// Output pixels per block: enough to use a packed panel often, few enough for their input to stay in the L2 cache, and
// at least about 16 blocks for threads to share.
template <class T>
FASTDL_INLINE int64_t pixels_per_block(int64_t pixels) {
  constexpr int64_t MR = TileSize<T>::rows;
  return min_of(24, max_of(2, ceil_div(pixels, 16 * MR))) * MR;
}

// Places of the block's output pixels in the band, in the order of the destination.
template <class T>
FASTDL_INLINE void find_places(const Correlation<T>& c, const Band<T>& band, const Block& block, const T** place) {
  for (int64_t n = 0; n < block.images; ++n)
    for (int64_t t = 0; t < block.rows; ++t) {
      const T* row = band.p + n * band.image + t * c.th.step * band.row;
      for (int64_t u = 0; u < c.tw.outputs; ++u) *place++ = row + u * c.tw.step * band.pixel;
    }
}

// Output pixels in a line: so many have their source pixels the same distance apart.
template <class T>
FASTDL_INLINE int64_t line_length(const Correlation<T>& c, const Band<T>& band, const Block& block) {
  const int64_t row = c.tw.outputs, spacing = c.tw.step * band.pixel;
  if (c.th.step * band.row != row * spacing) return row;
  return block.images == 1 || band.image == block.rows * row * spacing ? block.images * block.rows * row
                                                                       : block.rows * row;
}

// Whether a tile's rows had better be neighbours of one line. Tiles of 14 rows have too many for a pointer each: half
// of them from one line is faster. Those of 6 do as well with pointers, and whole ones 10 % better than two of 4
// from 8.
template <class T>
FASTDL_INLINE bool keeps_to_lines(int64_t line) {
  constexpr int64_t MR = TileSize<T>::rows;
  return MR > 8 ? 2 * line >= MR : line % MR == 0;
}

// Where the output pixels of a block go: lines of equally spaced pixels, `line` of them, `rows` lines per image.
template <class T>
struct Target {
  T* p;
  int64_t line, rows, image, row, pixel;
  bool final;  // in dst, not in a gathered copy

  FASTDL_INLINE T* at(int64_t from) const { return p + from / line / rows * image + from / line % rows * row; }
};

// spacing: of the source pixels of neighbours in a line, 0 if it is not always the same.
template <class T>
inline void multiply_block(const Correlation<T>& c, const T* packed, const Runs& runs, const T* const* place,
                           int64_t pixels, int64_t spacing, Ahead ahead, const Target<T>& to) {
  constexpr int64_t MR = TileSize<T>::rows, NR = TileSize<T>::cols;
  const int64_t panels = ceil_div(c.width, NR), size = c.th.count * c.tw.count * c.depth * NR;
  Scratch<int64_t> offset(runs.count);
  TileArgs<T> t{};
  t.kc = runs.length;
  t.taps = runs.count;
  t.offsets = offset;
  t.ldb = NR;
  t.ldc = to.pixel;
  t.relu = c.relu;
  const int64_t tiles = ceil_div(to.line, MR), each = to.line / tiles, more = to.line % tiles;
  t.spacing = spacing;
  for (int64_t g = 0; g < c.groups; ++g) {
    for (int64_t r = 0; r < runs.count; ++r) offset[r] = runs.offset[r] + g * c.depth;
    for (int64_t panel = 0; panel < panels; ++panel) {
      const int64_t j = g * c.width + panel * NR;
      t.b = packed + (g * panels + panel) * size;
      t.cols = min_of(NR, c.width - panel * NR);
      t.bias = c.bias ? c.bias + j : nullptr;
      for (int64_t from = 0; from < pixels; from += to.line) {
        T* const out = to.at(from) + j;
        for (int64_t tile = 0, i = 0; tile < tiles; ++tile) {
          const int64_t count = each + (tile < more);
          t.rows = place + from + i;
          t.a = t.rows[0];
          t.c = out + i * to.pixel;
          if (to.final) {
            t.addend = c.beside(c.addend, t.c);
            t.gate = c.beside(c.gate, t.c);
          }
          ahead.step();
          spacing > 0 ? run_tile<Form::spaced>(t, count) : run_tile<Form::rows>(t, count);
          i += count;
        }
      }
    }
  }
}

// The same for a block read as planes: tiles of neighbours in an output row, every tap and channel a k of its own.
template <class T>
inline void multiply_planes(const Correlation<T>& c, const T* packed, const Block& block, T* memory, T* out) {
  constexpr int64_t MR = TileSize<T>::rows, NR = TileSize<T>::cols;
  const int64_t taps = c.th.count * c.tw.count * c.depth;
  Scratch<int64_t> offset(taps);
  const Planes<T> planes = make_planes(c.src, c.depth, c.th, c.tw, block, memory, offset.operator int64_t*());
  TileArgs<T> t{};
  t.kc = 1;
  t.taps = taps;
  t.offsets = planes.offset;
  t.ldb = NR;
  t.ldc = c.dst_pixel;
  t.relu = c.relu;
  const int64_t tiles = ceil_div(c.tw.outputs, MR), each = c.tw.outputs / tiles, more = c.tw.outputs % tiles;
  for (int64_t row = 0; row < block.images * block.rows; ++row)
    for (int64_t tile = 0, u = 0, count; tile < tiles; ++tile, u += count) {
      count = each + (tile < more);
      t.a = planes.p + row / block.rows * planes.image + row % block.rows * planes.row + u;
      for (int64_t j = 0; j < c.width; j += NR) {
        t.b = packed + j * taps;
        t.cols = min_of(NR, c.width - j);
        t.bias = c.bias ? c.bias + j : nullptr;
        t.c = out + (row * c.tw.outputs + u) * c.dst_pixel + j;
        t.addend = c.beside(c.addend, t.c);
        t.gate = c.beside(c.gate, t.c);
        run_tile<Form::taps>(t, count);
      }
    }
}

// depth = width = 1: packed is [tap][channel].
template <class T>
inline void multiply_block_depthwise(const Correlation<T>& c, const T* packed, const Runs& runs, const T* const* place,
                                     int64_t pixels, T* out, int64_t out_pixel) {
  constexpr int64_t W = kLanes<T>;
  for (int64_t i = 0; i < pixels; ++i) {
    int64_t g = 0;
    for (; g + W <= c.groups; g += W) {
      Vec<T> sum = c.bias ? load(c.bias + g) : Vec<T>{};
      for (int64_t r = 0; r < runs.count; ++r)
        sum += load(place[i] + runs.offset[r] + g) * load(packed + r * c.groups + g);
      store(out + i * out_pixel + g, c.relu ? activation::relu(sum) : sum);
    }
    if (g == c.groups) continue;
    const int64_t rest = c.groups - g;
    Vec<T> sum = c.bias ? load_part(c.bias + g, rest) : Vec<T>{};
    for (int64_t r = 0; r < runs.count; ++r)
      sum += load_part(place[i] + runs.offset[r] + g, rest) * load_part(packed + r * c.groups + g, rest);
    store_part(out + i * out_pixel + g, c.relu ? activation::relu(sum) : sum, rest);
  }
}

template <class T>
inline void pack_weights_depthwise(const Correlation<T>& c, T* packed) {
  for (int64_t i = 0; i < c.th.count; ++i)
    for (int64_t j = 0; j < c.tw.count; ++j)
      for (int64_t g = 0; g < c.groups; ++g)
        *packed++ = c.weights.p[g * c.weights.group + c.th.tap[i] * c.weights.kernel_width + c.tw.tap[j]];
}

// to[i] = from[i] + addend[i], then the backward of the ReLU that made gate[i]; both may be nullptr.
template <class T>
FASTDL_INLINE void finish_row(const T* from, const T* addend, const T* gate, int64_t count, T* to) {
  constexpr int64_t W = kLanes<T>;
  for (int64_t i = 0; i < count; i += W) {
    const int64_t some = min_of(W, count - i);
    Vec<T> v = load_part(from + i, some);
    if (addend) v += load_part(addend + i, some);
    if (gate) v = activation::relu_backward(v, load_part(gate + i, some));
    store_part(to + i, v, some);
  }
}

// A remainder class of a strided input gradient has its pixels apart in dst.
template <class T>
FASTDL_INLINE void spread(const Correlation<T>& c, const Block& block, const T* from, T* to) {
  const int64_t filters = c.groups * c.width;
  for (int64_t n = 0; n < block.images; ++n)
    for (int64_t t = 0; t < block.rows; ++t)
      for (int64_t u = 0; u < c.tw.outputs; ++u, from += filters) {
        T* const out = to + n * c.dst_image + t * c.dst_row + u * c.dst_pixel;
        finish_row(from, c.beside(c.addend, out), c.beside(c.gate, out), filters, out);
      }
}

template <class T>
inline void correlate_block(const Correlation<T>& c, const T* packed, const Blocking& blocks, int64_t index) {
  constexpr int64_t MR = TileSize<T>::rows;
  const bool depthwise = c.depth == 1 && c.width == 1, direct = c.direct();
  const int64_t channels = c.groups * c.depth, filters = c.groups * c.width, row = c.tw.outputs;
  const Block block = block_at(blocks, c.images, c.th.outputs, index);
  const int64_t pixels = block.images * block.rows * row;
  T* const to = c.dst + block.image * c.dst_image + block.row * c.dst_row;
  Scratch<T> memory(band_size<T>(blocks, c.th, c.tw, channels));
  const Band<T> band = make_band<T>(c.src, channels, c.th, c.tw, block, memory);
  Scratch<int64_t> run_memory(c.th.count * c.tw.count);
  const Runs runs = make_runs(band, c.th, c.tw, c.depth, !depthwise, run_memory);
  Scratch<const T*> place(pixels);
  find_places(c, band, block, place.operator const T**());
  const int64_t line = direct ? line_length(c, band, block) : row;
  const bool spaced = !depthwise && (direct ? keeps_to_lines<T>(line) : 2 * line >= MR), gather = !direct && !spaced;
  Scratch<T> gathered(gather ? pixels * filters : 0);
  Target<T> target{to, row, block.rows, c.dst_image, c.dst_row, c.dst_pixel, true};
  if (gather)
    target = {gathered, pixels, 1, 0, 0, filters, false};
  else if (direct)
    target = {to, spaced ? line : pixels, 1, line * c.dst_pixel, 0, c.dst_pixel, true};
  if (depthwise) {
    multiply_block_depthwise<T>(c, packed, runs, place, pixels, target.p, target.pixel);
  } else {
    const int64_t tiles = pixels / MR * c.groups * ceil_div(c.width, TileSize<T>::cols);
    multiply_block<T>(c, packed, runs, place, pixels, spaced ? c.tw.step * band.pixel : 0,
                      rows_ahead(c.src, channels, c.th, c.tw, blocks, c.images, index, tiles), target);
  }
  if (gather) spread(c, block, gathered.operator T*(), to);
}

// taken: moments of dst, which neighbours in dst must follow each other for, or nullptr.
template <class T>
inline void correlate(const Correlation<T>& c, MomentsOnTheWay<T>* taken = nullptr) {
  constexpr int64_t NR = TileSize<T>::cols;
  const bool depthwise = c.depth == 1 && c.width == 1;
  const int64_t channels = c.groups * c.depth, filters = c.groups * c.width, taps = c.th.count * c.tw.count;
  const int64_t image = c.th.outputs * c.tw.outputs;
  if (c.images * image * filters == 0) return;
  Scratch<T> packed(c.groups * taps * c.depth * (depthwise ? 1 : ceil_div(c.width, NR) * NR));
  if (depthwise)
    pack_weights_depthwise(c, packed.operator T*());
  else
    pack_weights(c, packed.operator T*());
  if (by_position(c)) {
    const Positions p = cut_positions(c);
    const double work =
        static_cast<double>(taps_inside(c.th) * taps_inside(c.tw)) * static_cast<double>(c.depth * filters);
    return parallel_for(p.groups * p.bands, work * static_cast<double>(p.images) / static_cast<double>(p.bands) / 64,
                        [&](int64_t task) { correlate_positions<T>(c, packed, p, task); });
  }
  const Blocking blocks = cut_blocks(c.images, c.th, c.tw, channels, pixels_per_block<T>(c.images * image));
  const int64_t most = blocks.images * blocks.rows * c.tw.outputs;
  const double cost = static_cast<double>(most) * static_cast<double>(taps * c.depth * filters) / (depthwise ? 8 : 64);
  const bool planar = c.direct() && reads_planes(c.th, c.tw, c.groups, c.depth, c.width);
  const auto run = [&](int64_t index) {
    if (!planar) return correlate_block<T>(c, packed, blocks, index);
    const Block block = block_at(blocks, c.images, c.th.outputs, index);
    Scratch<T> memory(planes_size(blocks, c.th, c.tw, channels));
    multiply_planes<T>(c, packed, block, memory, c.dst + block.image * c.dst_image + block.row * c.dst_row);
  };
  const double each = cost + static_cast<double>(most * filters) / 8;
  if (!taken) return parallel_for(blocks.count, each, run);
  const int64_t runs = min_of(blocks.count, 8 * num_threads());
  const auto start = [&](int64_t index) {  // the first output pixel
    if (index == blocks.count) return c.images * image;
    const Block block = block_at(blocks, c.images, c.th.outputs, index);
    return (block.image * c.th.outputs + block.row) * c.tw.outputs;
  };
  parallel_for(runs, each * static_cast<double>(blocks.count) / static_cast<double>(runs), [&](int64_t task) {
    const int64_t first = task * blocks.count / runs, last = (task + 1) * blocks.count / runs;
    for (int64_t index = first, next = 0; index < last; ++index) {
      run(index);
      taken->wrote(start(first), start(index + 1), next);
    }
  });
}

}  // namespace fastdl::cpu::FASTDL_ISA
