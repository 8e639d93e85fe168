// A view: pointer, dtype, shape and strides of one array. It owns nothing; whoever made it keeps the memory alive.
//
// Dimension letters used in every contract: n batch, c input channels, o output channels or features, i input features,
// h/w image size, oh/ow output image size, kh/kw kernel size, m/n/k GEMM sizes.
//
// Everything here is force-inlined: this header is compiled once per instruction set, and a copy that the linker shared
// between them could carry instructions that the machine lacks.
#pragma once
#include <cstdint>

#define FASTDL_INLINE __attribute__((always_inline)) inline
// What device code calls as well: views, and the formulas of single elements.
#if defined(__CUDACC__)
#define FASTDL_BOTH __host__ __device__ __forceinline__
#else
#define FASTDL_BOTH FASTDL_INLINE
#endif

namespace fastdl {

// Can the host read what views show? Not in fastdl._cuda, on CuPy's arrays.
#if defined(FASTDL_CUPY)
constexpr bool kOnHost = false;
#else
constexpr bool kOnHost = true;
#endif

enum class DType : std::int8_t { f32, f64, i32, i64, u8, b8, bf16 };

constexpr int kMaxDims = 8;

FASTDL_BOTH std::int64_t item_size(DType dtype) {
  switch (dtype) {
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::bf16:
      return 2;
    case DType::u8:
    case DType::b8:
      return 1;
    default:
      return 8;
  }
}

struct View {
  void* data = nullptr;
  DType dtype = DType::f32;
  int ndim = -1;  // -1: absent (None in Python)
  std::int64_t shape[kMaxDims] = {};
  std::int64_t strides[kMaxDims] = {};  // in elements

  FASTDL_BOTH explicit operator bool() const { return ndim >= 0; }
  template <class T>
  FASTDL_BOTH T* as() const {
    return static_cast<T*>(data);
  }
  FASTDL_BOTH std::int64_t size() const {
    std::int64_t count = 1;
    for (int d = 0; d < ndim; ++d) count *= shape[d];
    return count;
  }
};

// How a kernel's contract names an array that it overwrites (Out) or changes (InOut); a plain View is only read.
struct Out : View {
  Out() = default;
  FASTDL_BOTH Out(const View& view) : View(view) {}
};
struct InOut : View {
  InOut() = default;
  FASTDL_BOTH InOut(const View& view) : View(view) {}
};

// A number given as a value, or as a 0-d array that is read when the kernel runs: what changes between the replays of a
// recorded step (learning rate, step count) is passed by its place.
template <class T>
struct Number {
  T value{};
  View place;
  Number() = default;
  FASTDL_BOTH Number(T v) : value(v) {}
  FASTDL_BOTH explicit Number(const View& at) : place(at) {}
  FASTDL_BOTH operator T() const { return place ? *place.template as<T>() : value; }
};

// Calls f(float{}) or f(double{}) by dtype; checks have made sure that it is one of the two.
template <class F>
FASTDL_INLINE void with_float(DType dtype, F&& f) {
  if (dtype == DType::f64)
    f(double{});
  else
    f(float{});
}

// Calls f(std::int32_t{}) or f(std::int64_t{}) by dtype, for index arrays.
template <class F>
FASTDL_INLINE void with_index(DType dtype, F&& f) {
  if (dtype == DType::i64)
    f(std::int64_t{});
  else
    f(std::int32_t{});
}

}  // namespace fastdl
