// One function per kernel family adds its kernels to the module.
#pragma once
#include <pybind11/pybind11.h>

// clang-format off
#define FASTDL_FAMILIES(X)                                                                                       \
  X(gemm) X(linear) X(im2col) X(conv2d) X(pool2d) X(batch_norm) X(activation) X(softmax) X(cross_entropy)        \
  X(loss) X(dropout) X(embedding) X(gather) X(elementwise) X(reduce) X(copy) X(sgd) X(rmsprop) X(adam) X(philox)
// clang-format on

namespace fastdl::bind {

#define FASTDL_DECLARE(family) void add_##family(pybind11::module_& m);
FASTDL_FAMILIES(FASTDL_DECLARE)
#undef FASTDL_DECLARE
// Of the CPU's module alone.
void add_probe(pybind11::module_& m);
void add_program(pybind11::module_& m);

}  // namespace fastdl::bind
