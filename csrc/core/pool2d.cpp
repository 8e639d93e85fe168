#include "core/pool2d.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

#include "core/parallel.h"
#include "core/program.h"
#include "core/window.h"

namespace fastdl {

using namespace check;

namespace {

// The writable side of a PoolAxis.
struct Tables {
  std::int64_t *start, *tap_first, *tap_last, *over_first, *over_last;
  double* share;
};

Tables tables_of(const PoolAxis& axis) {
  return {const_cast<std::int64_t*>(axis.start),     const_cast<std::int64_t*>(axis.tap_first),
          const_cast<std::int64_t*>(axis.tap_last),  const_cast<std::int64_t*>(axis.over_first),
          const_cast<std::int64_t*>(axis.over_last), const_cast<double*>(axis.share)};
}

// The windows that can hold a pixel, from each window's first and last pixel; both grow from window to window.
template <class Last>
void fill_over(PoolAxis& axis, const Last& last) {
  const Tables t = tables_of(axis);
  std::int64_t first = 0, end = 0;
  axis.disjoint = axis.dilation == 1;
  for (std::int64_t pixel = 0; pixel < axis.size; ++pixel) {
    while (first < axis.windows && last(first) < pixel) ++first;
    while (end < axis.windows && t.start[end] <= pixel) ++end;
    t.over_first[pixel] = first;
    t.over_last[pixel] = std::max(first, end);
    if (end - first > 1) axis.disjoint = false;
  }
}

void fill_sliding(PoolAxis& axis, std::int64_t taps, std::int64_t stride, std::int64_t padding, std::int64_t dilation) {
  const Tables t = tables_of(axis);
  axis.taps = taps;
  axis.dilation = dilation;
  for (std::int64_t o = 0; o < axis.windows; ++o) {
    const std::int64_t start = o * stride - padding;
    t.start[o] = start;
    t.tap_first[o] = std::min(start < 0 ? (-start + dilation - 1) / dilation : 0, taps);
    t.tap_last[o] = std::max(t.tap_first[o], std::min(taps, (axis.size - start + dilation - 1) / dilation));
    t.share[o] = 1;
  }
  fill_over(axis, [&](std::int64_t o) { return t.start[o] + (taps - 1) * dilation; });
}

void fill_shares(PoolAxis& axis, std::int64_t padding, bool count_include_pad) {
  const Tables t = tables_of(axis);
  for (std::int64_t o = 0; o < axis.windows; ++o) {
    const std::int64_t inside = t.tap_last[o] - t.tap_first[o];
    const std::int64_t padded = std::min(axis.taps, axis.size + padding - t.start[o]);
    t.share[o] = 1.0 / static_cast<double>(count_include_pad ? padded : inside);
  }
}

void fill_adaptive(PoolAxis& axis) {
  const Tables t = tables_of(axis);
  axis.taps = axis.dilation = 1;
  for (std::int64_t o = 0; o < axis.windows; ++o) {
    t.start[o] = o * axis.size / axis.windows;
    t.tap_first[o] = 0;
    t.tap_last[o] = ((o + 1) * axis.size + axis.windows - 1) / axis.windows - t.start[o];
    t.share[o] = 1.0 / static_cast<double>(t.tap_last[o]);
    axis.taps = std::max(axis.taps, t.tap_last[o]);
  }
  fill_over(axis, [&](std::int64_t o) { return t.start[o] + t.tap_last[o] - 1; });
}

std::int64_t table_entries(Pair input_size, Pair output_size) {
  return 4 * (output_size.first + output_size.second) + 2 * (input_size.first + input_size.second);
}

// One block for all tables of d.
void* allocate(Pool2dDims& d, Pair input_size, Pair output_size) {
  void* memory = std::malloc(static_cast<std::size_t>(table_entries(input_size, output_size)) * sizeof(std::int64_t));
  if (memory == nullptr) throw std::bad_alloc();
  auto* next = static_cast<std::int64_t*>(memory);
  const auto lay_out = [&](PoolAxis& axis, std::int64_t size, std::int64_t windows) {
    const auto take = [&](std::int64_t n) { return (next += n) - n; };
    axis.size = size;
    axis.windows = windows;
    axis.start = take(windows);
    axis.tap_first = take(windows);
    axis.tap_last = take(windows);
    axis.share = reinterpret_cast<const double*>(take(windows));
    axis.over_first = take(size);
    axis.over_last = take(size);
  };
  lay_out(d.rows, input_size.first, output_size.first);
  lay_out(d.columns, input_size.second, output_size.second);
  return memory;
}

}  // namespace

std::shared_ptr<void> own_tables(Pool2dDims& d) {
  const Pair input_size = {d.rows.size, d.columns.size}, output_size = {d.rows.windows, d.columns.windows};
  const void* tables = d.rows.start;  // the first of the block
  std::shared_ptr<void> copy(allocate(d, input_size, output_size), std::free);
  std::memcpy(copy.get(), tables,
              static_cast<std::size_t>(table_entries(input_size, output_size)) * sizeof(std::int64_t));
  d.owned = true;
  return copy;
}

Pool2dTables::Pool2dTables(Pair input_size, Pair output_size, const Window& w) {
  memory_ = allocate(dims_, input_size, output_size);
  fill_sliding(dims_.rows, w.kernel_size.first, w.stride.first, w.padding.first, w.dilation.first);
  fill_sliding(dims_.columns, w.kernel_size.second, w.stride.second, w.padding.second, w.dilation.second);
}

Pool2dTables::Pool2dTables(Pair input_size, Pair output_size, const Window& w, bool count_include_pad,
                           const double* divisor_override)
    : Pool2dTables(input_size, output_size, w) {
  if (divisor_override != nullptr) {
    const Tables t = tables_of(dims_.rows);
    std::fill_n(t.share, output_size.first, 1.0 / *divisor_override);
    return;
  }
  fill_shares(dims_.rows, w.padding.first, count_include_pad);
  fill_shares(dims_.columns, w.padding.second, count_include_pad);
}

Pool2dTables::Pool2dTables(Pair input_size, Pair output_size) {
  memory_ = allocate(dims_, input_size, output_size);
  fill_adaptive(dims_.rows);
  fill_adaptive(dims_.columns);
}

Pool2dTables::~Pool2dTables() { std::free(memory_); }

DType offset_dtype(Pair kernel_size) { return kernel_size.first * kernel_size.second <= 256 ? DType::u8 : DType::i32; }

void check_pool_image(const char* kernel, const char* name, const View& x) { rank(kernel, name, x, 4, "(N, C, H, W)"); }

void check_pool_sides(const char* kernel, const char* name, const View& x) {
  check_pool_image(kernel, name, x);
  if (x.shape[2] < 1 || x.shape[3] < 1)
    fail_value(kernel, std::string(name) + " must have a height and width of at least 1, got shape " + shape_string(x));
}

void check_pool_window(const char* kernel, const Window& w) {
  check_window(kernel, w);
  if (2 * w.padding.first > w.kernel_size.first || 2 * w.padding.second > w.kernel_size.second)
    fail_value(kernel, "padding must be at most half of kernel_size " + to_string(w.kernel_size) + ", got " +
                           to_string(w.padding));
}

void check_max_pool_window(const char* kernel, const Window& w) {
  check_pool_window(kernel, w);
  if (w.kernel_size.first * w.kernel_size.second > kLargestWindow)
    fail_value(kernel, "kernel_size must hold at most " + std::to_string(kLargestWindow) + " taps, got " +
                           to_string(w.kernel_size));
}

namespace {

// Each thread checks the run of bytes that the kernel has it read next, and brings it into its cache.
void check_bytes(const char* kernel, const View& offsets, std::int64_t taps) {
  constexpr std::int64_t kPart = 16384;
  constexpr double kNsPerByte = 0.04;
  const auto* bytes = offsets.as<std::uint8_t>();
  const std::int64_t count = offsets.size(), parts = (count + kPart - 1) / kPart;
  const Scratch<std::uint8_t> found(parts);
  parallel_for(parts, kPart * kNsPerByte, [&](std::int64_t part) {
    const std::int64_t end = std::min(count, (part + 1) * kPart);
    std::uint8_t largest = 0;  // a maximum vectorises, a search does not
    for (std::int64_t i = part * kPart; i < end; ++i) largest = bytes[i] > largest ? bytes[i] : largest;
    found[part] = largest;
  });
  const std::uint8_t largest = parts > 0 ? *std::max_element(found + 0, found + parts) : 0;
  if (largest >= taps)
    fail_index(kernel, "offsets must lie in [0, " + std::to_string(taps) + "), got " + std::to_string(largest));
}

}  // namespace

void check_offsets(const char* kernel, const View& offsets, Pair input_size, const Window& w) {
  rank(kernel, "offsets", offsets, 4, "(N, C, OH, OW)");
  const Pair up = window_output_size(kernel, input_size, w, true);
  const auto axis = [&](std::int64_t Pair::* side) {
    return axis_output_size(input_size.*side, w.kernel_size.*side, w.stride.*side, w.padding.*side, w.dilation.*side);
  };
  const Pair down = {axis(&Pair::first), axis(&Pair::second)}, got = {offsets.shape[2], offsets.shape[3]};
  if (got != up && got != down)
    fail_value(kernel, "offsets must have " + to_string(down) + " or " + to_string(up) + " windows, got shape " +
                           shape_string(offsets));
  const std::int64_t taps = w.kernel_size.first * w.kernel_size.second;
  if (offsets.dtype == DType::i32) {
    indices(kernel, "offsets", offsets, taps);
    return;
  }
  checked(kernel, offsets, check_bytes, taps);
}

}  // namespace fastdl
