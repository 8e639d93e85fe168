#include "bindings/array.h"
#include "bindings/families.h"

namespace fastdl::bind {

void add_philox(py::module_&) {}

}  // namespace fastdl::bind
