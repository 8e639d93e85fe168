#include "bindings/array.h"

#include "bindings/layout.h"
#include "bindings/program.h"
#include "core/copy.h"
#include "core/program.h"
#include "cpu/memory.h"

namespace fastdl::bind {

bool is_array(const py::handle& x) { return py::isinstance<py::array>(x); }
bool is_writeable(const py::handle& array) { return py::reinterpret_borrow<py::array>(array).writeable(); }
bool is_c_contiguous(const py::handle& array) {
  return (py::reinterpret_borrow<py::array>(array).flags() & py::array::c_style) != 0;
}

namespace {

using py::detail::array_proxy;
using py::detail::npy_api;

constexpr int kAligned = 0x0100;  // NPY_ARRAY_ALIGNED
constexpr int kCContiguous = 0x0001;
constexpr int kWriteable = 0x0400;

PyObject* g_bfloat16 = nullptr;

// The dtype in native byte order, or false.
bool native_dtype(const py::dtype& type, DType* dtype) {
  if (type.ptr() == g_bfloat16) {
    *dtype = DType::bf16;
    return true;
  }
  const char order = type.byteorder();
  if (order != '=' && order != '|') return false;
  const char kind = type.kind();
  const py::ssize_t size = type.itemsize();
  if (kind == 'f' && size == 4)
    *dtype = DType::f32;
  else if (kind == 'f' && size == 8)
    *dtype = DType::f64;
  else if (kind == 'i' && size == 4)
    *dtype = DType::i32;
  else if (kind == 'i' && size == 8)
    *dtype = DType::i64;
  else if (kind == 'u' && size == 1)
    *dtype = DType::u8;
  else if (kind == 'b')
    *dtype = DType::b8;
  else
    return false;
  return true;
}

Array expect_array(const char* kernel, const char* name, const py::handle& x) {
  if (!py::isinstance<py::array>(x))
    check::fail_type(kernel, std::string(name) + " must be a NumPy array, got " + type_name(x));
  py::array a = py::reinterpret_borrow<py::array>(x);
  if (a.ndim() > kMaxDims)
    check::fail_value(kernel, std::string(name) + " must have at most 8 dimensions, got " + std::to_string(a.ndim()));
  return a;
}

View make_view(const py::array& a, DType dtype) {
  if (is_recording()) retain(a);
  View view;
  view.data = array_proxy(a.ptr())->data;
  view.dtype = dtype;
  view.ndim = static_cast<int>(a.ndim());
  const py::ssize_t item = a.itemsize();
  for (int d = 0; d < view.ndim; ++d) {
    view.shape[d] = a.shape(d);
    view.strides[d] = a.strides(d) / item;
  }
  return view;
}

Array copy_contiguous(const py::array& a) {
  if (is_recording()) t_recorder->refuse("unaligned arrays or strides that are no multiple of the item size");
  PyObject* copy = npy_api::get().PyArray_FromAny_(a.ptr(), nullptr, 0, 0, kCContiguous | kAligned, nullptr);
  if (copy == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::array>(copy);
}

DType expect_float(const char* kernel, const char* name, const py::array& a) {
  DType dtype;
  const py::dtype type = a.dtype();
  if (!native_dtype(type, &dtype) || (dtype != DType::f32 && dtype != DType::f64))
    check::fail_type(kernel, std::string(name) + " must be float32 or float64, got " + std::string(py::str(type)));
  return dtype;
}

int flags_of(const py::array& a) { return a.flags(); }

bool is_contiguous(const py::array& a) {
  return (flags_of(a) & (kCContiguous | kAligned)) == (kCContiguous | kAligned);
}

bool strides_are_whole(const py::array& a) {
  for (int d = 0; d < a.ndim(); ++d)
    if (a.strides(d) % a.itemsize() != 0) return false;
  return (flags_of(a) & kAligned) != 0;
}

py::dtype numpy_dtype(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return py::dtype::of<double>();
    case DType::i32:
      return py::dtype::of<std::int32_t>();
    case DType::i64:
      return py::dtype::of<std::int64_t>();
    case DType::u8:
      return py::dtype::of<std::uint8_t>();
    case DType::b8:
      return py::dtype::of<bool>();
    case DType::bf16:
      if (g_bfloat16 == nullptr) throw TypeError("bfloat16 must be named by set_bfloat16 first");
      return py::reinterpret_borrow<py::dtype>(g_bfloat16);
    default:
      return py::dtype::of<float>();
  }
}

PyObject* own_by_cache(void* memory) {
  PyObject* owner =
      PyCapsule_New(memory, nullptr, [](PyObject* capsule) { cached_free(PyCapsule_GetPointer(capsule, nullptr)); });
  if (owner == nullptr) {
    cached_free(memory);
    throw py::error_already_set();
  }
  return owner;
}

// The arena lives as long as an array in it.
PyObject* own_by_arena(void* memory) {
  PyObject* owner = PyCapsule_New(memory, nullptr, [](PyObject* capsule) {
    auto* arena = static_cast<std::shared_ptr<Arena>*>(PyCapsule_GetContext(capsule));
    (*arena)->give(PyCapsule_GetPointer(capsule, nullptr));
    delete arena;
  });
  if (owner == nullptr) throw py::error_already_set();  // the block goes with the arena
  PyCapsule_SetContext(owner, new std::shared_ptr<Arena>(t_recorder->program.arena));
  return owner;
}

}  // namespace

// A new array over reusable memory, its dimensions nested in this order.
Output empty_ordered(DType dtype, const std::int64_t* shape, int ndim, const int* order) {
  Output output;
  View& view = output.view;
  view.dtype = dtype;
  view.ndim = ndim;
  std::int64_t count = 1;
  for (int i = ndim - 1; i >= 0; --i) {
    const int d = order[i];
    view.shape[d] = shape[d];
    view.strides[d] = count;
    if (__builtin_mul_overflow(count, shape[d] > 0 ? shape[d] : 1, &count) || count > (std::int64_t{1} << 46))
      throw ValueError("result of shape " + check::shape_string(shape, ndim) + " is too large");
  }
  for (int d = 0; d < ndim; ++d)
    if (shape[d] == 0) count = 0;
  const std::int64_t item = item_size(dtype);
  const auto bytes = static_cast<std::size_t>(count * item);
  view.data = is_recording() ? t_recorder->program.arena->take(bytes) : cached_alloc(bytes);
  Py_intptr_t extents[kMaxDims], strides[kMaxDims];
  for (int d = 0; d < ndim; ++d) {
    extents[d] = shape[d];
    strides[d] = view.strides[d] * item;
  }
  // By NumPy's own functions: through py::array and py::capsule the same takes 0.1 us longer, a third of a small call.
  const auto& api = npy_api::get();
  PyObject* owner = is_recording() ? own_by_arena(view.data) : own_by_cache(view.data);
  PyObject* array = api.PyArray_NewFromDescr_(api.PyArray_Type_, numpy_dtype(dtype).release().ptr(), ndim, extents,
                                              strides, view.data, kWriteable, nullptr);
  if (array == nullptr || api.PyArray_SetBaseObject_(array, owner) != 0) {
    if (array == nullptr) Py_DECREF(owner);  // SetBaseObject takes the owner even when it fails
    Py_XDECREF(array);
    throw py::error_already_set();
  }
  output.array = py::reinterpret_steal<py::array>(array);
  return output;
}

namespace {

Input take_contiguous(const py::array& a, DType dtype) {
  if (is_contiguous(a)) return {a, make_view(a, dtype)};
  if (strides_are_whole(a)) return copy_ordered(make_view(a, dtype), kCOrder);
  py::array owner = copy_contiguous(a);
  View view = make_view(owner, dtype);
  return {std::move(owner), view};
}

}  // namespace

Input any_dtype(const char* kernel, const char* name, const py::handle& x) {
  py::array a = expect_array(kernel, name, x);
  DType dtype;
  const py::dtype type = a.dtype();
  if (!native_dtype(type, &dtype))
    check::fail_type(kernel, std::string(name) + " has the unsupported dtype " + std::string(py::str(type)));
  if (!strides_are_whole(a)) a = copy_contiguous(a);
  View view = make_view(a, dtype);
  return {std::move(a), view};
}

Input one_of(const char* kernel, const char* name, const py::handle& x, std::initializer_list<DType> dtypes,
             const char* words) {
  py::array a = expect_array(kernel, name, x);
  DType dtype;
  const py::dtype type = a.dtype();
  const bool native = native_dtype(type, &dtype);
  bool found = false;
  for (const DType candidate : dtypes) found = found || (native && candidate == dtype);
  if (!found) check::fail_type(kernel, std::string(name) + " must be " + words + ", got " + std::string(py::str(type)));
  if (!strides_are_whole(a)) a = copy_contiguous(a);
  View view = make_view(a, dtype);
  return {std::move(a), view};
}

void set_bfloat16(const py::object& dtype) { g_bfloat16 = py::dtype::from_args(dtype).release().ptr(); }

Input numbers(const char* kernel, const char* name, const py::handle& x) {
  return one_of(kernel, name, x, {DType::f64}, "float64");
}

Input strided(const char* kernel, const char* name, const py::handle& x, Floats) {
  py::array a = expect_array(kernel, name, x);
  const DType dtype = expect_float(kernel, name, a);
  if (!strides_are_whole(a)) a = copy_contiguous(a);
  View view = make_view(a, dtype);
  return {std::move(a), view};
}

Input contiguous(const char* kernel, const char* name, const py::handle& x, Floats) {
  const py::array a = expect_array(kernel, name, x);
  return take_contiguous(a, expect_float(kernel, name, a));
}

Input optional_contiguous(const char* kernel, const char* name, const py::handle& x, Floats floats) {
  return x.is_none() ? Input{} : contiguous(kernel, name, x, floats);
}

Input activation(const char* kernel, const char* name, const py::handle& x, Floats) {
  py::array a = expect_array(kernel, name, x);
  const DType dtype = expect_float(kernel, name, a);
  if (a.ndim() != 4) return take_contiguous(a, dtype);
  if (strides_are_whole(a)) {
    View view = make_view(a, dtype);
    if (nests(view, kChannelsLast)) return {std::move(a), view};
  } else {
    a = copy_contiguous(a);
  }
  return copy_ordered(make_view(a, dtype), kChannelsLast);
}

Input dense(const char* kernel, const char* name, const py::handle& x, Floats) {
  py::array a = expect_array(kernel, name, x);
  const DType dtype = expect_float(kernel, name, a);
  if (strides_are_whole(a)) {
    View view = make_view(a, dtype);
    if (dense_in_some_order(view)) return {std::move(a), view};
  }
  return strides_are_whole(a) ? copy_ordered(make_view(a, dtype), kCOrder) : take_contiguous(copy_contiguous(a), dtype);
}

Input integers(const char* kernel, const char* name, const py::handle& x) {
  const py::array a = expect_array(kernel, name, x);
  DType dtype;
  const py::dtype type = a.dtype();
  if (!native_dtype(type, &dtype) || (dtype != DType::i32 && dtype != DType::i64))
    check::fail_type(kernel, std::string(name) + " must be int32 or int64, got " + std::string(py::str(type)));
  return take_contiguous(a, dtype);
}

Input flat(const char* kernel, const char* name, const py::handle& x, const View& param) {
  const py::array a = expect_array(kernel, name, x);
  const View view = make_view(a, expect_float(kernel, name, a));
  if (param) check::like(kernel, name, view, "param", param);
  check::rank(kernel, name, view, 1, "(n)");
  if (param) check::shape(kernel, name, view, param.shape, 1);
  if ((flags_of(a) & kCContiguous) == 0)
    check::fail_value(kernel,
                      std::string(name) + " must be contiguous, got strides (" + std::to_string(a.strides(0)) + ",)");
  if ((flags_of(a) & kAligned) == 0)
    check::fail_value(kernel, std::string(name) + " must be aligned to its items, got an odd address");
  if ((flags_of(a) & kWriteable) == 0)
    check::fail_value(kernel, std::string(name) + " must be writeable, got a read-only array");
  return {a, view};
}

}  // namespace fastdl::bind
