// The module of the CUDA kernels: `fastdl._cuda`, on CuPy arrays, and `fastdl._cuda_emulated`, the same sources on
// the host (csrc/cuda/emulated.h) and its arrays, for tests on machines without a GPU.
#include "bindings/array.h"
#include "bindings/errors.h"
#include "bindings/families.h"
#include "cuda/runtime.h"

namespace fastdl::bind {
void add_libraries(pybind11::module_& m);
void add_staging(pybind11::module_& m);
}  // namespace fastdl::bind

namespace {

void write_words(const pybind11::handle& words_,
                 const pybind11::array_t<std::int64_t, pybind11::array::c_style | pybind11::array::forcecast>& values) {
  using namespace fastdl;
  const bind::Input words = bind::one_of("write_words", "words", words_, {DType::i64}, "int64");
  if (words.view.ndim != 1 || words.view.strides[0] != 1 || words.view.size() < values.size())
    check::fail_value("write_words", "words must be contiguous, with room for " + std::to_string(values.size()) +
                                         ", got shape " + check::shape_string(words));
  cuda::gpu::write(words.view.as<std::int64_t>(), values.data(), values.size());
}

}  // namespace

PYBIND11_MODULE(FASTDL_MODULE, m) {
  using namespace fastdl;
  m.doc() = "Compiled CUDA kernels of fastdl; fastdl.kernels.cuda gives them their documented names.";
  pybind11::register_exception_translator(&bind::translate);
#define FASTDL_ADD(family) bind::add_##family(m);
  FASTDL_FAMILIES(FASTDL_ADD)
#undef FASTDL_ADD
  m.def("set_bfloat16", &bind::set_bfloat16, pybind11::arg("dtype"), "Name the dtype of bfloat16 arrays.");
  bind::add_libraries(m);
  bind::add_staging(m);
  m.def("write_words", &write_words, pybind11::arg("words"), pybind11::arg("values"),
        "Writes int64 values of the host to the front of an array, as arguments of a kernel.");
#if defined(FASTDL_CUDA)
  m.def("probe", &cuda::gpu::probe, "Runs an empty kernel and waits; RuntimeError if the current GPU can't.");
  m.attr("architectures") = FASTDL_CUDA_ARCHITECTURES;
#endif
}
