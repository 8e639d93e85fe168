#include "bindings/array.h"
#include "bindings/families.h"

namespace fastdl::bind {

void add_im2col(py::module_&) {}

}  // namespace fastdl::bind
