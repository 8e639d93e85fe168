// cuBLASLt's side of the CUDA modules: opening it, what it chose, and TF32.
#include "cuda/cublaslt.h"

#include <pybind11/stl.h>

#include <optional>
#include <string>

#include "bindings/families.h"
#include "cuda/matmul.h"
#include "cuda/runtime.h"

namespace fastdl::bind {

namespace py = pybind11;

void add_cublaslt(py::module_& m) {
  m.def(
      "load_cublaslt",
      [](const std::optional<std::string>& path) { return cuda::gpu::load_cublaslt(path.value_or("")); },
      py::arg("path") = py::none(),
      "Opens cuBLASLt of CUDA 13 at path, or as the dynamic linker finds it, and returns its version (130100 is\n"
      "13.1.0). RuntimeError with the reason if that fails.");
  m.def("unload_cublaslt", &cuda::gpu::unload_cublaslt, "Goes back to fastdl's own products.");
  m.def(
      "set_cublaslt_finder",
      [](const py::object& find) {
        auto* const kept = new py::object(find);  // never destroyed: the interpreter may be gone by then
        cuda::gpu::set_cublaslt_finder([kept] {
          const py::gil_scoped_acquire gil;
          (*kept)();
        });
      },
      py::arg("find"), "find() is called by the first matrix product, and may call load_cublaslt.");
  m.def("cublaslt_plans", &cuda::gpu::describe_plans,
        "A line for each kind of product so far: cuBLASLt's algorithm, or why fastdl's own serves.");
  m.def("set_tf32", &cuda::gpu::set_tf32, py::arg("on"),
        "Whether float32 products of cuBLASLt may round their operands to TF32.");
  m.def("get_tf32", &cuda::gpu::get_tf32);
#if !defined(FASTDL_CUDA)
  m.def("emulate_capture", &cuda::gpu::emulate_capture, py::arg("on"),
        "Whether kernels believe that a CUDA graph is being captured.");
#endif
}

}  // namespace fastdl::bind
