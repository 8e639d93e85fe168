// Argument checks in the words of python/fastdl/kernels/numpy/_check.py: "<kernel>: <name> must ..., got ...".
// Only contracts and bindings include this; kernels trust checked views.
#pragma once
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <string>
#include <utility>

#include "core/error.h"
#include "core/view.h"

namespace fastdl::check {

using Pair = std::pair<std::int64_t, std::int64_t>;

std::string to_string(double value);      // as Python's format(value, "g")
std::string to_string(Pair value);        // (1, 2)
std::string shape_string(const View& x);  // (8, 3, 32, 32), (5,), ()
std::string shape_string(const std::int64_t* shape, int ndim);
const char* dtype_name(DType dtype);

[[noreturn]] void fail_type(const char* kernel, const std::string& text);
[[noreturn]] void fail_value(const char* kernel, const std::string& text);
[[noreturn]] void fail_index(const char* kernel, const std::string& text);

// x has the dtype of `other`; an absent x passes.
void like(const char* kernel, const char* name, const View& x, const char* other_name, const View& other);
// The same, but float32 beside an `other` of bfloat16.
void like_wide(const char* kernel, const char* name, const View& x, const char* other_name, const View& other);
// x has ndim dimensions; `letters` names them, e.g. "(N, C, H, W)".
void rank(const char* kernel, const char* name, const View& x, int ndim, const char* letters);
void min_rank(const char* kernel, const char* name, const View& x, int ndim, const char* letters);
// x has exactly this shape; an absent x passes.
void shape(const char* kernel, const char* name, const View& x, const std::int64_t* want, int ndim);
void shape(const char* kernel, const char* name, const View& x, std::initializer_list<std::int64_t> want);
// Both entries are at least `minimum` (0 or 1).
void pair(const char* kernel, const char* name, Pair value, std::int64_t minimum);
// Every entry of the int32 or int64 array lies in [0, size).
void indices(const char* kernel, const char* name, const View& x, std::int64_t size);
// A finite number in [low, high], or [low, high) with open_high.
void number(const char* kernel, const char* name, double value, double low = -std::numeric_limits<double>::infinity(),
            double high = std::numeric_limits<double>::infinity(), bool open_high = false);
// Of a number whose place is the device's memory, nothing can be said before the kernel runs.
template <class T>
void number(const char* kernel, const char* name, const Number<T>& value,
            double low = -std::numeric_limits<double>::infinity(),
            double high = std::numeric_limits<double>::infinity(), bool open_high = false) {
  if (kOnHost || !value.place) number(kernel, name, static_cast<double>(static_cast<T>(value)), low, high, open_high);
}
void choice(const char* kernel, const char* name, const std::string& value, std::initializer_list<const char*> allowed);
// The bytes from an array's first to past its last, whatever lies between.
struct Extent {
  std::uintptr_t begin, end;
};
Extent extent(const View& x);
bool overlap(const View& a, const View& b);  // of their extents; false if one is absent or empty
// The same dtype, shape and strides.
bool same_layout(const View& a, const View& b);
bool same_view(const View& a, const View& b);  // and the same memory
// No two of the arrays, given with their names, share memory; absent ones pass.
struct Named {
  const char* name;
  const View& view;
};
void apart(const char* kernel, std::initializer_list<Named> arrays);
// The axis as a number in [0, ndim).
int axis(const char* kernel, const char* name, std::int64_t value, int ndim);

}  // namespace fastdl::check
