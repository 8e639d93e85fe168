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

// Of a tile with so many columns: the threads that make it, how many move its operands, and for how many of them each
// multiplies.
template <int columns>
struct Team {
  static constexpr int kThreads = kTensorRows / kWarpRows * (columns / kWarpColumns) * kWarp;
#if defined(__CUDACC__)
  static constexpr int kWorkers = kThreads, kLanes = 1;
#else
  static constexpr int kWorkers = 1, kLanes = kThreads;
#endif
};

// What a thread moves at once: kVector elements, as the words that they are.
using Words = Pack<std::uint32_t, kVectorBytes / 4>;
template <class E>
FASTDL_DEVICE_ONLY Words load_words(const E* p) {
#if defined(__CUDA_ARCH__)
  return *reinterpret_cast<const Words*>(p);
#else
  Words words;
  __builtin_memcpy(&words, p, sizeof words);
  return words;
#endif
}
template <class E>
FASTDL_DEVICE_ONLY void store_words(E* p, const Words& words) {
#if defined(__CUDA_ARCH__)
  *reinterpret_cast<Words*>(p) = words;
#else
  __builtin_memcpy(p, &words, sizeof words);
#endif
}

// To shared memory, zeros for null, without waiting: groups of such copies are done in order.
template <class E>
FASTDL_DEVICE_ONLY void copy_async(E* to, const E* from) {
#if !defined(__CUDACC__)
  store_words(to, from != nullptr ? load_words(from) : Words{});
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile(
      "cp.async.ca.shared.global [%0], [%1], 16, %2;" ::"r"(static_cast<std::uint32_t>(__cvta_generic_to_shared(to))),
      "l"(from), "r"(from != nullptr ? kVectorBytes : 0)
      : "memory");
#endif
}
FASTDL_DEVICE_ONLY void end_group() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
// For all but the last `running` groups.
template <int running>
FASTDL_DEVICE_ONLY void wait_for_groups() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
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

#if defined(__CUDACC__)

// Four blocks of eight lines by four words: lane l says where row l % 8 of block l / 8 begins, and gets, of each block,
// the word of its quad in the line of its group. of_k: rows are k's, and a word two of them.
template <bool of_k>
FASTDL_DEVICE_ONLY void load_blocks(const void* row, std::uint32_t& r0, std::uint32_t& r1, std::uint32_t& r2,
                                    std::uint32_t& r3) {
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
}

// Of k's of floats the words are read one by one.
template <class E, class Tile>
inline constexpr bool kByBlocks = Tile::k_near || sizeof(E) == 2;

#else

template <class E, class Tile>
inline constexpr bool kByBlocks = false;
template <bool>
void load_blocks(const void*, std::uint32_t&, std::uint32_t&, std::uint32_t&, std::uint32_t&) {}

#endif

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

#if defined(__CUDACC__)

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

#else

// What the 32 lanes' instruction does, by the layout of fragments in the PTX manual (m16n8k16 of bfloat16, m16n8k8 of
// TF32): of a, register r holds row group + 8 (r odd) and, of each half of the columns, those of the quad; of b the
// column of the group; of c two neighbouring columns.
template <class E>
void multiply_add(float (&c)[kWarp][4], const std::uint32_t (&a)[kWarp][4], const std::uint32_t (&b)[kWarp][2]) {
  constexpr int kPerWord = 4 / static_cast<int>(sizeof(E)), kDepth = 8 * kPerWord;
  float left[16][kDepth], right[kDepth][8];
  for (int lane = 0; lane < kWarp; ++lane)
    for (int h = 0; h < kPerWord; ++h) {
      const auto value = [&](std::uint32_t word) {
        E x;
        __builtin_memcpy(&x, reinterpret_cast<const char*>(&word) + h * static_cast<int>(sizeof(E)), sizeof x);
        return static_cast<float>(x);
      };
      const int group = lane / 4, quad = lane % 4;
      for (int r = 0; r < 4; ++r)
        left[r % 2 == 0 ? group : group + 8][quad * kPerWord + h + (r < 2 ? 0 : kDepth / 2)] = value(a[lane][r]);
      for (int r = 0; r < 2; ++r) right[quad * kPerWord + h + (r == 0 ? 0 : kDepth / 2)][group] = value(b[lane][r]);
    }
  for (int lane = 0; lane < kWarp; ++lane)
    for (int r = 0; r < 4; ++r) {
      const int row = lane / 4 + (r < 2 ? 0 : 8), column = lane % 4 * 2 + r % 2;
      float sum = 0;
      for (int k = 0; k < kDepth; ++k) sum += left[row][k] * right[k][column];
      c[lane][r] += sum;
    }
}

#endif

template <int lanes>
using Sums = float[lanes][kDown][kAcross][4];

// sums += left right' over one chunk.
template <class E, class Left, class Right, int lanes>
FASTDL_DEVICE_ONLY void add_chunk(const E* left, const E* right, const Block& block, Sums<lanes>& sums) {
#if defined(__CUDACC__)
  const Lane lane(block.thread);
  FASTDL_UNROLL
  for (int step = 0; step < kSteps; ++step) {
    const Fragments<E, Left, Right> f(left, right, lane, step);
    FASTDL_UNROLL
    for (int d = 0; d < kDown; ++d)
      FASTDL_UNROLL for (int c = 0; c < kAcross; ++c) multiply_add<E>(sums[0][d][c], f.a[d], f.b[c]);
  }
#else
  (void)block;
  for (int warp = 0; warp < lanes / kWarp; ++warp)
    for (int step = 0; step < kSteps; ++step) {
      std::uint32_t a[kDown][kWarp][4], b[kAcross][kWarp][2];
      for (int lane = 0; lane < kWarp; ++lane) {
        const Fragments<E, Left, Right> f(left, right, Lane(warp * kWarp + lane), step);
        for (int d = 0; d < kDown; ++d) __builtin_memcpy(a[d][lane], f.a[d], sizeof f.a[d]);
        for (int c = 0; c < kAcross; ++c) __builtin_memcpy(b[c][lane], f.b[c], sizeof f.b[c]);
      }
      for (int d = 0; d < kDown; ++d)
        for (int c = 0; c < kAcross; ++c) {
          float part[kWarp][4];
          for (int lane = 0; lane < kWarp; ++lane)
            __builtin_memcpy(part[lane], sums[warp * kWarp + lane][d][c], sizeof part[lane]);
          multiply_add<E>(part, a[d], b[c]);
          for (int lane = 0; lane < kWarp; ++lane)
            __builtin_memcpy(sums[warp * kWarp + lane][d][c], part[lane], sizeof part[lane]);
        }
    }
#endif
}

}  // namespace fastdl::cuda::gpu
