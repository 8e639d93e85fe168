// Between Python and kernels: an argument becomes a checked view (kept alive by its owner), a result becomes an array.
//
// Messages are those of python/fastdl/kernels/numpy/_check.py. No arithmetic here.
#pragma once
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <initializer_list>
#include <optional>

#include "bindings/attributes.h"
#include "core/check.h"
#include "core/view.h"

namespace fastdl::bind {

namespace py = pybind11;

// An array of the module's device: NumPy's, or CuPy's in fastdl._cuda.
#if defined(FASTDL_CUPY)
using Array = py::object;
#else
using Array = py::array;
#endif
// NumPy has no bfloat16 of its own: the dtype of ml_dtypes, before the first array of it comes.
void set_bfloat16(const py::object& dtype);
bool is_array(const py::handle& x);
bool is_writeable(const py::handle& array);
bool is_c_contiguous(const py::handle& array);
#if defined(FASTDL_CUPY)
void use_current_stream();  // CuPy's, for the kernels that follow; taking an array does the same
#endif

// An array argument: the view and the object that owns its memory until the call is over.
struct Input {
  py::object owner;
  View view;
  operator const View&() const { return view; }
  operator Out() const { return view; }
  operator InOut() const { return view; }
  explicit operator bool() const { return static_cast<bool>(view); }
};

// Which floats a kernel takes: float32 and float64, or bfloat16 as well where it has code for it, which on the host it
// never has (python/fastdl/kernels/_bfloat16.py).
enum class Floats { wide, any };

// Floats, strides as they are (aligned, multiples of the item size; copied once where they aren't).
Input strided(const char* kernel, const char* name, const py::handle& x, Floats floats = Floats::wide);
// Floats, C-contiguous; copied once where it isn't.
Input contiguous(const char* kernel, const char* name, const py::handle& x, Floats floats = Floats::wide);
// The same, or None: an absent view.
Input optional_contiguous(const char* kernel, const char* name, const py::handle& x, Floats floats = Floats::wide);
// Floats; a 4-D array comes channels-last in memory (NCHW in shape), any other rank C-contiguous.
Input activation(const char* kernel, const char* name, const py::handle& x, Floats floats = Floats::wide);
// Floats, dense in some order of dimensions (C, channels-last, transposed ...); copied to C order
// otherwise.
Input dense(const char* kernel, const char* name, const py::handle& x, Floats floats = Floats::wide);
// x in the memory order of `like` (same shape, dense), copied if it isn't; for a second operand beside a dense one.
Input reordered(const Input& x, const View& like);
// int32 or int64, C-contiguous.
Input integers(const char* kernel, const char* name, const py::handle& x);
// A flat array that an optimizer changes: float, 1-D, of the dtype and shape of `param` (an absent view: no matter),
// C-contiguous and writeable, never copied.
Input flat(const char* kernel, const char* name, const py::handle& x, const View& param);
// None, or an array of bfloat16 that an optimizer writes beside `param`: of its shape, contiguous and writeable.
Input rounded_copy(const char* kernel, const py::handle& x, const View& param);
// ValueError unless x may be written to.
void expect_writeable(const char* kernel, const char* name, const py::handle& x);
// ValueError unless the kernel can write to x, of which `input` was made, as if it were new: C-contiguous (on the GPU
// also channels-last), no copy, and writeable.
void expect_place(const char* kernel, const char* name, const py::handle& x, const Input& input);
// An array of one of these dtypes, strides as they are; `words` lists them for the message.
Input one_of(const char* kernel, const char* name, const py::handle& x, std::initializer_list<DType> dtypes,
             const char* words);
// A float64 array in the host's memory on every device, which the binding itself reads.
Input numbers(const char* kernel, const char* name, const py::handle& x);
// The 4-D x itself if it is channels-last in memory, else a copy that is.
Input channels_last(Input x);
// x itself if it is dense in some order of dimensions, else a copy in C order.
Input in_dense_order(Input x);
// x itself if it is C-contiguous, else a copy that is.
Input in_c_order(Input x);
// A view of any array in the dtypes of DType without dtype check; TypeError for another dtype or kind.
Input any_dtype(const char* kernel, const char* name, const py::handle& x);

// A new array that the kernel fills.
struct Output {
  Array array = py::reinterpret_steal<Array>(py::handle());  // none yet: the default makes an empty one
  View view;
};

Output empty(DType dtype, const std::int64_t* shape, int ndim);
// Dimensions nested in memory in this order, outermost first.
Output empty_ordered(DType dtype, const std::int64_t* shape, int ndim, const int* order);
Output empty(DType dtype, std::initializer_list<std::int64_t> shape);
// 4-D: channels-last in memory; other ranks: C-contiguous.
Output empty_activation(DType dtype, const std::int64_t* shape, int ndim);
Output empty_activation(DType dtype, std::initializer_list<std::int64_t> shape);
// The shape and dense memory order of x.
Output empty_like(const View& x);
Output empty_like(const View& x, DType dtype);

inline py::object result(const std::optional<Output>& output) {
  return output ? py::object(output->array) : py::object(py::none());
}
inline View view_of(const std::optional<Output>& output) { return output ? output->view : View{}; }

// Runs a kernel call, with the GIL released when there is enough work (in elements or multiply-adds) to let others run.
template <class F>
void run(std::int64_t work, F&& f) {
  if (work < 32768) {
    f();
  } else {
    py::gil_scoped_release release;
    f();
  }
}

}  // namespace fastdl::bind
