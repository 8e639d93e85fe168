// The tiled product of product.h on tensor cores (mma.sync, from compute capability 8.0 on): operands of bfloat16 as
// they are, of float rounded to TF32; sums in float, in an order that the shape alone decides.
//
// A block makes 128 x 64 results, 64 bytes of k at a time: the next ones are on their way from global memory while the
// present ones, in shared memory, are multiplied. A warp makes 32 x 32 by instructions of 16 x 8. Elsewhere than in
// device code one thread does the work of all, lane by lane, so that tests see the same places.
//
// An operand has of(batch), which gives something with line(i), a row of a or a column of b, and vector(line, k): 16
// bytes from there along k (k_near), or of neighbouring lines at k.
#pragma once
#include "cuda/matmul.h"
#include "cuda/product.h"

namespace fastdl::cuda::gpu {

constexpr int kTensorRows = 128, kTensorColumns = 64, kVectorBytes = 16, kChunkBytes = 64;
constexpr int kLineBytes = kChunkBytes + kVectorBytes;  // the same words of eight lines lie in different banks
constexpr int kWarpRows = 32, kWarpColumns = 32, kDown = kWarpRows / 16, kAcross = kWarpColumns / 8;
constexpr int kAlong = kAcross * 2;       // neighbours of a row that are a lane's
constexpr int kSteps = kChunkBytes / 32;  // instructions along a chunk, each of eight words a line

template <class E>
inline constexpr int kVector = kVectorBytes / static_cast<int>(sizeof(E));
template <class E>
inline constexpr int kChunk = kChunkBytes / static_cast<int>(sizeof(E));

#if defined(__CUDACC__)
constexpr int kWorkers = kThreads, kLanesHere = 1;
#else
constexpr int kWorkers = 1, kLanesHere = kThreads;
#endif

// Do tensor cores serve elements of E? Floats only where they may be rounded.
template <class E>
bool on_tensor_cores() {
#if defined(__CUDACC__)
  if (compute_capability_major() < 8) return false;
#endif
  return std::is_same_v<E, bfloat16> || (std::is_same_v<E, float> && get_tf32());
}

// As tensor cores read it.
FASTDL_BOTH bfloat16 as_operand(bfloat16 x) { return x; }
FASTDL_BOTH float as_operand(float x) {
  std::uint32_t word;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(word) : "f"(x));
#else
  __builtin_memcpy(&word, &x, sizeof x);
  if (x - x == 0) word = (word + 0x1000) & 0xffffe000;  // not of infinity and NaN
#endif
  __builtin_memcpy(&x, &word, sizeof x);
  return x;
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
  // The first of the warp's columns whose results are this lane's, kAlong of them.
  FASTDL_BOTH int first() const { return quad * kAlong; }
};

// The line in shared memory of a column of the tile. An instruction gives a lane two neighbours of eight lines: they
// are spread such that those of all kAcross instructions are neighbours, and are stored together.
FASTDL_BOTH int line_of_column(int column) {
  return column / kWarpColumns * kWarpColumns + column % kAlong / 2 * 8 + column % kWarpColumns / kAlong * 2 +
         column % 2;
}

FASTDL_BOTH std::uint32_t word_at(const void* line, int word) {
  std::uint32_t bits;
  __builtin_memcpy(&bits, __builtin_assume_aligned(static_cast<const char*>(line) + word * 4, 4), sizeof bits);
  return bits;
}

template <class E>
struct Fragments {
  std::uint32_t a[kDown][4], b[kAcross][2];

