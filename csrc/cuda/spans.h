// Sliding windows seen from one of their sides, from the outputs or from the pixels: each place of an axis meets a span
// of places on the other side. The host makes a table of them, so that kernels neither divide by strides nor ask what
// lies in the padding.
#pragma once
#include <numeric>
#include <vector>

#include "cuda/divide.h"

namespace fastdl::cuda::gpu {

template <class I>
struct alignas(4 * sizeof(I)) Span {
  I first, count;  // places on the other side, in steps that the whole axis has in common
  I tap;           // between this place and the first; it changes in steps as well
  I inside;        // the first so many are under a tap
};

// From one tap over a pixel to the next: so many taps on, and so many windows back.
struct TapStep {
  int64_t taps, windows;

  TapStep(int64_t stride, int64_t dilation) {
    const int64_t common = std::gcd(stride, dilation);
    taps = stride / common;
    windows = dilation / common;
  }
};

// The tables of both axes in one block on the device; the host's have to live until a kernel is launched.
template <class I>
struct Spans {
  const Span<I>*rows, *columns;

  Spans(std::vector<Span<I>>& table, const std::vector<Span<I>>& columns_table) {
    const auto row_count = static_cast<int64_t>(table.size());
    table.insert(table.end(), columns_table.begin(), columns_table.end());
    rows = resident(table.data(), static_cast<int64_t>(table.size()));
    columns = rows + row_count;
  }
};

}  // namespace fastdl::cuda::gpu
