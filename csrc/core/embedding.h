// Rows of a table by number, and the gradient of the table.  Overwrite their outputs.  No scratch.
// weight, dweight [r, d]   index [k]   y, dy [k, d]   all contiguous (leading dimensions of index folded into k).
#pragma once
#include "core/check.h"
#include "core/kernel.h"

namespace fastdl {

void check_embedding_forward(const View& weight, const View& index);
void check_embedding_backward(const View& dy, const View& index, std::int64_t num_embeddings);

namespace FASTDL_DEVICE {
inline Kernel<void(View weight, View index, Out y)> embedding_forward;
// Adds in the order of index, one row after another; the row padding_idx (or -1) gets nothing.
inline Kernel<void(View dy, View index, std::int64_t padding_idx, Out dweight)> embedding_backward;
}  // namespace FASTDL_DEVICE

}  // namespace fastdl