  FASTDL_DEVICE_ONLY Fragments(const E* left, const E* right, const Lane& lane, int step) {
    constexpr int kLine = kLineBytes / static_cast<int>(sizeof(E));
    FASTDL_UNROLL
    for (int d = 0; d < kDown; ++d)
      FASTDL_UNROLL for (int r = 0; r < 4; ++r) a[d][r] =
          word_at(left + (lane.row() + d * 16 + lane.line_of_a(r)) * kLine, lane.word_of_a(step, r));
    FASTDL_UNROLL
    for (int c = 0; c < kAcross; ++c)
      FASTDL_UNROLL for (int r = 0; r < 2; ++r) b[c][r] =
          word_at(right + (lane.column() + c * 8 + lane.group) * kLine, lane.word_of_b(step, r));
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

using Sums = float[kLanesHere][kDown][kAcross][4];

// sums += left right' over one chunk.
template <class E>
FASTDL_DEVICE_ONLY void add_chunk(const E* left, const E* right, const Block& block, Sums& sums) {
#if defined(__CUDACC__)
  const Lane lane(block.thread);
  FASTDL_UNROLL
  for (int step = 0; step < kSteps; ++step) {
    const Fragments<E> f(left, right, lane, step);
    FASTDL_UNROLL
    for (int d = 0; d < kDown; ++d)
      FASTDL_UNROLL for (int c = 0; c < kAcross; ++c) multiply_add<E>(sums[0][d][c], f.a[d], f.b[c]);
  }
#else
  (void)block;
  for (int warp = 0; warp < kThreads / kWarp; ++warp)
    for (int step = 0; step < kSteps; ++step) {
      std::uint32_t a[kDown][kWarp][4], b[kAcross][kWarp][2];
      for (int lane = 0; lane < kWarp; ++lane) {
        const Fragments<E> f(left, right, Lane(warp * kWarp + lane), step);
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

// One operand's way into shared memory: which vectors of its part of the tile a thread loads, and those of the next
// chunk. columns: its lines are the tile's columns.
template <class E, int lines, bool columns, class Source>
struct Stage {
  static constexpr int kVectors = lines * kChunkBytes / kVectorBytes / kWorkers;
  static constexpr int kLine = kLineBytes / static_cast<int>(sizeof(E));
  const Source source;
  int thread;
  typename Source::Line line[kVectors];
  Pack<E, kVector<E>> next[kVectors];

  FASTDL_DEVICE_ONLY Stage(const Source& from, int64_t first, int of) : source(from), thread(of) {
    FASTDL_UNROLL
    for (int v = 0; v < kVectors; ++v) line[v] = source.line(first + line_of(v));
  }
  FASTDL_DEVICE_ONLY int line_of(int v) const {
    const int e = thread + v * kWorkers;
    return Source::k_near ? e / (kChunkBytes / kVectorBytes) : e / kChunk<E> * kVector<E>;
  }
  FASTDL_DEVICE_ONLY int k_of(int v) const {
    const int e = thread + v * kWorkers;
    return Source::k_near ? e % (kChunkBytes / kVectorBytes) * kVector<E> : e % kChunk<E>;
  }
  FASTDL_DEVICE_ONLY void load(int64_t from, int64_t end) {
    FASTDL_UNROLL
    for (int v = 0; v < kVectors; ++v)
      next[v] = from + k_of(v) < end ? source.vector(line[v], from + k_of(v)) : filled<kVector<E>>(E(0));
  }
  FASTDL_DEVICE_ONLY void store(E* shared) const {
    FASTDL_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      Pack<E, kVector<E>> pack;
      for (int j = 0; j < kVector<E>; ++j) pack.v[j] = as_operand(next[v].v[j]);
      if constexpr (Source::k_near)
        store_pack(shared + place_of(line_of(v)) * kLine + k_of(v), pack);
      else
        for (int j = 0; j < kVector<E>; ++j) shared[place_of(line_of(v) + j) * kLine + k_of(v)] = pack.v[j];
    }
  }
  FASTDL_DEVICE_ONLY static int place_of(int i) { return columns ? line_of_column(i) : i; }
};

template <class E>
using TensorTiling = Tiling<kTensorRows, kTensorColumns, kChunk<E>>;

template <class E, class A, class B, class Put>
struct TensorProduct {
  TensorTiling<E> t;
  A a;
  B b;
  Put put;

  FASTDL_DEVICE_ONLY void operator()(const Block& block) const {
    constexpr int kLine = kLineBytes / static_cast<int>(sizeof(E));
    FASTDL_SHARED alignas(kVectorBytes) E left[2][kTensorRows * kLine], right[2][kTensorColumns * kLine];
    const auto [which, batch, row, column, begin, end] = t.part(block.task);
    Stage<E, kTensorRows, false, A> from_a(a.of(batch), row, block.thread);
    Stage<E, kTensorColumns, true, B> from_b(b.of(batch), column, block.thread);
    Sums sums = {};
    int now = 0;
    from_a.load(begin, end), from_b.load(begin, end);
    from_a.store(left[now]), from_b.store(right[now]);
    block.sync();
    for (int64_t from = begin; from < end; from += kChunk<E>, now = 1 - now) {
      const bool more = from + kChunk<E> < end;
      if (more) from_a.load(from + kChunk<E>, end), from_b.load(from + kChunk<E>, end);
      add_chunk(left[now], right[now], block, sums);
      if (more) from_a.store(left[1 - now]), from_b.store(right[1 - now]);
      block.sync();
    }
    for (int at = 0; at < kLanesHere; ++at) write(Lane(block.thread + at), which, row, column, sums[at]);
  }

  FASTDL_DEVICE_ONLY void write(const Lane& lane, int64_t which, int64_t row, int64_t column,
                                const float (&sums)[kDown][kAcross][4]) const {
    const int64_t j = column + lane.column() + lane.first();
    FASTDL_UNROLL
    for (int d = 0; d < kDown; ++d) FASTDL_UNROLL for (int h = 0; h < 2; ++h) {
        const int64_t i = row + lane.row() + d * 16 + lane.row_of(h);
        float results[kAlong];
        FASTDL_UNROLL
        for (int c = 0; c < kAlong; ++c) results[c] = sums[d][c / 2][h * 2 + c % 2];
        if (i < t.m) put_row(put, which, i, j, t.n, results);
      }
  }
};

// sums: as multiply_parts has it; what a source has in the workspace lies behind them.
template <class E, class A, class B, class Put>
void multiply_on_tensor_cores(const TensorTiling<E>& t, const A& a, const B& b, const Put& put, float* sums) {
  multiply_parts(t, sums, put,
                 [&](const auto& to) { return TensorProduct<E, A, B, std::decay_t<decltype(to)>>{t, a, b, to}; });
}

// Lines of a matrix: `count` of them, `apart` from one batch's to the next one's. step: from line to line (k_near), or
// from k to k.
template <class E, bool near>
struct Lines {
  static constexpr bool k_near = near;
  const E* p;
  int64_t count, step, apart;
  struct Line {
    const E* p;
  };

  FASTDL_DEVICE_ONLY Lines of(int64_t batch) const { return {p + batch * apart, count, step, apart}; }
  FASTDL_DEVICE_ONLY Line line(int64_t i) const { return {i < count ? p + i * (near ? step : 1) : nullptr}; }
  FASTDL_DEVICE_ONLY Pack<E, kVector<E>> vector(const Line& line, int64_t k) const {
    if (line.p == nullptr) return filled<kVector<E>>(E(0));
    return load_pack<kVector<E>>(line.p + k * (near ? 1 : step));
  }
};

// Can a matrix whose neighbours in one dimension (of `extent`) lie side by side be read by vectors?
template <class E>
bool by_vectors(const E* p, int64_t extent, int64_t step, int64_t apart) {
  constexpr int64_t V = kVector<E>;
  return on_border(p) && extent % V == 0 && step % V == 0 && apart % V == 0;
}

// f(lines) of x, whose lines are `count` and k's `k`, `line` and `depth` apart; false where vectors can't read it.
template <class E, class F>
bool with_lines(const E* x, int64_t count, int64_t k, int64_t line, int64_t depth, int64_t apart, const F& f) {
  if (depth == 1 && by_vectors(x, k, line, apart)) return f(Lines<E, true>{x, count, line, apart});
  if (line == 1 && by_vectors(x, count, depth, apart)) return f(Lines<E, false>{x, count, depth, apart});
  return false;
}

// a @ b on tensor cores, where types and borders allow; else by `multiply`.
template <class T, class E, class Put>
void multiply_matrices(int64_t batch, int64_t m, int64_t n, int64_t k, const Matrix<E>& a, const Matrix<E>& b,
                       const Put& put) {
  if constexpr (sizeof(E) <= 4) {
    const bool done = on_tensor_cores<E>() && with_lines(a.p, m, k, a.row, a.column, a.apart, [&](const auto& left) {
                        return with_lines(b.p, n, k, b.column, b.row, b.apart, [&](const auto& right) {
                          const TensorTiling<E> t(batch, m, n, k);
                          multiply_on_tensor_cores<E>(t, left, right, put, workspace<float>(t.scratch()));
                          return true;
                        });
                      });
    if (done) return;
  }
  multiply<T>(batch, m, n, k, a, b, put);
}

}  // namespace fastdl::cuda::gpu
