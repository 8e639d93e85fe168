// Where a backward kernel writes the gradients of a weight and a bias: arrays that the caller has for them (an
// optimizer's buffer), or new ones.
#pragma once
#include <string>

#include "bindings/array.h"
#include "bindings/layout.h"

namespace fastdl::bind {

class GradientPlaces {
 public:
  // out: None, or a tuple of (dweight, dbias), each an array or None.
  GradientPlaces(const char* kernel, const py::handle& out) : kernel_(kernel), out_(out) {
    if (!out.is_none() && (!py::isinstance<py::tuple>(out) || py::len(out) != 2))
      check::fail_type(kernel, "out must be None or a tuple of 2 arrays or None, got " + type_name(out));
  }
  // The one that was given for gradient i of `of`, checked, or a new one that lies in memory as `of` does. It may share
  // memory with none of `inputs`.
  Output make(int i, DType dtype, const View& of, std::initializer_list<View> inputs) const {
    const py::object given = out_.is_none() ? py::object(py::none()) : py::object(out_[py::int_(i)]);
    if (given.is_none()) return empty_like(of, dtype);
    const std::string name = "out[" + std::to_string(i) + "]";
    const Input input = any_dtype(kernel_, name.c_str(), given);
    if (input.view.dtype != dtype)
      check::fail_type(kernel_,
                       name + " must be " + check::dtype_name(dtype) + ", got " + check::dtype_name(input.view.dtype));
    check::shape(kernel_, name.c_str(), input, of.shape, of.ndim);
    expect_place(kernel_, name.c_str(), given, input);
    for (const View& x : inputs)
      if (check::overlap(input, x)) check::fail_value(kernel_, name + " must not share memory with an input");
    Output output;
    output.array = py::reinterpret_borrow<Array>(given);
    output.view = input.view;
    return output;
  }
  Output make(int i, DType dtype, std::int64_t length, std::initializer_list<View> inputs) const {
    return make(i, dtype, View{nullptr, dtype, 1, {length}, {1}}, inputs);
  }

 private:
  const char* kernel_;
  py::handle out_;
};

}  // namespace fastdl::bind
