// The Philox stream named by a seed and a counter.
#pragma once
#include <pybind11/pybind11.h>

#include <string>

#include "bindings/array.h"
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

// The counter may be a 0-d int64 array, which is read when the kernel runs.
inline PhiloxStream stream(const char* kernel, const py::handle& seed, const py::handle& counter) {
  if (is_array(counter)) {
    const View place = any_dtype(kernel, "counter", counter).view;
    if (place.ndim != 0 || place.dtype != DType::i64)
      check::fail_type(kernel, "counter must be an int or a 0-d array of int64, got shape " +
                                   check::shape_string(place) + " of " + check::dtype_name(place.dtype));
    return {word64(kernel, "seed", seed), 0, 0, place.as<std::uint64_t>()};
  }
  return {word64(kernel, "seed", seed), word64(kernel, "counter", counter)};
}

}  // namespace fastdl::bind
