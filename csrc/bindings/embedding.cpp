#include "core/embedding.h"

#include "bindings/array.h"
#include "bindings/families.h"

namespace fastdl::bind {

namespace {

Array embedding_forward(const py::handle& weight_, const py::handle& index_) {
  const char* kernel = "embedding_forward";
  const Input weight = contiguous(kernel, "weight", weight_), index = integers(kernel, "index", index_);
  check_embedding_forward(weight, index);
  std::int64_t shape[kMaxDims];
  for (int d = 0; d < index.view.ndim; ++d) shape[d] = index.view.shape[d];
  shape[index.view.ndim] = weight.view.shape[1];
  Output y = empty(weight.view.dtype, shape, index.view.ndim + 1);
  run(y.view.size(), [&] { device::embedding_forward(weight, index, y.view); });
  return y.array;
}

Array embedding_backward(const py::handle& dy_, const py::handle& index_, const py::handle& num_embeddings_,
                         const py::handle& padding_idx_) {
  const char* kernel = "embedding_backward";
  const Input dy = contiguous(kernel, "dy", dy_), index = integers(kernel, "index", index_);
  const std::int64_t rows = integer(kernel, "num_embeddings", num_embeddings_, 0, std::int64_t{1} << 62);
  const std::int64_t padding_idx = integer(kernel, "padding_idx", padding_idx_, -1, rows);
  check_embedding_backward(dy, index, rows);
  Output dweight = empty(dy.view.dtype, {rows, dy.view.shape[dy.view.ndim - 1]});
  run(dy.view.size() + dweight.view.size(), [&] { device::embedding_backward(dy, index, padding_idx, dweight.view); });
  return dweight.array;
}

}  // namespace

void add_embedding(py::module_& m) {
  m.def("embedding_forward", &embedding_forward, py::arg("weight"), py::arg("index"));
  m.def("embedding_backward", &embedding_backward, py::arg("dy"), py::arg("index"), py::arg("num_embeddings"),
        py::arg("padding_idx"));
}

}  // namespace fastdl::bind
