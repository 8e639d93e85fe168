#include "bindings/array.h"
#include "bindings/families.h"

namespace fastdl::bind {

void add_copy(py::module_&) {}

}  // namespace fastdl::bind
