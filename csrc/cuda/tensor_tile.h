// A tile of the product on tensor cores (tensor_product.h) in shared memory and in registers: where operands lie, which
// lane holds what, and the multiplication of one chunk.
#pragma once
#include <limits>

#include "cuda/launch.h"

namespace fastdl::cuda::gpu {

constexpr int kTensorRows = 128, kVectorBytes = 16, kChunkBytes = 64;
constexpr int kWarpRows = 64, kWarpColumns = 32, kDown = kWarpRows / 16, kAcross = kWarpColumns / 8;
constexpr int kAlong = kAcross * 2;       // results of a row that are a lane's
constexpr int kSteps = kChunkBytes / 32;  // instructions along a chunk, each of eight words a line
constexpr int kStages = 3;                // chunks in shared memory

template <class E>
inline constexpr int kVector = kVectorBytes / static_cast<int>(sizeof(E));
template <class E>
inline constexpr int kChunk = kChunkBytes / static_cast<int>(sizeof(E));

// The threads that make a tile with so many columns.
template <int columns>
inline constexpr int kTensorThreads = kTensorRows / kWarpRows * (columns / kWarpColumns) * kWarp;

// What a thread moves at once: kVector elements, as the words that they are.
using Words = Pack<std::uint32_t, kVectorBytes / 4>;
template <class E>
FASTDL_DEVICE_ONLY Words load_words(const E* p) {
  check_border<Words>(p);
  return *reinterpret_cast<const Words*>(p);
}
template <class E>
FASTDL_DEVICE_ONLY void store_words(E* p, const Words& words) {
  check_border<Words>(p);
  *reinterpret_cast<Words*>(p) = words;
}

// To shared memory, zeros for null, without waiting: groups of such copies are done in order.
template <class E>
FASTDL_DEVICE_ONLY void copy_async(E* to, const E* from) {
#if !defined(__CUDACC__)
  emulated::copy_later(to, from);
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile(
      "cp.async.ca.shared.global [%0], [%1], 16, %2;" ::"r"(static_cast<std::uint32_t>(__cvta_generic_to_shared(to))),
      "l"(from), "r"(from != nullptr ? kVectorBytes : 0)
      : "memory");
#endif
}
FASTDL_DEVICE_ONLY void end_group() {
#if !defined(__CUDACC__)
  emulated::end_group();
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
// For all but the last `running` groups.
template <int running>
FASTDL_DEVICE_ONLY void wait_for_groups() {
#if !defined(__CUDACC__)
  emulated::wait_for_groups(running);
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(running) : "memory");
#endif
}

// As tensor cores read them: floats rounded to nearest, ties away from zero, as far as that is not done by the
// instruction, which cuts off the lower bits. Not infinity and NaN.
template <class E>
FASTDL_DEVICE_ONLY void make_operands(Words& words) {
  if constexpr (std::is_same_v<E, float>) {
    FASTDL_UNROLL
    for (int i = 0; i < kVectorBytes / 4; ++i) {
      if (__builtin_fabsf(float_of(words.v[i])) < std::numeric_limits<float>::infinity()) {
        words.v[i] += 0x1000;
#if !defined(__CUDA_ARCH__)
        words.v[i] &= 0xffffe000;
#endif
      }
    }
  }
}

// Where a lane's parts of an instruction's operands and results are.
struct Lane {
  int warp, group, quad;

  FASTDL_BOTH explicit Lane(int thread) : warp(thread / kWarp), group(thread % kWarp / 4), quad(thread % 4) {}
  FASTDL_BOTH int row() const { return warp % (kTensorRows / kWarpRows) * kWarpRows; }
  FASTDL_BOTH int column() const { return warp / (kTensorRows / kWarpRows) * kWarpColumns; }
  // Of the words of a line, that of register r of a (16 lines) or b (8 lines) in this step.
  FASTDL_BOTH int line_of_a(int r) const { return group + (r & 1) * 8; }
  FASTDL_BOTH int word_of_a(int step, int r) const { return step * 8 + quad + (r >> 1) * 4; }
  FASTDL_BOTH int word_of_b(int step, int r) const { return step * 8 + quad + r * 4; }
  // Of the results of an instruction, those of registers 2 h and 2 h + 1.
  FASTDL_BOTH int row_of(int h) const { return group + h * 8; }
};

// An operand's part of the tile in shared memory: lines of a chunk each (near), or k's with an element of each line.
// They are so far apart that what a warp reads at once, eight vectors or the words of four k's, lies in different
// banks.
template <class E, int count, bool near>
struct Layout {
  static constexpr int kLines = count, kPad = kVector<E> * (near || sizeof(E) == 2 ? 1 : 2);
  static constexpr int kRow = (near ? kChunk<E> : kLines) + kPad, kSize = (near ? kLines : kChunk<E>)*kRow;
  static constexpr bool k_near = near;

