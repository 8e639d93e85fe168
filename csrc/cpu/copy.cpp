// Copies between memory orders, bound by memory: every element is read once and written once.
//
// The axes are sorted by the stride of the destination and merged where both sides allow, which leaves one of three
// cases: rows contiguous on both sides (memcpy); an axis contiguous in the source crossing another contiguous in the
// destination, as in NCHW <-> NHWC (square tiles transposed in registers: 64 shuffles for 16 x 16 floats, where scalar
// code takes 256 loads and stores); anything else element by element.
#include "core/copy.h"

#include <utility>

#include "core/bfloat16.h"
#include "cpu/simd.h"

namespace fastdl::cpu::FASTDL_ISA {

namespace {

constexpr double kNsPerByte = 0.05;
constexpr int64_t kTaskBytes = 32768;

struct Plan {
  int ndim = 0;  // axes in the order of memory of the destination, outermost first
  int64_t shape[kMaxDims] = {}, src[kMaxDims] = {}, dst[kMaxDims] = {};
};

FASTDL_INLINE int64_t absolute(int64_t x) { return x < 0 ? -x : x; }

Plan plan_copy(const View& src, const View& dst) {
  Plan p;
  for (int d = 0; d < src.ndim; ++d) {
    if (src.shape[d] == 1) continue;
    int i = p.ndim++;
    for (; i > 0 && absolute(p.dst[i - 1]) < absolute(dst.strides[d]); --i) {
      p.shape[i] = p.shape[i - 1];
      p.src[i] = p.src[i - 1];
      p.dst[i] = p.dst[i - 1];
    }
    p.shape[i] = src.shape[d];
    p.src[i] = src.strides[d];
    p.dst[i] = dst.strides[d];
  }
  int last = 0;
  for (int d = 1; d < p.ndim; ++d) {
    if (p.src[last] == p.src[d] * p.shape[d] && p.dst[last] == p.dst[d] * p.shape[d]) {
      p.shape[last] *= p.shape[d];
    } else {
      p.shape[++last] = p.shape[d];
    }
    p.src[last] = p.src[d];
    p.dst[last] = p.dst[d];
  }
  if (p.ndim > 0) p.ndim = last + 1;
  if (p.ndim == 0) {
    p.ndim = 1;
    p.shape[0] = p.src[0] = p.dst[0] = 1;
  }
  return p;
}

// Walks over the outer axes of a plan in order, keeping the offsets on both sides.
struct Walk {
  int ndim = 0;
  int64_t shape[kMaxDims] = {}, src_stride[kMaxDims] = {}, dst_stride[kMaxDims] = {}, at[kMaxDims] = {};
  int64_t src = 0, dst = 0;

