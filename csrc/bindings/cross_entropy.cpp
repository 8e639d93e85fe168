#include "bindings/array.h"
#include "bindings/families.h"

namespace fastdl::bind {

void add_cross_entropy(py::module_&) {}

}  // namespace fastdl::bind