  FASTDL_BOTH static int at(int line, int k) { return near ? line * kRow + k : k * kRow + line; }
  FASTDL_BOTH static std::uint32_t word_of(const E* tile, int line, int word) {
    constexpr int kPerWord = 4 / static_cast<int>(sizeof(E));
    E elements[kPerWord];
    for (int e = 0; e < kPerWord; ++e) elements[e] = tile[at(line, word * kPerWord + e)];
    std::uint32_t bits;
    __builtin_memcpy(&bits, elements, sizeof bits);
    return bits;
  }
};

// The line of b in shared memory that a column of the tile is. An instruction gives a lane two neighbours of eight
// lines: where lines can be put anywhere (k_near), they are spread such that those of all kAcross instructions are
// neighbours, and are stored together.
template <bool near>
FASTDL_BOTH int line_of_column(int column) {
  if constexpr (!near) return column;
  return column / kWarpColumns * kWarpColumns + column % kAlong / 2 * 8 + column % kWarpColumns / kAlong * 2 +
         column % 2;
}

// Four blocks of eight lines by four words: lane l says where row l % 8 of block l / 8 begins, and gets, of each block,
// the word of its quad in the line of its group. of_k: rows are k's, and a word two of them.
template <bool of_k>
FASTDL_DEVICE_ONLY void load_blocks(const void* row, std::uint32_t& r0, std::uint32_t& r1, std::uint32_t& r2,
                                    std::uint32_t& r3) {
#if !defined(__CUDACC__)
  emulated::check_alignment(row, kVectorBytes);
  const auto rows = emulated::exchange(row, emulated::What::matrix);
  const Lane lane(static_cast<int>(threadIdx.x));
  const auto word_of = [&](int block) {
    std::uint16_t halves[2];
    for (int h = 0; h < 2; ++h)
      halves[h] = of_k ? static_cast<const std::uint16_t*>(rows[block * 8 + lane.quad * 2 + h])[lane.group]
                       : static_cast<const std::uint16_t*>(rows[block * 8 + lane.group])[lane.quad * 2 + h];
    return std::uint32_t{halves[0]} | std::uint32_t{halves[1]} << 16;
  };
  r0 = word_of(0), r1 = word_of(1), r2 = word_of(2), r3 = word_of(3);
#else
  const auto at = static_cast<std::uint32_t>(__cvta_generic_to_shared(row));
  if constexpr (of_k)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r0), "=r"(r1), "=r"(r2), "=r"(r3)
                 : "r"(at)
                 : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r0), "=r"(r1), "=r"(r2), "=r"(r3)
                 : "r"(at)
                 : "memory");
#endif
}

// Of k's of floats the words are read one by one.
template <class E, class Tile>
inline constexpr bool kByBlocks = Tile::k_near || sizeof(E) == 2;

// A lane's registers of both operands in a step.
template <class E, class Left, class Right>
struct Fragments {
  std::uint32_t a[kDown][4], b[kAcross][2];

  FASTDL_DEVICE_ONLY Fragments(const E* left, const E* right, const Lane& lane, int step) {
    FASTDL_UNROLL
    for (int d = 0; d < kDown; ++d) load_a(left, lane, step, d);
    FASTDL_UNROLL
    for (int c = 0; c < kAcross; c += 2) load_b(right, lane, step, c);
  }

