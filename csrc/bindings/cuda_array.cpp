// array.h for CuPy: what an argument is, where it lies, and new arrays from CuPy's memory pool. A kernel runs on CuPy's
// current stream, so that it takes its turn with what CuPy does.
#include <stdexcept>

#include "bindings/array.h"
#include "bindings/layout.h"
#include "core/copy.h"
#include "cuda/runtime.h"

namespace fastdl::bind {

namespace {

// CuPy's names, looked up once; importing this module loads no CuPy.
constexpr int kDTypes = 7;
struct Cupy {
  py::object ndarray, alloc, current_stream;
  py::object dtypes[kDTypes];  // NumPy's objects, in the order of DType; bfloat16 once it is known
};

Cupy& cupy() {
  static Cupy* const names = [] {  // never destroyed: the interpreter may be gone by then
    const py::module_ cuda = py::module_::import("cupy.cuda");
    const py::object dtype = py::module_::import("numpy").attr("dtype");
    auto* const made =
        new Cupy{py::module_::import("cupy").attr("ndarray"), cuda.attr("alloc"), cuda.attr("get_current_stream"), {}};
    const char* const kNames[] = {"float32", "float64", "int32", "int64", "uint8", "bool"};
    for (int i = 0; i < 6; ++i) made->dtypes[i] = dtype(kNames[i]);
    return made;
  }();
  return *names;
}

// Almost always one of NumPy's own objects, which is found by its address: to ask for a name takes 3 us.
bool native_dtype(const py::handle& array, DType* dtype) {
  const py::object found = array.attr("dtype");
  for (const bool by_address : {true, false})
    for (int i = 0; i < kDTypes; ++i)
      if (by_address ? found.is(cupy().dtypes[i]) : cupy().dtypes[i] && found.equal(cupy().dtypes[i])) {
        *dtype = static_cast<DType>(i);
        return true;
      }
  return false;
}

std::string dtype_of(const py::handle& array) { return py::str(array.attr("dtype")); }

View make_view(const py::handle& a, DType dtype) {
  View view;
  view.data = reinterpret_cast<void*>(a.attr("data").attr("ptr").cast<std::uintptr_t>());
  view.dtype = dtype;
  const py::tuple shape = a.attr("shape"), strides = a.attr("strides");
  view.ndim = static_cast<int>(shape.size());
  for (int d = 0; d < view.ndim; ++d) {
    view.shape[d] = shape[static_cast<std::size_t>(d)].cast<std::int64_t>();
    view.strides[d] = strides[static_cast<std::size_t>(d)].cast<std::int64_t>() / item_size(dtype);
  }
  return view;
}

}  // namespace

// The emulated kernels (arrays of a stand-in for CuPy, on the host's memory) have neither streams nor devices.
void use_current_stream() {
#if defined(FASTDL_CUDA)
  cuda::gpu::set_stream(reinterpret_cast<void*>(cupy().current_stream().attr("ptr").cast<std::uintptr_t>()));
#endif
}

namespace {

// Every call of a kernel begins with its arguments, so that the stream is known before the first launch.
void expect_array(const char* kernel, const char* name, const py::handle& x) {
  if (!is_array(x)) check::fail_type(kernel, std::string(name) + " must be a CuPy array, got " + type_name(x));
  const auto ndim = x.attr("ndim").cast<int>();
  if (ndim > kMaxDims)
    check::fail_value(kernel, std::string(name) + " must have at most 8 dimensions, got " + std::to_string(ndim));
#if defined(FASTDL_CUDA)
  int device = 0;
  if (const cudaError_t error = cudaGetDevice(&device); error != cudaSuccess)
    throw std::runtime_error(std::string(kernel) + ": " + cudaGetErrorString(error));
  const auto of_array = x.attr("data").attr("device_id").cast<int>();
  if (device != of_array)
    check::fail_value(kernel, std::string(name) + " must lie on the current GPU, " + std::to_string(device) +
                                  ", got one on GPU " + std::to_string(of_array));
#endif
  use_current_stream();
}

DType expect_one_of(const char* kernel, const char* name, const py::handle& x, std::initializer_list<DType> dtypes,
                    const char* words) {
  expect_array(kernel, name, x);
  DType dtype{};
  bool found = false;
  if (native_dtype(x, &dtype))
    for (const DType candidate : dtypes) found = found || candidate == dtype;
  if (!found) check::fail_type(kernel, std::string(name) + " must be " + words + ", got " + dtype_of(x));
  return dtype;
}

DType expect_float(const char* kernel, const char* name, const py::handle& x, Floats floats = Floats::wide) {
  if (floats == Floats::any)
    return expect_one_of(kernel, name, x, {DType::f32, DType::f64, DType::bf16}, "float32, float64 or bfloat16");
  return expect_one_of(kernel, name, x, {DType::f32, DType::f64}, "float32 or float64");
}

// An address between items would stop the whole process's work on the GPU.
Input take(const char* kernel, const char* name, const py::handle& x, DType dtype) {
  Input input{py::reinterpret_borrow<py::object>(x), make_view(x, dtype)};
  bool aligned = reinterpret_cast<std::uintptr_t>(input.view.data) % static_cast<std::uintptr_t>(item_size(dtype)) == 0;
  const py::tuple strides = x.attr("strides");
  for (int d = 0; d < input.view.ndim; ++d)
    aligned = aligned && strides[static_cast<std::size_t>(d)].cast<std::int64_t>() % item_size(dtype) == 0;
  if (!aligned && input.view.size() > 0)
    check::fail_value(kernel, std::string(name) + " must be aligned to its items, got an odd address");
  return input;
}

}  // namespace

bool is_array(const py::handle& x) { return py::isinstance(x, cupy().ndarray); }
// CuPy knows no read-only arrays, but one that repeats its elements must not be written, which NumPy locks.
bool is_writeable(const py::handle& x) {
  if (x.attr("size").cast<std::int64_t>() == 0) return true;
  const py::tuple shape = x.attr("shape"), strides = x.attr("strides");
  for (std::size_t d = 0; d < shape.size(); ++d)
    if (shape[d].cast<std::int64_t>() > 1 && strides[d].cast<std::int64_t>() == 0) return false;
  return true;
}
bool is_c_contiguous(const py::handle& array) { return array.attr("flags").attr("c_contiguous").cast<bool>(); }

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
  py::tuple extents(ndim), strides(ndim);
  for (int d = 0; d < ndim; ++d) {
    if (shape[d] == 0) count = 0;
    extents[static_cast<std::size_t>(d)] = shape[d];
    strides[static_cast<std::size_t>(d)] = view.strides[d] * item_size(dtype);
  }
  if (!cupy().dtypes[static_cast<int>(dtype)]) throw TypeError("bfloat16 must be named by set_bfloat16 first");
  use_current_stream();  // a call may have no array among its arguments
  const py::object memory = cupy().alloc(count * item_size(dtype));
  view.data = reinterpret_cast<void*>(memory.attr("ptr").cast<std::uintptr_t>());
  output.array = cupy().ndarray(extents, cupy().dtypes[static_cast<int>(dtype)], memory, strides);
  return output;
}

