// A batch picked from a data set and brought to floats: y[b] = data[index[b]] * factor + shift per channel.
// data [r, ...] uint8, float32 or float64 of any strides; index [b] int64, contiguous, in [0, r); y [b, ...] dense, 4-D
// channels-last. The channel is axis 1 of data. Overwrites y. No scratch.
#pragma once
#include "core/check.h"
#include "core/kernel.h"

namespace fastdl {

// The constants of the map, one for all channels or one per channel.
struct GatherMap {
  const double *factor, *shift;
  bool per_channel;
};

void check_gather_data(const View& data);
void check_gather_index(const View& index);
// mean or std, float64: (1,) or one entry per channel of data, finite, std not 0.
void check_gather_constants(const char* name, const View& value, const View& data, bool nonzero);

inline void visit_argument(ArgumentVisitor& visitor, GatherMap&) {
  visitor.refuse("gather_batch; pick the batch before the step");
}

namespace FASTDL_DEVICE {
inline Kernel<void(View data, View index, const GatherMap& map, Out y)> gather_batch;
}  // namespace FASTDL_DEVICE

}  // namespace fastdl
