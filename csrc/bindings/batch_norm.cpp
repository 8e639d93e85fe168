#include "bindings/array.h"
#include "bindings/families.h"

namespace fastdl::bind {

void add_batch_norm(py::module_&) {}

}  // namespace fastdl::bind
