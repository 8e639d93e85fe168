// What bindings tell a recorder besides the calls themselves.
#pragma once
#include <pybind11/numpy.h>

namespace fastdl::bind {

// Keeps an array's memory alive for the program that is being recorded, unless that memory is the program's own or an
// input's, which each replay brings anew.
void retain(const pybind11::array& a);

}  // namespace fastdl::bind