Input any_dtype(const char* kernel, const char* name, const py::handle& x) {
  expect_array(kernel, name, x);
  DType dtype{};
  if (!native_dtype(x, &dtype))
    check::fail_type(kernel, std::string(name) + " has the unsupported dtype " + dtype_of(x));
  return take(kernel, name, x, dtype);
}

Input one_of(const char* kernel, const char* name, const py::handle& x, std::initializer_list<DType> dtypes,
             const char* words) {
  return take(kernel, name, x, expect_one_of(kernel, name, x, dtypes, words));
}

void set_bfloat16(const py::object& dtype) { cupy().dtypes[static_cast<int>(DType::bf16)] = dtype; }

Input numbers(const char* kernel, const char* name, const py::handle& x) {
  if (!py::isinstance<py::array>(x))
    check::fail_type(kernel, std::string(name) + " must be a NumPy array, got " + type_name(x));
  const auto array = py::reinterpret_borrow<py::array>(x);
  if (!py::isinstance<py::array_t<double>>(x) || array.ndim() > kMaxDims)
    check::fail_type(kernel, std::string(name) + " must be float64, got " + dtype_of(x));
  Input input{array, {}};
  input.view.data = const_cast<void*>(array.data());
  input.view.dtype = DType::f64;
  input.view.ndim = static_cast<int>(array.ndim());
  for (int d = 0; d < input.view.ndim; ++d) {
    input.view.shape[d] = array.shape(d);
    input.view.strides[d] = array.strides(d) / item_size(DType::f64);
  }
  return input;
}

Input strided(const char* kernel, const char* name, const py::handle& x, Floats floats) {
  return take(kernel, name, x, expect_float(kernel, name, x, floats));
}

Input contiguous(const char* kernel, const char* name, const py::handle& x, Floats floats) {
  return in_c_order(take(kernel, name, x, expect_float(kernel, name, x, floats)));
}

Input optional_contiguous(const char* kernel, const char* name, const py::handle& x, Floats floats) {
  return x.is_none() ? Input{} : contiguous(kernel, name, x, floats);
}

Input activation(const char* kernel, const char* name, const py::handle& x, Floats floats) {
  Input input = take(kernel, name, x, expect_float(kernel, name, x, floats));
  return input.view.ndim == 4 ? channels_last(std::move(input)) : in_c_order(std::move(input));
}

Input dense(const char* kernel, const char* name, const py::handle& x, Floats floats) {
  return in_dense_order(take(kernel, name, x, expect_float(kernel, name, x, floats)));
}

Input integers(const char* kernel, const char* name, const py::handle& x) {
  return in_c_order(take(kernel, name, x, expect_one_of(kernel, name, x, {DType::i32, DType::i64}, "int32 or int64")));
}

Input flat(const char* kernel, const char* name, const py::handle& x, const View& param) {
  Input input = take(kernel, name, x, expect_float(kernel, name, x));
  if (param) check::like(kernel, name, input.view, "param", param);
  check::rank(kernel, name, input.view, 1, "(n)");
  if (param) check::shape(kernel, name, input.view, param.shape, 1);
  if (!nests(input.view, kCOrder))
    check::fail_value(kernel, std::string(name) + " must be contiguous, got strides (" +
                                  std::to_string(input.view.strides[0] * item_size(input.view.dtype)) + ",)");
  return input;
}

}  // namespace fastdl::bind