 private:
  // Register r of a, and of b for two instructions, is that of block r.
  FASTDL_DEVICE_ONLY void load_a(const E* left, const Lane& lane, int step, int d) {
    const int line = lane.row() + d * 16;
    if constexpr (kByBlocks<E, Left>) {
      const int of = lane.group * 4 + lane.quad, block = of / 8, row = of % 8;
      const E* const from =
          left + (Left::k_near ? Left::at(line + block % 2 * 8 + row, (step * 2 + block / 2) * kVector<E>)
                               : Left::at(line + block % 2 * 8, step * 16 + block / 2 * 8 + row));
      load_blocks<!Left::k_near>(from, a[d][0], a[d][1], a[d][2], a[d][3]);
    } else {
      FASTDL_UNROLL
      for (int r = 0; r < 4; ++r) a[d][r] = Left::word_of(left, line + lane.line_of_a(r), lane.word_of_a(step, r));
    }
  }
  FASTDL_DEVICE_ONLY void load_b(const E* right, const Lane& lane, int step, int c) {
    const int line = lane.column() + c * 8;
    if constexpr (kByBlocks<E, Right>) {
      const int of = lane.group * 4 + lane.quad, block = of / 8, row = of % 8;
      const E* const from =
          right + (Right::k_near ? Right::at(line + block / 2 * 8 + row, (step * 2 + block % 2) * kVector<E>)
                                 : Right::at(line + block / 2 * 8, step * 16 + block % 2 * 8 + row));
      load_blocks<!Right::k_near>(from, b[c][0], b[c][1], b[c + 1][0], b[c + 1][1]);
    } else {
      FASTDL_UNROLL
      for (int r = 0; r < 4; ++r)
        b[c + r / 2][r % 2] = Right::word_of(right, line + r / 2 * 8 + lane.group, lane.word_of_b(step, r % 2));
    }
  }
};

#if !defined(__CUDACC__)

// The instruction, by the layout of fragments in the PTX manual (m16n8k16 of bfloat16, m16n8k8 of TF32): of a, register
// r holds row group + 8 (r odd) and, of each half of the columns, those of the quad; of b the column of the group; of c
// two neighbouring columns.
template <class E>
void multiply_add(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
  constexpr int kPerWord = 4 / static_cast<int>(sizeof(E));
  struct Operands {
    E a[4][kPerWord], b[2][kPerWord];
  } mine;
  __builtin_memcpy(mine.a, a, sizeof mine.a);
  __builtin_memcpy(mine.b, b, sizeof mine.b);
  const auto lanes = emulated::exchange(mine, emulated::What::product);
  const Lane lane(static_cast<int>(threadIdx.x));
  float sums[4] = {};
  for (int half = 0; half < 2; ++half)
    for (int q = 0; q < 4; ++q) {
      const Operands row = lanes[lane.group * 4 + q];
      const Operands columns[2] = {lanes[lane.quad * 2 * 4 + q], lanes[(lane.quad * 2 + 1) * 4 + q]};
      for (int e = 0; e < kPerWord; ++e)
        for (int r = 0; r < 4; ++r)
          sums[r] += static_cast<float>(row.a[half * 2 + r / 2][e]) * static_cast<float>(columns[r % 2].b[half][e]);
    }
  for (int r = 0; r < 4; ++r) c[r] += sums[r];
}

#else

template <class E>
FASTDL_DEVICE_ONLY void multiply_add(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  if constexpr (std::is_same_v<E, bfloat16>)
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  else
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

#endif

using Sums = float[kDown][kAcross][4];

// sums += left right' over one chunk.
template <class E, class Left, class Right>
FASTDL_DEVICE_ONLY void add_chunk(const E* left, const E* right, const Lane& lane, Sums& sums) {
  FASTDL_UNROLL
  for (int step = 0; step < kSteps; ++step) {
    const Fragments<E, Left, Right> f(left, right, lane, step);
    FASTDL_UNROLL
    for (int d = 0; d < kDown; ++d)
      FASTDL_UNROLL for (int c = 0; c < kAcross; ++c) multiply_add<E>(sums[d][c], f.a[d], f.b[c]);
  }
}

}  // namespace fastdl::cuda::gpu
