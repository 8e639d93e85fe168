// The module of the CUDA kernels: `fastdl._cuda`, on CuPy arrays, and `fastdl._cuda_emulated`, the same sources as
// plain loops on NumPy arrays, for tests on machines without a GPU.
#include "bindings/array.h"
#include "bindings/errors.h"
#include "bindings/families.h"
#include "cuda/runtime.h"

PYBIND11_MODULE(FASTDL_MODULE, m) {
  using namespace fastdl;
  m.doc() = "Compiled CUDA kernels of fastdl; fastdl.kernels.cuda gives them their documented names.";
  pybind11::register_exception_translator(&bind::translate);
#define FASTDL_ADD(family) bind::add_##family(m);
  FASTDL_FAMILIES(FASTDL_ADD)
#undef FASTDL_ADD
#if defined(FASTDL_CUPY)
  m.def("probe", &cuda::gpu::probe, "Runs an empty kernel and waits; RuntimeError if the current GPU can't.");
  m.attr("architectures") = FASTDL_CUDA_ARCHITECTURES;
#endif
}
