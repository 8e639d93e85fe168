#include "core/check.h"

#include <cstdio>

#include "core/bfloat16.h"
#include "core/program.h"

namespace fastdl::check {

std::string to_string(double value) {
  if (std::isnan(value)) return "nan";
  char text[32];
  std::snprintf(text, sizeof text, "%g", value);
  return text;
}

std::string to_string(Pair value) {
  return "(" + std::to_string(value.first) + ", " + std::to_string(value.second) + ")";
}

std::string shape_string(const std::int64_t* shape, int ndim) {
  std::string text = "(";
  for (int d = 0; d < ndim; ++d) text += (d ? ", " : "") + std::to_string(shape[d]);
  return text + (ndim == 1 ? ",)" : ")");
}

std::string shape_string(const View& x) { return shape_string(x.shape, x.ndim); }

const char* dtype_name(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "float32";
    case DType::f64:
      return "float64";
    case DType::i32:
      return "int32";
    case DType::i64:
      return "int64";
    case DType::u8:
      return "uint8";
    case DType::b8:
      return "bool";
    case DType::bf16:
      return "bfloat16";
  }
  return "unknown";
}

void fail_type(const char* kernel, const std::string& text) { throw TypeError(std::string(kernel) + ": " + text); }
void fail_value(const char* kernel, const std::string& text) { throw ValueError(std::string(kernel) + ": " + text); }
void fail_index(const char* kernel, const std::string& text) { throw IndexError(std::string(kernel) + ": " + text); }

void like(const char* kernel, const char* name, const View& x, const char* other_name, const View& other) {
  if (x && x.dtype != other.dtype)
    fail_type(kernel, std::string(name) + " must be " + dtype_name(other.dtype) + " like " + other_name + ", got " +
                          dtype_name(x.dtype));
}

void like_wide(const char* kernel, const char* name, const View& x, const char* other_name, const View& other) {
  View wide = other;
  wide.dtype = wide_dtype(other.dtype);
  like(kernel, name, x, other_name, wide);
}

void rank(const char* kernel, const char* name, const View& x, int ndim, const char* letters) {
  if (x.ndim != ndim)
    fail_value(kernel, std::string(name) + " must have " + std::to_string(ndim) + " dimensions " + letters +
                           ", got shape " + shape_string(x));
}

void min_rank(const char* kernel, const char* name, const View& x, int ndim, const char* letters) {
  if (x.ndim < ndim)
    fail_value(kernel, std::string(name) + " must have at least " + std::to_string(ndim) + " dimension" +
                           (ndim == 1 ? "" : "s") + " " + letters + ", got shape " + shape_string(x));
}

void shape(const char* kernel, const char* name, const View& x, const std::int64_t* want, int ndim) {
  if (!x) return;
  bool same = x.ndim == ndim;
  for (int d = 0; same && d < ndim; ++d) same = x.shape[d] == want[d];
  if (!same)
    fail_value(kernel, std::string(name) + " must have shape " + shape_string(want, ndim) + ", got " + shape_string(x));
}

void shape(const char* kernel, const char* name, const View& x, std::initializer_list<std::int64_t> want) {
  shape(kernel, name, x, want.begin(), static_cast<int>(want.size()));
}

void pair(const char* kernel, const char* name, Pair value, std::int64_t minimum) {
  if (value.first < minimum || value.second < minimum)
    fail_value(kernel, std::string(name) + " must be " + (minimum == 1 ? "positive" : "at least 0") + ", got " +
                           to_string(value));
}

namespace {

void check_indices(const char* kernel, const View& x, const char* name, std::int64_t size) {
  const std::int64_t count = x.size();
  std::int64_t position[kMaxDims] = {};
  std::int64_t offset = 0;
  for (std::int64_t e = 0; e < count; ++e) {
    const std::int64_t value = x.dtype == DType::i64 ? x.as<std::int64_t>()[offset] : x.as<std::int32_t>()[offset];
    if (value < 0 || value >= size)
      fail_index(kernel,
                 std::string(name) + " must lie in [0, " + std::to_string(size) + "), got " + std::to_string(value));
    for (int d = x.ndim - 1; d >= 0; --d) {  // the next element in C order
      offset += x.strides[d];
      if (++position[d] < x.shape[d]) break;
      offset -= x.strides[d] * x.shape[d];
      position[d] = 0;
    }
  }
}

}  // namespace

void indices(const char* kernel, const char* name, const View& x, std::int64_t size) {
  checked(kernel, x, check_indices, name, size);
}

void number(const char* kernel, const char* name, double value, double low, double high, bool open_high) {
  if (!std::isfinite(value)) fail_value(kernel, std::string(name) + " must be finite, got " + to_string(value));
  if (value < low || value > high || (open_high && value == high)) {
    const std::string allowed = std::isinf(high)
                                    ? "at least " + to_string(low)
                                    : "in [" + to_string(low) + ", " + to_string(high) + (open_high ? ")" : "]");
    fail_value(kernel, std::string(name) + " must be " + allowed + ", got " + to_string(value));
  }
}

void choice(const char* kernel, const char* name, const std::string& value,
            std::initializer_list<const char*> allowed) {
  std::string words;
  for (const char* word : allowed) {
    if (value == word) return;
    words += (words.empty() ? "'" : ", '") + std::string(word) + "'";
  }
  fail_value(kernel, std::string(name) + " must be one of " + words + ", got '" + value + "'");
}

Extent extent(const View& x) {
  const std::int64_t item = item_size(x.dtype);
  std::int64_t low = 0, high = item;
  for (int d = 0; d < x.ndim; ++d) {
    if (x.shape[d] == 0) return {0, 0};
    const std::int64_t span = (x.shape[d] - 1) * x.strides[d] * item;
    (span < 0 ? low : high) += span;
  }
  const auto base = reinterpret_cast<std::uintptr_t>(x.data);
  return {base + static_cast<std::uintptr_t>(low), base + static_cast<std::uintptr_t>(high)};
}

bool same_layout(const View& a, const View& b) {
  if (a.dtype != b.dtype || a.ndim != b.ndim) return false;
  for (int d = 0; d < a.ndim; ++d)
    if (a.shape[d] != b.shape[d] || (a.shape[d] > 1 && a.strides[d] != b.strides[d])) return false;
  return true;
}

bool same_view(const View& a, const View& b) { return a.data == b.data && same_layout(a, b); }

bool overlap(const View& a, const View& b) {
  if (!a || !b) return false;
  const Extent x = extent(a), y = extent(b);
  return x.begin < y.end && y.begin < x.end;
}

void apart(const char* kernel, std::initializer_list<Named> arrays) {
  for (const Named* x = arrays.begin(); x != arrays.end(); ++x)
    for (const Named* other = arrays.begin(); other != x; ++other)
      if (overlap(x->view, other->view))
        fail_value(kernel,
                   std::string(x->name) + " must not share memory with " + other->name + ", got arrays that overlap");
}

int axis(const char* kernel, const char* name, std::int64_t value, int ndim) {
  if (value < -ndim || value >= ndim)
    fail_value(kernel, std::string(name) + " must lie in [" + std::to_string(-ndim) + ", " + std::to_string(ndim) +
                           "), got " + std::to_string(value));
  return static_cast<int>(value < 0 ? value + ndim : value);
}

}  // namespace fastdl::check
