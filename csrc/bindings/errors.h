// From C++ exceptions to Python's.
#pragma once
#include <pybind11/pybind11.h>

#include "core/error.h"

namespace fastdl::bind {

// Raises one of fastdl's errors in Python; any other is thrown on.
inline void translate(std::exception_ptr error) {
  try {
    if (error) std::rethrow_exception(error);
  } catch (const TypeError& e) {
    PyErr_SetString(PyExc_TypeError, e.what());
  } catch (const ValueError& e) {
    PyErr_SetString(PyExc_ValueError, e.what());
  } catch (const IndexError& e) {
    PyErr_SetString(PyExc_IndexError, e.what());
  }
}

// Raises any error in Python, for functions that pybind11 doesn't call.
inline void set_error(std::exception_ptr error) noexcept {
  try {
    translate(std::move(error));
  } catch (pybind11::error_already_set& e) {
    e.restore();
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  } catch (const std::exception& e) {
    PyErr_SetString(PyExc_RuntimeError, e.what());
  }
}

}  // namespace fastdl::bind
