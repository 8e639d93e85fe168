// The exceptions that kernels raise; the bindings turn each into the Python class of the same name.
#pragma once
#include <stdexcept>

namespace fastdl {

struct TypeError : std::runtime_error {  // wrong kind of array or dtype
  using std::runtime_error::runtime_error;
};
struct ValueError : std::runtime_error {  // wrong shape or value
  using std::runtime_error::runtime_error;
};
struct IndexError : std::runtime_error {  // a label or index out of range
  using std::runtime_error::runtime_error;
};

}  // namespace fastdl
