// The Philox stream named by a seed and a counter.
#pragma once
#include <pybind11/pybind11.h>

#include <string>

#include "core/check.h"
#include "core/philox.h"

namespace fastdl::bind {

namespace py = pybind11;

// An int in [0, 2^64).
inline std::uint64_t word64(const char* kernel, const char* name, const py::handle& value) {
  if (!PyLong_Check(value.ptr()) && !py::isinstance(value, py::module_::import("numpy").attr("integer")))
    check::fail_type(kernel, std::string(name) + " must be an int, got " +
                                 std::string(py::str(py::type::of(value).attr("__name__"))));
  const py::int_ whole(py::reinterpret_borrow<py::object>(value));
  const std::uint64_t result = PyLong_AsUnsignedLongLong(whole.ptr());
  if (PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    check::fail_value(kernel,
                      std::string(name) + " must lie in [0, 18446744073709551616), got " + std::string(py::str(whole)));
  }
  return result;
}

inline PhiloxStream stream(const char* kernel, const py::handle& seed, const py::handle& counter) {
  return {word64(kernel, "seed", seed), word64(kernel, "counter", counter)};
}

}  // namespace fastdl::bind
