// C[i][j] = dot product of row i of A and row j of B, k contiguous in both: nothing is packed. For skinny products, a
// few rows or a few columns, where packing an operand would cost as much as the product or a tile be mostly empty.
//
// A block of dot products shares its loads: with AVX-512 5 x 5 of them are 25 accumulators and 10 loads for 25 fused
// multiply-adds. Lanes are summed at the end, 16 accumulators at a time.
#pragma once
#include "core/activation_math.h"
#include "cpu/simd.h"

namespace fastdl::cpu::FASTDL_ISA {

template <class T>
struct DotArgs {
  const T* a;
  int64_t a_row;
  const T* b;
  int64_t b_row;
  int64_t k;
  T* c;
  int64_t c_row;
  const T* bias;
  const T* gate;  // see TileArgs; element (i, j) at gate[i * c_row + j]
  bool relu;
};

// Lane i of the result is the sum of the lanes of v[i].
template <class T, int kHalf>
FASTDL_INLINE Vec<T> sum_each(Vec<T> (&v)[kLanes<T>]) {
  constexpr auto lanes = std::make_integer_sequence<int, kLanes<T>>{};
#pragma GCC unroll 8
  for (int i = 0; i < kHalf; ++i)
    v[i] = exchange<T, kHalf, false>(v[i], v[i + kHalf], lanes) + exchange<T, kHalf, true>(v[i], v[i + kHalf], lanes);
  if constexpr (kHalf > 1)
    return sum_each<T, kHalf / 2>(v);
  else
    return v[0];
}

// sums[MR][NR] of MR rows of A with NR rows of B.
template <class T, int MR, int NR>
FASTDL_INLINE void dot_sums(const T* a, int64_t a_row, const T* b, int64_t b_row, int64_t k, T* sums) {
  constexpr int W = kLanes<T>;
  Vec<T> acc[MR][NR] = {};
  const auto step = [&](const auto& get, int64_t at) __attribute__((always_inline)) {
    Vec<T> bv[NR];
#pragma GCC unroll 8
    for (int j = 0; j < NR; ++j) bv[j] = get(b + j * b_row + at);
#pragma GCC unroll 8
    for (int i = 0; i < MR; ++i) {
      const Vec<T> av = get(a + i * a_row + at);
#pragma GCC unroll 8
      for (int j = 0; j < NR; ++j) acc[i][j] += av * bv[j];
    }
  };
  int64_t at = 0;
  for (; at + W <= k; at += W) step([](const T* p) __attribute__((always_inline)) { return load(p); }, at);
  if (at < k) step([=](const T* p) __attribute__((always_inline)) { return load_part(p, k - at); }, at);
#pragma GCC unroll 32
  for (int first = 0; first < MR * NR; first += W) {
    Vec<T> some[W];
#pragma GCC unroll 16
    for (int e = 0; e < W; ++e) {
      const int place = first + e < MR * NR ? first + e : 0;
      some[e] = acc[place / NR][place % NR];
    }
    const Vec<T> sum = sum_each<T, W / 2>(some);
    store_part(sums + first, sum, first + W < MR * NR ? W : MR * NR - first);
  }
}

template <class T, int MR, int NR>
void dot_tile(const DotArgs<T>& d, int64_t i, int64_t j) {
  T sums[MR * NR];
  dot_sums<T, MR, NR>(d.a + i * d.a_row, d.a_row, d.b + j * d.b_row, d.b_row, d.k, sums);
  for (int r = 0; r < MR; ++r)
    for (int s = 0; s < NR; ++s) {
      const int64_t at = (i + r) * d.c_row + j + s;
      T sum = sums[r * NR + s];
      if (d.bias) sum += d.bias[j + s];
      if (d.gate) sum = activation::relu_backward(sum, d.gate[at]);
      d.c[at] = d.relu ? activation::relu(sum) : sum;
    }
}

// Every count of rows is met with NR columns at a time, then with single ones.
template <class T, int MR>
FASTDL_INLINE void dot_rows(const DotArgs<T>& d, int64_t i, int64_t count, int64_t j, int64_t width) {
  constexpr int NR = 5;
  if (count == MR) {
    if (width == NR) return dot_tile<T, MR, NR>(d, i, j);
    for (int64_t s = 0; s < width; ++s) dot_tile<T, MR, 1>(d, i, j + s);
    return;
  }
  if constexpr (MR > 1) dot_rows<T, MR - 1>(d, i, count, j, width);
}

// Rows [i0, i1), columns [j0, j1) of C. Rows of B stay in the first-level cache while those of A pass by.
template <class T>
inline void dot_block(const DotArgs<T>& d, int64_t i0, int64_t i1, int64_t j0, int64_t j1) {
  constexpr int MR = FASTDL_ISA_LEVEL == 2 ? 5 : 2, NR = 5;
  for (int64_t j = j0; j < j1; j += NR)
    for (int64_t i = i0; i < i1; i += MR) dot_rows<T, MR>(d, i, min_of(MR, i1 - i), j, min_of(NR, j1 - j));
}

}  // namespace fastdl::cpu::FASTDL_ISA