  FASTDL_INLINE void add(const Plan& p, int d) {
    shape[ndim] = p.shape[d];
    src_stride[ndim] = p.src[d];
    dst_stride[ndim++] = p.dst[d];
  }
  FASTDL_INLINE int64_t count() const {
    int64_t n = 1;
    for (int d = 0; d < ndim; ++d) n *= shape[d];
    return n;
  }
  FASTDL_INLINE void seek(int64_t index) {
    src = dst = 0;
    for (int d = ndim - 1; d >= 0; --d) {
      at[d] = index % shape[d];
      index /= shape[d];
      src += at[d] * src_stride[d];
      dst += at[d] * dst_stride[d];
    }
  }
  FASTDL_INLINE void next() {
    for (int d = ndim - 1; d >= 0; --d) {
      src += src_stride[d];
      dst += dst_stride[d];
      if (++at[d] < shape[d]) return;
      at[d] = 0;
      src -= shape[d] * src_stride[d];
      dst -= shape[d] * dst_stride[d];
    }
  }
};

template <class T>
void copy_rows(const Plan& p, const T* src, T* dst) {
  const int inner = p.ndim - 1;
  const int64_t length = p.shape[inner], s = p.src[inner], t = p.dst[inner];
  const int64_t row_bytes = length * static_cast<int64_t>(sizeof(T));
  Walk outer;
  for (int d = 0; d < inner; ++d) outer.add(p, d);
  // A task is a group of rows or, where rows are long, a piece of one.
  const int64_t pieces = ceil_div(row_bytes, 2 * kTaskBytes), piece = ceil_div(length, pieces);
  const int64_t rows = outer.count(), group = pieces > 1 ? 1 : max_of(1, kTaskBytes / row_bytes);
  const double cost = kNsPerByte * static_cast<double>(row_bytes * group / pieces) * (s == 1 && t == 1 ? 1 : 8);
  parallel_for(ceil_div(rows, group) * pieces, cost, [&](int64_t task) {
    const int64_t first = task / pieces * group, end = min_of(rows, first + group);
    const int64_t i0 = task % pieces * piece, count = min_of(piece, length - i0);
    if (count <= 0) return;
    Walk walk = outer;
    walk.seek(first);
    for (int64_t row = first; row < end; ++row, walk.next()) {
      const T* from = src + walk.src + i0 * s;
      T* to = dst + walk.dst + i0 * t;
      if (s == 1 && t == 1)
        __builtin_memcpy(to, from, static_cast<std::size_t>(count) * sizeof(T));
      else
        for (int64_t i = 0; i < count; ++i) to[i * t] = from[i * s];
    }
  });
}

#if defined(__clang__)
#define FASTDL_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define FASTDL_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, Indices{__VA_ARGS__})
#endif

// One step of the transpose: rows i and i + H exchange the H x H blocks off their diagonal.
template <int H, class T, int... L>
FASTDL_INLINE void exchange(Vec<T>& a, Vec<T>& b, std::integer_sequence<int, L...>) {
  constexpr int W = kLanes<T>;
  typedef T Indices __attribute__((vector_size(kVecBytes), unused));
  const Vec<T> low = FASTDL_SHUFFLE(a, b, ((L & H) != 0 ? W + L - H : L)...);
  b = FASTDL_SHUFFLE(a, b, ((L & H) != 0 ? W + L : L + H)...);
  a = low;
}

template <int H, class T>
FASTDL_INLINE void transpose_step(Vec<T>* r) {
  constexpr int W = kLanes<T>;
#pragma GCC unroll 16
  for (int i = 0; i < W; ++i)
    if ((i & H) == 0) exchange<H, T>(r[i], r[i + H], std::make_integer_sequence<int, W>{});
  if constexpr (H > 1) transpose_step<H / 2, T>(r);
}

// dst[j * dst_step + i] = src[i * src_step + j] for i and j below the vector width.
template <class T>
FASTDL_INLINE void transpose_tile(const T* src, int64_t src_step, T* dst, int64_t dst_step) {
  constexpr int W = kLanes<T>;
  Vec<T> r[W];
#pragma GCC unroll 16
  for (int i = 0; i < W; ++i) r[i] = load(src + i * src_step);
  transpose_step<W / 2, T>(r);
#pragma GCC unroll 16
  for (int i = 0; i < W; ++i) store(dst + i * dst_step, r[i]);
}

// dst[k * dst_k + i] = src[i * src_i + k] for k < nk, i < ni.
template <class T>
void transpose(const T* src, int64_t src_i, T* dst, int64_t dst_k, int64_t ni, int64_t nk) {
  if constexpr (sizeof(T) >= 4) {
    constexpr int64_t W = kLanes<T>;
    if (ni >= W && nk >= W) {  // the last tiles overlap their neighbours and write the same again
      for (int64_t k = 0; k < nk; k += W) {
        const int64_t k0 = min_of(k, nk - W);
        for (int64_t i = 0; i < ni; i += W) {
          const int64_t i0 = min_of(i, ni - W);
          transpose_tile(src + i0 * src_i + k0, src_i, dst + k0 * dst_k + i0, dst_k);
        }
      }
      return;
    }
  }
  if (ni == 3 && dst_k == 3) {  // colour images, in one pass
    for (int64_t k = 0; k < nk; ++k)
      for (int64_t i = 0; i < 3; ++i) dst[3 * k + i] = src[i * src_i + k];
  } else if (nk == 3 && src_i == 3) {
    for (int64_t i = 0; i < ni; ++i)
      for (int64_t k = 0; k < 3; ++k) dst[k * dst_k + i] = src[3 * i + k];
  } else if (ni < nk) {
    for (int64_t i = 0; i < ni; ++i)
      for (int64_t k = 0; k < nk; ++k) dst[k * dst_k + i] = src[i * src_i + k];
  } else {
    for (int64_t k = 0; k < nk; ++k)
      for (int64_t i = 0; i < ni; ++i) dst[k * dst_k + i] = src[i * src_i + k];
  }
}

// The innermost axis is contiguous in dst, axis k in src.
template <class T>
void copy_transposed(const Plan& p, int k, const T* src, T* dst) {
  const int inner = p.ndim - 1;
  const int64_t ni = p.shape[inner], nk = p.shape[k];
  Walk outer;
  for (int d = 0; d < inner; ++d)
    if (d != k) outer.add(p, d);
  const int64_t strip =
      max_of(kTaskBytes / (ni * static_cast<int64_t>(sizeof(T))), 1) / kLanes<T> * kLanes<T> + kLanes<T>;
  const int64_t strips = max_of(nk / strip, 1);  // the last takes the rest, so that it is not narrower than a tile
  const double cost = 2 * kNsPerByte * static_cast<double>(ni * strip) * sizeof(T);
  parallel_for(outer.count() * strips, cost, [&](int64_t task) {
    Walk walk = outer;
    walk.seek(task / strips);
    const int64_t first = task % strips * strip, count = task % strips == strips - 1 ? nk - first : strip;
    transpose(src + walk.src + first, p.src[inner], dst + walk.dst + first * p.dst[k], p.dst[k], ni, count);
  });
}

template <class T>
void copy_items(const Plan& p, const T* src, T* dst) {
  const int inner = p.ndim - 1;
  if (p.dst[inner] == 1 && p.src[inner] != 1)
    for (int k = 0; k < inner; ++k)
      if (p.src[k] == 1) {
        copy_transposed(p, k, src, dst);
        return;
      }
  copy_rows(p, src, dst);
}

}  // namespace

void copy(View src, Out dst) {
  if (src.size() == 0) return;
  const Plan p = plan_copy(src, dst);
  switch (item_size(src.dtype)) {
    case 1:
      return copy_items(p, src.as<std::uint8_t>(), dst.as<std::uint8_t>());
    case 2:
      return copy_items(p, src.as<std::uint16_t>(), dst.as<std::uint16_t>());
    case 4:
      return copy_items(p, src.as<std::uint32_t>(), dst.as<std::uint32_t>());
    default:
      return copy_items(p, src.as<std::uint64_t>(), dst.as<std::uint64_t>());
  }
}

void fill_zero(Out dst) {
  const int64_t bytes = dst.size() * item_size(dst.dtype), piece = 8 * kTaskBytes;
  char* data = dst.as<char>();
  parallel_for(ceil_div(bytes, piece), kNsPerByte / 2 * static_cast<double>(piece), [&](int64_t task) {
    __builtin_memset(data + task * piece, 0, static_cast<std::size_t>(min_of(piece, bytes - task * piece)));
  });
}

namespace {

template <class F>
FASTDL_INLINE void with_any(DType dtype, F&& f) {
  switch (dtype) {
    case DType::f32:
      return f(float{});
    case DType::f64:
      return f(double{});
    case DType::i32:
      return f(std::int32_t{});
    case DType::i64:
      return f(std::int64_t{});
    case DType::u8:
      return f(std::uint8_t{});
    case DType::bf16:
      return f(bfloat16{});
    default:
      return f(bool{});
  }
}

}  // namespace

void cast(View x, Out y) {
  constexpr int64_t kPiece = 1 << 14;
  const int64_t count = x.size();
  with_any(x.dtype, [&](auto from) {
    with_any(y.dtype, [&](auto to) {
      using X = decltype(from);
      using Y = decltype(to);
      const X* in = x.as<X>();
      Y* out = y.as<Y>();
      parallel_for(ceil_div(count, kPiece), 0.3 * kPiece, [&](int64_t task) {
        const int64_t end = min_of(count, (task + 1) * kPiece);
        for (int64_t i = task * kPiece; i < end; ++i) out[i] = static_cast<Y>(in[i]);
      });
    });
  });
}

FASTDL_REGISTER(cast)
FASTDL_REGISTER(copy)
FASTDL_REGISTER(fill_zero)

}  // namespace fastdl::cpu::FASTDL_ISA
