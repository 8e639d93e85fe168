// Correlation position by position: a tile is one output position of several images. All its rows have the same taps
// inside the image, so that nothing is multiplied by the zeros around it: of 14x14 pixels and 5x5 taps these are 16 %
// of the products, of 8x8 and 3x3 as well.
//
// A group's images are copied first, [row][image][column][channel] with rows an odd number of cache lines apart: images
// are often a power of two apart, and the rows of a tile would meet in few places of the first-level cache. Scratch per
// thread: that copy, about 128 K elements, at most four times as many.
#pragma once
#include "cpu/conv/ahead.h"
#include "cpu/conv/correlation.h"

namespace fastdl::cpu::FASTDL_ISA {

// Groups of at most `images` images and bands of output rows of each.
struct Positions {
  int64_t groups, images, bands;
};

constexpr int64_t kSource = int64_t{1} << 17;  // elements of a band's source: a second-level cache has room for it

// Source elements that `rows` output rows of a group read.
template <class T>
FASTDL_INLINE int64_t source_size(const Correlation<T>& c, const Positions& p, int64_t rows) {
  return p.images * min_of(c.th.size, c.th.reach(rows)) * c.tw.size * c.groups * c.depth;
}

template <class T>
FASTDL_INLINE Positions cut_positions(const Correlation<T>& c) {
  constexpr int64_t kTasks = 32;
  Positions p{};
  p.groups = ceil_div(c.images, TileSize<T>::rows);
  p.images = ceil_div(c.images, p.groups);
  p.bands = min_of(c.th.outputs, max_of(1, kTasks / p.groups));
  while (p.bands < c.th.outputs && source_size(c, p, ceil_div(c.th.outputs, p.bands)) > kSource) ++p.bands;
  return p;
}

// Are there images enough, zeros to leave out, and rows that fit? Not for depthwise weights, which are packed
// otherwise.
template <class T>
FASTDL_INLINE bool by_position(const Correlation<T>& c) {
  constexpr int64_t MR = TileSize<T>::rows;
  if (c.depth == 1 && c.width == 1) return false;
  if (2 * c.images < MR || 4 * c.depth < kLanes<T> || zeros_read(c.th, c.tw) <= 0.06) return false;
  return c.tw.size <= kSource && source_size(c, Positions{1, MR, 1}, 1) <= 4 * kSource;
}

// A task: output rows [row0, row1) of a group of images, and the source rows [top, bottom) that they read.
struct PositionTask {
  int64_t image, images, row0, row1, top, bottom;
};

template <class T>
FASTDL_INLINE PositionTask position_task(const Correlation<T>& c, const Positions& p, int64_t index) {
  const int64_t group = index / p.bands, band = index % p.bands, image = group * c.images / p.groups;
  PositionTask t{image, (group + 1) * c.images / p.groups - image, band * c.th.outputs / p.bands, 0, 0, 0};
  t.row1 = (band + 1) * c.th.outputs / p.bands;
  const int64_t from = t.row0 * c.th.step + c.th.first();
  t.top = min_of(c.th.size, max_of(0, from));
  t.bottom = max_of(t.top, min_of(c.th.size, from + c.th.reach(t.row1 - t.row0)));
  return t;
}

// The source rows of a task's images, copied side by side.
template <class T>
struct PositionSource {
  const T* p;
  int64_t top, row, spacing;  // first source row; from row to row, from image to image, in elements
};

template <class T>
FASTDL_INLINE int64_t spacing_of(const Correlation<T>& c) {
  constexpr int64_t kLine = 64 / sizeof(T);
  return (ceil_div(c.tw.size * c.groups * c.depth, kLine) | 1) * kLine;
}

template <class T>
inline PositionSource<T> copy_source(const Correlation<T>& c, const PositionTask& task, T* memory) {
  const int64_t width = c.tw.size * c.groups * c.depth, spacing = spacing_of(c);
  for (int64_t n = 0; n < task.images; ++n)
    for (int64_t h = task.top; h < task.bottom; ++h)
      __builtin_memcpy(memory + ((h - task.top) * task.images + n) * spacing,
                       c.src + ((task.image + n) * c.th.size + h) * width, static_cast<std::size_t>(width) * sizeof(T));
  return {memory, task.top, task.images * spacing, spacing};
}

// The source rows of task `index + 1` that this one does not read, of each image, in as many pieces as it has tiles.
template <class T>
FASTDL_INLINE void rows_after(const Correlation<T>& c, const Positions& p, int64_t index, const PositionTask& task,
                              Ahead* ahead) {
  if (index + 1 == p.groups * p.bands) return;
  const PositionTask next = position_task(c, p, index + 1);
  const int64_t width = c.tw.size * c.groups * c.depth, panels = ceil_div(c.width, TileSize<T>::cols);
  const int64_t from = next.image == task.image ? max_of(next.top, task.bottom) : next.top;
  for (int64_t n = 0; n < next.images; ++n)
    ahead[n] = Ahead(c.src + ((next.image + n) * c.th.size + from) * width, (next.bottom - from) * width,
                     (task.row1 - task.row0) * c.tw.outputs * c.groups * panels);
}

// The taps inside the image at output position (h, w), a kernel row's in one run where `joined`: where each run begins
// in the source and in the packed weights.
template <class T>
FASTDL_INLINE void find_taps(const Correlation<T>& c, const PositionSource<T>& source, int64_t h, int64_t w,
                             bool joined, int64_t* offset, int64_t* weight, TileArgs<T>& t) {
  const Range down = taps_inside(c.th, h), right = taps_inside(c.tw, w);
  const int64_t run = joined ? max_of(right.count(), 1) : 1;
  t.kc = run * c.depth;
  t.taps = 0;
  for (int64_t i = down.first; i < down.last; ++i)
    for (int64_t k = right.first; k < right.last; k += run, ++t.taps) {
      offset[t.taps] = (h * c.th.step + c.th.offset[i] - source.top) * source.row +
                       (w * c.tw.step + c.tw.offset[k]) * c.groups * c.depth;
      weight[t.taps] = (i * c.tw.count + k) * c.depth * TileSize<T>::cols;
    }
}

template <class T>
inline void correlate_positions(const Correlation<T>& c, const T* packed, const Positions& p, int64_t index) {
  constexpr int64_t NR = TileSize<T>::cols;
  const PositionTask task = position_task(c, p, index);
  Scratch<T> memory((task.bottom - task.top) * task.images * spacing_of(c));
  const PositionSource<T> source = copy_source(c, task, memory.operator T*());
  Ahead ahead[TileSize<T>::rows];
  rows_after(c, p, index, task, ahead);
  const int64_t taps = c.th.count * c.tw.count, panels = ceil_div(c.width, NR);
  const bool joined = c.groups == 1 && c.tw.consecutive();  // a kernel row's taps side by side in memory
  Scratch<int64_t> offset(taps), weight(taps);
  TileArgs<T> t{};
  t.offsets = offset;
  t.b_offsets = weight;
  t.spacing = source.spacing;
  t.ldb = NR;
  t.ldc = c.dst_image;
  t.relu = c.relu;
  for (int64_t g = 0; g < c.groups; ++g)
    for (int64_t panel = 0; panel < panels; ++panel) {
      const int64_t j = g * c.width + panel * NR;
      t.a = source.p + g * c.depth;
      t.b = packed + (g * panels + panel) * taps * c.depth * NR;
      t.cols = min_of(NR, c.width - panel * NR);
      t.bias = c.bias ? c.bias + j : nullptr;
      for (int64_t h = task.row0; h < task.row1; ++h)
        for (int64_t w = 0; w < c.tw.outputs; ++w) {
          find_taps<T>(c, source, h, w, joined, offset, weight, t);
          t.c = c.dst + task.image * c.dst_image + h * c.dst_row + w * c.dst_pixel + j;
          t.addend = c.beside(c.addend, t.c);
          t.gate = c.beside(c.gate, t.c);
          for (Ahead& rows : ahead) rows.step();
          run_tile<Form::spaced>(t, task.images);
        }
    }
}

}  // namespace fastdl::cpu::FASTDL_ISA
