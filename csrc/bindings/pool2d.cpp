#include "bindings/array.h"
#include "bindings/families.h"

namespace fastdl::bind {

void add_pool2d(py::module_&) {}

}  // namespace fastdl::bind
