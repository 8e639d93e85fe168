// y[e] = x[e] * (1 / (1 - p) if word e of the Philox stream is below floor((1 - p) 2^32), else 0).  Overwrites y, which
// may be x.  Saves nothing: backward is the same call on dy.  No scratch.
// x, y: n elements numbered in memory order (C order; channels-last for 4-D arrays).
#pragma once
#include "core/check.h"
#include "core/kernel.h"
#include "core/philox.h"

namespace fastdl {

namespace FASTDL_DEVICE {
inline Elementwise<void(View x, double p, PhiloxStream stream, Out y)> dropout;
}

}  // namespace fastdl
