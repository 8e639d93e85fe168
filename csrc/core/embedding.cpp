#include "core/embedding.h"

namespace fastdl {

using namespace check;

void check_embedding_forward(const View& weight, const View& index) {
  const char* kernel = "embedding_forward";
  rank(kernel, "weight", weight, 2, "(R, D)");
  if (index.ndim == kMaxDims)
    fail_value(kernel, "index must have at most 7 dimensions, got shape " + shape_string(index));
  indices(kernel, "index", index, weight.shape[0]);
}

void check_embedding_backward(const View& dy, const View& index, std::int64_t num_embeddings) {
  const char* kernel = "embedding_backward";
  bool fits = dy.ndim == index.ndim + 1;
  for (int d = 0; fits && d < index.ndim; ++d) fits = dy.shape[d] == index.shape[d];
  if (!fits) fail_value(kernel, "dy must have shape " + shape_string(index) + " + (D,), got " + shape_string(dy));
  indices(kernel, "index", index, num_embeddings);
}

}  // namespace fastdl
