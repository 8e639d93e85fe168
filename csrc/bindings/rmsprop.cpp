#include "bindings/array.h"
#include "bindings/families.h"

namespace fastdl::bind {

void add_rmsprop(py::module_&) {}

}  // namespace fastdl::bind
