// NVIDIA's libraries in the CUDA modules: opening them, what was chosen of them, and TF32.
#include <pybind11/stl.h>

#include <optional>
#include <string>

#include "bindings/families.h"
#include "cuda/convolve.h"
#include "cuda/cublaslt.h"
#include "cuda/cudnn.h"
#include "cuda/matmul.h"

namespace fastdl::bind {

namespace py = pybind11;

namespace {

// load_<name>, unload_<name>, set_<name>_finder and <name>_plans.
template <class Table>
void add_library(py::module_& m, const std::string& name, cuda::gpu::Library<Table>& library,
                 std::vector<std::string> (*plans)()) {
  m.def(("load_" + name).c_str(),
        [&library](const std::optional<std::string>& path) { return library.load(path.value_or("")); },
        py::arg("path") = py::none(),
        "Opens the library at path, or as the dynamic linker finds it, and returns its version (90600 is 9.6.0).\n"
        "RuntimeError with the reason if that fails.");
  m.def(("unload_" + name).c_str(), [&library] { library.unload(); }, "Goes back to fastdl's own kernels.");
  m.def(("set_" + name + "_finder").c_str(),
        [&library](const py::object& find) {
          auto* const kept = new py::object(find);  // never destroyed: the interpreter may be gone by then
          library.set_finder([kept] {
            const py::gil_scoped_acquire gil;
            (*kept)();
          });
        },
        py::arg("find"), "find() is called by the first kernel that asks for the library, and may load it.");
  m.def((name + "_plans").c_str(), plans,
        "A line for each kind of problem so far: the library's algorithm, or why fastdl's own kernel serves.");
}

}  // namespace

void add_libraries(py::module_& m) {
  add_library(m, "cublaslt", cuda::gpu::cublaslt(), &cuda::gpu::describe_plans);
  add_library(m, "cudnn", cuda::gpu::cudnn(), &cuda::gpu::describe_convolutions);
  m.def("set_tf32", &cuda::gpu::set_tf32, py::arg("on"),
        "Whether float32 products and convolutions of NVIDIA's libraries may round their operands to TF32.");
  m.def("get_tf32", &cuda::gpu::get_tf32);
#if !defined(FASTDL_CUDA)
  m.def("emulate_capture", &cuda::gpu::emulate_capture, py::arg("on"),
        "Whether kernels believe that a CUDA graph is being captured.");
  m.def("emulate_clock", &cuda::gpu::emulate_clock, py::arg("on"),
        "Whether each candidate for a plan seems faster than those before it, rather than as fast.");
  m.def("emulate_order", &cuda::gpu::emulate_order, py::arg("order"),
        "In which order the threads of a kernel run between two barriers: 0 theirs, 1 the reverse, others mix them.");
#endif
}

}  // namespace fastdl::bind
