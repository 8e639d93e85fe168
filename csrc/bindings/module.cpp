// The extension module fastdl._cpu: the kernels, the instruction set and the threads.
#include "bindings/array.h"
#include "bindings/errors.h"
#include "bindings/families.h"
#include "core/parallel.h"
#include "cpu/runtime.h"

#include <pybind11/stl.h>

PYBIND11_MODULE(_cpu, m) {
  namespace py = pybind11;
  using namespace fastdl;
  m.doc() = "Compiled CPU kernels of fastdl; fastdl.kernels.cpu gives them their documented names.";
  py::register_exception_translator(&bind::translate);
  m.def("isa_levels", &isa_levels, "Instruction sets of this machine and build, weakest first.");
  m.def("get_isa", &get_isa, "The instruction set in use.");
  m.def("set_isa", &set_isa, py::arg("name"), "Use this instruction set from now on.");
  m.def("get_num_threads", &num_threads, "Threads that kernels may use.");
  m.def("set_num_threads", &set_num_threads, py::arg("n"), "Set the threads that kernels may use, 1 to 256.");
  m.def("available_cores", &available_cores, "Cores that affinity and cgroup allow.");
  m.def("configure", &configure_from_environment, "Apply FASTDL_CPU_ISA and FASTDL_NUM_THREADS.");
#define FASTDL_ADD(family) bind::add_##family(m);
  FASTDL_FAMILIES(FASTDL_ADD)
#undef FASTDL_ADD
  m.def("set_bfloat16", &bind::set_bfloat16, py::arg("dtype"), "Name the dtype of bfloat16 arrays.");
  bind::add_probe(m);
  bind::add_program(m);
}
