// Whole-number arguments in the words of `integer` in python/fastdl/kernels/numpy/_check.py.
#pragma once
#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>

#include "core/check.h"

namespace fastdl::bind {

namespace py = pybind11;

// value as a Python int: an int or a NumPy integer, else TypeError.
inline py::int_ expect_int(const char* kernel, const char* name, const py::handle& value) {
  if (!PyLong_Check(value.ptr()) && !py::isinstance(value, py::module_::import("numpy").attr("integer")))
    check::fail_type(kernel, std::string(name) + " must be an int, got " +
                                 std::string(py::str(py::type::of(value).attr("__name__"))));
  PyObject* index = PyNumber_Index(value.ptr());
  if (index == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::int_>(index);
}

[[noreturn]] inline void fail_range(const char* kernel, const char* name, const std::string& range,
                                    const py::int_& value) {
  check::fail_value(kernel, std::string(name) + " must lie in " + range + ", got " + std::string(py::str(value)));
}

// An int in [low, last]; the message gives the range as [low, last + 1).
inline std::int64_t integer_up_to(const char* kernel, const char* name, const py::handle& value, std::int64_t low,
                                  std::int64_t last) {
  const py::int_ whole = expect_int(kernel, name, value);
  int overflow = 0;
  const std::int64_t result = PyLong_AsLongLongAndOverflow(whole.ptr(), &overflow);
  if (overflow != 0 || result < low || result > last)
    fail_range(kernel, name,
               "[" + std::to_string(low) + ", " + std::to_string(static_cast<std::uint64_t>(last) + 1) + ")", whole);
  return result;
}

// An int in [0, 2^64).
inline std::uint64_t word64(const char* kernel, const char* name, const py::handle& value) {
  const py::int_ whole = expect_int(kernel, name, value);
  const std::uint64_t result = PyLong_AsUnsignedLongLong(whole.ptr());
  if (PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    fail_range(kernel, name, "[0, 18446744073709551616)", whole);
  }
  return result;
}

}  // namespace fastdl::bind
