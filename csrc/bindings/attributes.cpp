#include "bindings/attributes.h"

#include "bindings/array.h"
#include "core/window.h"

namespace fastdl::bind {

namespace {

// A Python int (bool included, as in Python) or a NumPy integer.
bool is_int(const py::handle& x) {
  return PyLong_Check(x.ptr()) || py::isinstance(x, py::module_::import("numpy").attr("integer"));
}

}  // namespace

std::string type_name(const py::handle& x) {
  const py::type type = py::type::of(x);
  const std::string name = py::str(type.attr("__name__")), module = py::str(type.attr("__module__"));
  if (module.rfind("fastdl.", 0) == 0) return name + "; a tensor's .data takes an array, as in p.data = t.data";
  if (module.rfind("cupy", 0) == 0) return "cupy." + name + (kOnHost ? "; move it with .cpu()" : "");
  return name + (!kOnHost && py::isinstance<py::array>(x) ? "; move it with .to('cuda')" : "");
}

template <class T>
Number<T> number(const char* kernel, const char* name, const py::handle& value) {
  if (is_array(value)) {
    const View place = any_dtype(kernel, name, value).view;
    if (place.ndim != 0 || place.dtype != (std::is_integral_v<T> ? DType::i64 : DType::f64))
      check::fail_type(kernel, std::string(name) + " must be a number or a 0-d array of " +
                                   (std::is_integral_v<T> ? "int64" : "float64") + ", got shape " +
                                   check::shape_string(place) + " of " + std::string(py::str(value.attr("dtype"))));
    return Number<T>(place);
  }
  try {
    return Number<T>(py::cast<T>(value));
  } catch (const py::cast_error&) {
    check::fail_type(kernel, std::string(name) + " must be a number, got " + type_name(value));
  }
}
template Number<double> number(const char*, const char*, const py::handle&);
template Number<std::int64_t> number(const char*, const char*, const py::handle&);

Pair pair(const char* kernel, const char* name, const py::handle& value, std::int64_t minimum) {
  const auto text = [&] { return ", got " + std::string(py::repr(value)); };
  if (!py::isinstance<py::tuple>(value) || py::len(value) != 2)
    check::fail_type(kernel, std::string(name) + " must be a pair of ints" + text());
  std::int64_t entry[2];
  int overflow[2];
  for (int i = 0; i < 2; ++i) {
    const py::object item = value[py::int_(i)];
    if (!is_int(item)) check::fail_type(kernel, std::string(name) + " must be a pair of ints" + text());
    entry[i] = PyLong_AsLongLongAndOverflow(py::int_(item).ptr(), &overflow[i]);
  }
  if (overflow[0] < 0 || overflow[1] < 0)
    check::fail_value(kernel, std::string(name) + " must be " + (minimum == 1 ? "positive" : "at least 0") + text());
  if (overflow[0] > 0 || overflow[1] > 0)
    check::fail_value(kernel, std::string(name) + " must be at most " + std::to_string(kLargestWindow) + text());
  check::pair(kernel, name, {entry[0], entry[1]}, minimum);
  return {entry[0], entry[1]};
}

std::int64_t integer(const char* kernel, const char* name, const py::handle& value, std::int64_t low,
                     std::int64_t high) {
  if (!is_int(value)) check::fail_type(kernel, std::string(name) + " must be an int, got " + type_name(value));
  int overflow = 0;
  const std::int64_t number =
      PyLong_AsLongLongAndOverflow(py::int_(py::reinterpret_borrow<py::object>(value)).ptr(), &overflow);
  if (overflow != 0 || number < low || number >= high)
    check::fail_value(kernel, std::string(name) + " must lie in [" + std::to_string(low) + ", " + std::to_string(high) +
                                  "), got " + std::string(py::str(value)));
  return number;
}

}  // namespace fastdl::bind
