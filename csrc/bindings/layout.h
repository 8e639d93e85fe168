// Memory orders of arrays, the same for NumPy's and CuPy's; what array.h makes of them is in layout.cpp.
#pragma once
#include "bindings/array.h"

namespace fastdl::bind {

inline constexpr int kCOrder[kMaxDims] = {0, 1, 2, 3, 4, 5, 6, 7};
inline constexpr int kChannelsLast[kMaxDims] = {0, 2, 3, 1};

// Do the strides match a dense array whose dimensions nest in this order, outermost first?
bool nests(const View& view, const int* order);
bool dense_in_some_order(const View& view);
// A copy of x, its dimensions nested in this order.
Input copy_ordered(const View& x, const int* order);

}  // namespace fastdl::bind
