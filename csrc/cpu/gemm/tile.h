// The micro-kernel: an MR x NR tile of C held in registers while k runs.
//
//   acc[i][j] = sum over taps t and k of  A_t[i][k] * B[t * kc + k][j]
//
// Per k it loads NV vectors of B and broadcasts MR values of A: with AVX-512 that is 28 accumulators, 2 loads and 14
// broadcasts for 28 fused multiply-adds, which keeps both FMA ports busy. Rows of A come in forms:
//   spaced   k contiguous, rows the same distance apart: plain row-major operands, and neighbours in a row of output
//            pixels, with the offset of each tap of a convolution (after Dukhan 2019, arXiv:1907.02129)
//   rows     k contiguous, one pointer per row: pixels of several short rows. More pointers than registers: 5 to 30 %
//            slower
//   columns  one base, row index contiguous, lda between k's: transposed operands and packed panels
//   taps     columns of a single k per tap
//   streamed run_tile's choice for columns where B is too long for the first-level cache: it is fetched ahead
// B is read with NR contiguous values per k: a packed panel (ldb = NR) or a row-major operand (ldb = its row length).
// The tile leaves with its epilogue: bias and another array (or the old contents of C) added, ReLU or a ReLU's
// backward.
#pragma once
#include "core/activation_math.h"
#include "cpu/simd.h"

