// Where a backward kernel writes the gradients of a weight and a bias: arrays that the caller has for them (an
// optimizer's buffer), or new ones.
#pragma once
#include <string>

#include "bindings/array.h"

namespace fastdl::bind {

class GradientPlaces {
 public:
  // out: None, or a tuple of (dweight, dbias), each an array or None.
  GradientPlaces(const char* kernel, const py::handle& out) : kernel_(kernel), out_(out) {
    if (!out.is_none() && (!py::isinstance<py::tuple>(out) || py::len(out) != 2))
      check::fail_type(kernel, "out must be None or a tuple of 2 arrays or None, got " + type_name(out));
  }
  // The one that was given for gradient i, checked: it may share memory with none of `inputs`.
  Output make(int i, DType dtype, const std::int64_t* shape, int ndim, std::initializer_list<View> inputs) const {
    const py::object given = out_.is_none() ? py::object(py::none()) : py::object(out_[py::int_(i)]);
    if (given.is_none()) return empty(dtype, shape, ndim);
    const std::string name = "out[" + std::to_string(i) + "]";
    const Input input = any_dtype(kernel_, name.c_str(), given);
    if (input.view.dtype != dtype)
      check::fail_type(kernel_,
                       name + " must be " + check::dtype_name(dtype) + ", got " + check::dtype_name(input.view.dtype));
    check::shape(kernel_, name.c_str(), input, shape, ndim);
    if (!input.owner.is(given) || !in_c_order(input).owner.is(given) || !is_writeable(given))
      check::fail_value(kernel_, name + " must be contiguous and writeable, as it is written to");
    for (const View& x : inputs)
      if (check::overlap(input, x)) check::fail_value(kernel_, name + " must not share memory with an input");
    Output output;
    output.array = py::reinterpret_borrow<Array>(given);
    output.view = input.view;
    return output;
  }
  Output make(int i, DType dtype, std::initializer_list<std::int64_t> shape, std::initializer_list<View> inputs) const {
    return make(i, dtype, shape.begin(), static_cast<int>(shape.size()), inputs);
  }

 private:
  const char* kernel_;
  py::handle out_;
};

}  // namespace fastdl::bind
