// The module of the CUDA kernels: `fastdl._cuda`, on CuPy arrays, and `fastdl._cuda_emulated`, the same sources as
// plain loops on NumPy arrays, for tests on machines without a GPU.
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "bindings/array.h"
#include "bindings/errors.h"
#include "bindings/families.h"
#include "cuda/cublaslt.h"
#include "cuda/matmul.h"
#include "cuda/runtime.h"

namespace fastdl::bind {

namespace {

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
}

void write_words(const pybind11::handle& words_, const std::vector<std::int64_t>& values) {
  using namespace fastdl;
  const bind::Input words = bind::one_of("write_words", "words", words_, {DType::i64}, "int64");
  if (words.view.ndim != 1 || words.view.strides[0] != 1 || words.view.size() < std::int64_t(values.size()))
    check::fail_value("write_words", "words must be contiguous, with room for " + std::to_string(values.size()) +
                                         ", got shape " + check::shape_string(words));
  cuda::gpu::write_words(words.view.as<std::int64_t>(), values.data(), std::int64_t(values.size()));
}

}  // namespace

}  // namespace fastdl::bind

PYBIND11_MODULE(FASTDL_MODULE, m) {
  using namespace fastdl;
  m.doc() = "Compiled CUDA kernels of fastdl; fastdl.kernels.cuda gives them their documented names.";
  pybind11::register_exception_translator(&bind::translate);
#define FASTDL_ADD(family) bind::add_##family(m);
  FASTDL_FAMILIES(FASTDL_ADD)
#undef FASTDL_ADD
  bind::add_cublaslt(m);
  m.def("write_words", &bind::write_words, pybind11::arg("words"), pybind11::arg("values"),
        "Writes 64-bit values, given as ints, to the front of an int64 array, in one launch without host memory.");
#if defined(FASTDL_CUPY)
  m.def("probe", &cuda::gpu::probe, "Runs an empty kernel and waits; RuntimeError if the current GPU can't.");
  m.attr("architectures") = FASTDL_CUDA_ARCHITECTURES;
#else
  m.def("emulate_capture", &cuda::gpu::emulate_capture, pybind11::arg("on"),
        "Whether kernels believe that a CUDA graph is being captured.");
#endif
}