namespace fastdl::cpu::FASTDL_ISA {

template <class T>
struct TileSize {
  static constexpr int rows = FASTDL_ISA_LEVEL == 2 ? 14 : 6;
  static constexpr int vectors = 2;
  static constexpr int cols = vectors * kLanes<T>;
};

enum class Form { spaced, rows, columns, streamed, taps };

template <class T>
struct TileArgs {
  int64_t kc;                          // length of k per tap
  int64_t taps = 1;                    // A_t for t < taps
  const int64_t* offsets = nullptr;    // [taps]: A_t starts this far from rows[i] or a; nullptr: all at 0
  const int64_t* b_offsets = nullptr;  // [taps], spaced and columns: B of tap t starts this far from b; nullptr: after
                                       // that of tap t - 1
  const T* const* rows = nullptr;      // [MR] pointers
  const T* a = nullptr;
  int64_t lda = 0;
  int64_t spacing = 0;  // from row to row
  const T* b;
  int64_t ldb;
  T* c;
  int64_t ldc;
  int64_t cols;     // valid columns, at most NR
  const T* bias;    // [cols] or nullptr
  const T* addend;  // added to the sum, rows ldc apart like those of C, which it may be; or nullptr
  const T* gate;    // likewise: what a ReLU made of C, for the ReLU's backward
  bool relu;
};

// Adds the epilogue to the accumulators and stores them; part(p) loads what of a vector lies inside C. Every loop is
// unrolled: an index that isn't a constant would send the accumulators through memory.
template <class T, int MR, int NV, class Load, class Store>
FASTDL_INLINE void finish_tile(const TileArgs<T>& t, Vec<T> (&acc)[MR][NV], const Load& part, const Store& put) {
  T* const c = t.c;
  const int64_t ldc = t.ldc;
  if (t.bias) {
#pragma GCC unroll 2
    for (int v = 0; v < NV; ++v) {
      const Vec<T> bias = part(t.bias, v);
#pragma GCC unroll 14
      for (int i = 0; i < MR; ++i) acc[i][v] += bias;
    }
  }
  if (t.addend) {
#pragma GCC unroll 14
    for (int i = 0; i < MR; ++i)
#pragma GCC unroll 2
      for (int v = 0; v < NV; ++v) acc[i][v] += part(t.addend + i * ldc, v);
  }
  if (t.gate) {
#pragma GCC unroll 14
    for (int i = 0; i < MR; ++i)
#pragma GCC unroll 2
      for (int v = 0; v < NV; ++v) acc[i][v] = activation::relu_backward(acc[i][v], part(t.gate + i * ldc, v));
  }
  if (t.relu) {
#pragma GCC unroll 14
    for (int i = 0; i < MR; ++i)
#pragma GCC unroll 2
      for (int v = 0; v < NV; ++v) acc[i][v] = activation::relu(acc[i][v]);
  }
#pragma GCC unroll 14
  for (int i = 0; i < MR; ++i)
#pragma GCC unroll 2
    for (int v = 0; v < NV; ++v) put(c + i * ldc, v, acc[i][v]);
}

// Element k of row i: five rows share a base, and 1, 2, 3 and 4 spacings are what an address can add to it.
template <class T>
FASTDL_INLINE T spaced_at(const T* const* base, int i, int64_t spacing, int64_t spacing3, int64_t k) {
  const T* const p = base[i / 5] + k;
  switch (i % 5) {
    case 0:
      return p[0];
    case 1:
      return p[spacing];
    case 2:
      return p[2 * spacing];
    case 3:
      return p[spacing3];
    default:
      return p[4 * spacing];
  }
}

constexpr int kUnroll = FASTDL_ISA_LEVEL == 2 ? 1 : 2;
constexpr int64_t kAhead = 24;      // k's, measured
constexpr int64_t kStreamed = 256;  // k's of a panel that leave little of a first-level cache

template <class T, int MR, int NV, Form kForm>
void tile(const TileArgs<T>& t) {
  constexpr int W = kLanes<T>;
  Vec<T> acc[MR][NV] = {};
  const T* b = t.b;
  if (t.kc * t.taps >= 64) {  // long enough for C to arrive before it is needed; in the
                              // second-level cache, because rows pages apart share few places in the first
#pragma GCC unroll 14
    for (int i = 0; i < MR; ++i)
#pragma GCC unroll 2
      for (int v = 0; v < NV; ++v) __builtin_prefetch(t.c + i * t.ldc + v * W, 0, 2);
  }
  for (int64_t tap = 0; tap < t.taps; ++tap) {
    const T* row[MR];
    if constexpr (kForm == Form::spaced || kForm == Form::columns || kForm == Form::streamed) {
      if (t.b_offsets) b = t.b + t.b_offsets[tap];
    }
    const int64_t offset = t.offsets ? t.offsets[tap] : 0, spacing3 = 3 * t.spacing;
    const T* a = t.a + offset;
    const int64_t kc = kForm == Form::taps ? 1 : t.kc;
    if constexpr (kForm == Form::rows) {
#pragma GCC unroll 14
      for (int i = 0; i < MR; ++i) row[i] = t.rows[i] + offset;
    }
    if constexpr (kForm == Form::spaced) {
#pragma GCC unroll 3
      for (int i = 0; i < (MR + 4) / 5; ++i) row[i] = a + 5 * i * t.spacing;
    }
#pragma GCC unroll kUnroll
    for (int64_t k = 0; k < kc; ++k) {
      Vec<T> bv[NV];
#pragma GCC unroll 2
      for (int v = 0; v < NV; ++v) bv[v] = load(b + v * W);
      if constexpr (kForm == Form::streamed) {
#pragma GCC unroll 2
        for (int v = 0; v < NV; v += 64 / kVecBytes) __builtin_prefetch(b + kAhead * t.ldb + v * W);
      }
#pragma GCC unroll 14
      for (int i = 0; i < MR; ++i) {
        const Vec<T> av = splat(kForm == Form::rows     ? row[i][k]
                                : kForm == Form::spaced ? spaced_at(row, i, t.spacing, spacing3, k)
                                                        : a[i]);
#pragma GCC unroll 2
        for (int v = 0; v < NV; ++v) acc[i][v] += av * bv[v];
      }
      b += t.ldb;
      if constexpr (kForm == Form::columns || kForm == Form::streamed) a += t.lda;
    }
  }
  const auto whole = [](const T* p, int v) __attribute__((always_inline)) { return load(p + v * W); };
  const auto put_whole = [](T* p, int v, Vec<T> x) __attribute__((always_inline)) { store(p + v * W, x); };
  const int64_t last = t.cols - (NV - 1) * W;  // columns in the last vector
  const auto part = [=](const T* p, int v) __attribute__((always_inline)) {
    return v + 1 < NV ? load(p + v * W) : load_part(p + v * W, last);
  };
  const auto put_part = [=](T* p, int v, Vec<T> x) __attribute__((always_inline)) {
    v + 1 < NV ? store(p + v * W, x) : store_part(p + v * W, x, last);
  };
  if (last == W)
    finish_tile(t, acc, whole, put_whole);
  else
    finish_tile(t, acc, part, put_part);
}

template <class T>
using TileFunction = void (*)(const TileArgs<T>&);

// One instance per row count and width, so that the last rows and columns of a matrix do not pay for a full tile.
template <class T, Form kForm, int NV, int MR>
FASTDL_INLINE TileFunction<T> find_tile(int rows) {
  if constexpr (MR == 1)
    return &tile<T, 1, NV, kForm>;
  else
    return rows == MR ? &tile<T, MR, NV, kForm> : find_tile<T, kForm, NV, MR - 1>(rows);
}

// Callers name the form, so that only those in use are compiled: there is a tile for every count of rows.
template <Form kForm, class T>
FASTDL_INLINE void run_tile(const TileArgs<T>& t, int64_t count) {
  constexpr int MR = TileSize<T>::rows;
  const int rows = static_cast<int>(count);
  if constexpr (kForm == Form::columns) {
    if (t.kc >= kStreamed) return run_tile<Form::streamed>(t, count);
  }
  (t.cols <= kLanes<T> ? find_tile<T, kForm, 1, MR>(rows) : find_tile<T, kForm, 2, MR>(rows))(t);
}

}  // namespace fastdl::cpu::FASTDL_ISA
