// Arguments of kernels that are no arrays: numbers, pairs, flags. Messages as in array.h.
#pragma once
#include <pybind11/pybind11.h>

#include <array>

#include "core/check.h"
#include "core/view.h"

namespace fastdl::bind {

namespace py = pybind11;
using check::Pair;

std::string type_name(const py::handle& x);

// A tuple of two ints, each at least `minimum`.
Pair pair(const char* kernel, const char* name, const py::handle& value, std::int64_t minimum);
// An int in [low, high).
std::int64_t integer(const char* kernel, const char* name, const py::handle& value, std::int64_t low,
                     std::int64_t high);
// A tuple of N bools.
template <int N>
std::array<bool, N> need(const char* kernel, const py::handle& value) {
  std::array<bool, N> flags{};
  bool valid = py::isinstance<py::tuple>(value) && py::len(value) == N;
  for (int i = 0; valid && i < N; ++i) {
    const py::object flag = value[py::int_(i)];
    valid = PyBool_Check(flag.ptr());
    flags[static_cast<std::size_t>(i)] = flag.ptr() == Py_True;
  }
  if (!valid)
    check::fail_type(kernel,
                     "need must be a tuple of " + std::to_string(N) + " bools, got " + std::string(py::repr(value)));
  return flags;
}

// A number given as such or as a 0-d array of its dtype; a recorded step reads the array at every replay.
template <class T>
Number<T> number(const char* kernel, const char* name, const py::handle& value);

}  // namespace fastdl::bind
