// The tiled product of product.h on tensor cores (mma.sync, from compute capability 8.0 on): operands of bfloat16 as
// they are, of float rounded to TF32; sums in float, in an order that the shape alone decides.
//
// A block makes 128 x 128 or 128 x 64 results, 64 bytes of k at a time: the next ones are on their way from global
// memory while the present ones, in shared memory, are multiplied. A warp makes 64 x 32 by instructions of 16 x 8.
//
// An operand has of(batch), which gives something with line(i), a row of a or a column of b; start(k) and next(step), a
// place along k and that of the next chunk; and place(line, step): where 16 bytes from there along k (k_near), or of
// neighbouring lines, are, null for zeros; or vector(line, step), those bytes.
#pragma once
#include "cuda/matmul.h"
#include "cuda/product.h"
#include "cuda/tensor_tile.h"

namespace fastdl::cuda::gpu {

// Do tensor cores serve elements of E? Floats only where they may be rounded.
template <class E>
bool on_tensor_cores() {
  if (compute_capability_major() < 8) return false;
  return std::is_same_v<E, bfloat16> || (std::is_same_v<E, float> && get_tf32());
}

// Does an operand go to shared memory without passing through registers?
template <class Source>
inline constexpr bool by_itself = requires { &Source::place; };

// One operand's way into shared memory: the vectors of its part of the tile that a thread takes there, chunk by chunk.
// They are of so many lines and so many places along k, one of one of them. What place() finds goes there by itself,
// what vector() puts together by way of registers.
template <class E, class Tile, bool columns, int kThreads, class Source>
struct Stage {
  static constexpr bool near = Source::k_near, direct = by_itself<Source>;
  static constexpr int kAbreast = (near ? kChunk<E> : Tile::kLines) / kVector<E>;  // vectors of a line, or of a k
  static constexpr int kVectors = Tile::kLines * (kChunkBytes / kVectorBytes) / kThreads;
  static constexpr int kInRow = kAbreast > kThreads ? kAbreast / kThreads : 1, kRows = kVectors / kInRow;
  static constexpr int kOfLines = near ? kRows : kInRow, kOfSteps = near ? kInRow : kRows;
  const Source source;
  int thread;
  typename Source::Line line[kOfLines];
  typename Source::Step step[kOfSteps];
  Words kept[direct ? 1 : kVectors];

  FASTDL_DEVICE_ONLY Stage(const Source& from, int64_t first, int64_t k, int of) : source(from), thread(of) {
    FASTDL_UNROLL
    for (int i = 0; i < kOfLines; ++i) line[i] = source.line(first + line_at(i));
    FASTDL_UNROLL
    for (int i = 0; i < kOfSteps; ++i) step[i] = source.start(k + k_at(i));
  }
  FASTDL_DEVICE_ONLY int row_at(int i) const { return (thread + i * kInRow * kThreads) / kAbreast; }
  FASTDL_DEVICE_ONLY int vector_at(int i) const { return (thread + i * kThreads) % kAbreast * kVector<E>; }
  FASTDL_DEVICE_ONLY int line_at(int i) const { return near ? row_at(i) : vector_at(i); }
  FASTDL_DEVICE_ONLY int k_at(int i) const { return near ? vector_at(i) : row_at(i); }
  FASTDL_DEVICE_ONLY E* at(E* tile, int l, int i) const {
    return tile + Tile::at(columns ? line_of_column<near>(line_at(l)) : line_at(l), k_at(i));
  }
  // Sends the next chunk to `tile`, of which `left` k's are to be taken, and zeros.
  FASTDL_DEVICE_ONLY void begin(int64_t left, E* tile) {
    FASTDL_UNROLL
    for (int i = 0; i < kOfSteps; ++i) {
      const bool inside = k_at(i) < left;
      FASTDL_UNROLL
      for (int l = 0; l < kOfLines; ++l)
        if constexpr (direct)
          copy_async(at(tile, l, i), inside ? source.place(line[l], step[i]) : nullptr);
        else
          kept[i * kOfLines + l] = inside ? source.vector(line[l], step[i]) : Words{};
      source.next(step[i]);
    }
  }
  FASTDL_DEVICE_ONLY void end(E* tile) const {
    if constexpr (!direct)
      each([&](int l, int i) {
        Words words = kept[i * kOfLines + l];
        make_operands<E>(words);
        store_words(at(tile, l, i), words);
      });
  }
  // Makes operands of what this thread has sent, once it is there.
  FASTDL_DEVICE_ONLY void settle(E* tile) const {
    if constexpr (direct && std::is_same_v<E, float>)
      each([&](int l, int i) {
        Words words = load_words(at(tile, l, i));
        make_operands<E>(words);
        store_words(at(tile, l, i), words);
      });
  }

 private:
  template <class F>
  FASTDL_DEVICE_ONLY static void each(const F& f) {
    FASTDL_UNROLL
    for (int i = 0; i < kOfSteps; ++i) FASTDL_UNROLL for (int l = 0; l < kOfLines; ++l) f(l, i);
  }
};

constexpr int kWide = 128, kNarrow = 64;  // columns of a tile

template <class E, int columns>
using TensorTiling = Tiling<kTensorRows, columns, kChunk<E>>;

template <class E, int columns, class A, class B, class Put>
struct TensorProduct {
  using Left = Layout<E, kTensorRows, A::k_near>;
  using Right = Layout<E, columns, B::k_near>;
  static constexpr int kThreads = kTensorThreads<columns>, kBlocks = columns == kWide               ? 1
                                                                     : by_itself<A> && by_itself<B> ? 3
                                                                                                    : 2;
  static constexpr int kTile = Left::kSize + Right::kSize, kSharedBytes = kStages * kTile * static_cast<int>(sizeof(E));
  TensorTiling<E, columns> t;
  A a;
  B b;
  Put put;

  FASTDL_DEVICE_ONLY void operator()(const Block& block) const {
    FASTDL_SHARED_BYTES(tensor_memory);
    E* const tiles = reinterpret_cast<E*>(tensor_memory);
    const auto [which, batch, row, column, first, end] = t.part(block.task);
    Stage<E, Left, false, kThreads, A> from_a(a.of(batch), row, first, block.thread);
    Stage<E, Right, true, kThreads, B> from_b(b.of(batch), column, first, block.thread);
    int64_t left = end - first;  // of k, beginning with the chunk that is sent next
    E* ahead = tiles;            // where it is sent
    const auto begin = [&] {
      if (left > 0) from_a.begin(left, ahead), from_b.begin(left, ahead + Left::kSize);
      end_group();
    };
    const auto finish = [&] {
      if (left > 0) from_a.end(ahead), from_b.end(ahead + Left::kSize);
      left -= kChunk<E>;
      ahead = after(ahead, tiles);
    };
    for (int chunk = 0; chunk < kStages - 1; ++chunk) begin(), finish();
    const Lane lane(block.thread);
    Sums sums = {};
    E* now = tiles;
    for (int64_t k = first; k < end; k += kChunk<E>) {
      wait_for_groups<kStages - 2>();
      from_a.settle(now), from_b.settle(now + Left::kSize);
      block.sync();
      begin();
      add_chunk<E, Left, Right>(now, now + Left::kSize, lane, sums);
      finish();
      now = after(now, tiles);
    }
    block.sync();  // the next task may write
    write(lane, which, row, column, sums);
  }

  FASTDL_DEVICE_ONLY static E* after(E* tile, E* tiles) {
    return tile == tiles + (kStages - 1) * kTile ? tiles : tile + kTile;
  }
  // A lane's results of a row: all beside each other, or in pairs (line_of_column).
  FASTDL_DEVICE_ONLY void write(const Lane& lane, int64_t which, int64_t row, int64_t column, const Sums& sums) const {
    constexpr int kTogether = B::k_near ? kAlong : 2;
    const int64_t first = column + lane.column() + lane.quad * kTogether;
    FASTDL_UNROLL
    for (int d = 0; d < kDown; ++d) FASTDL_UNROLL for (int h = 0; h < 2; ++h) {
        const int64_t i = row + lane.row() + d * 16 + lane.row_of(h);
        if (i >= t.m) continue;
        FASTDL_UNROLL
        for (int c = 0; c < kAcross; c += kTogether / 2) {
          float results[kTogether];
          FASTDL_UNROLL
          for (int k = 0; k < kTogether; ++k) results[k] = sums[d][c + k / 2][h * 2 + k % 2];
          put_row(put, which, i, first + c * 8, t.n, results);
        }
      }
  }
};

// How many narrow tiles a product takes.
inline int64_t tensor_tiles(int64_t m, int64_t n) { return ceil_div(m, kTensorRows) * ceil_div(n, kNarrow); }

// f(tiling): wide tiles where they leave no more columns empty than narrow ones.
template <class E, class F>
void with_tensor_tiling(int64_t batch, int64_t m, int64_t n, int64_t k, const F& f) {
  if (ceil_div(n, kWide) * 2 <= ceil_div(n, kNarrow))
    f(TensorTiling<E, kWide>(batch, m, n, k));
  else
    f(TensorTiling<E, kNarrow>(batch, m, n, k));
}

// sums: as multiply_parts has it; what a source has in the workspace lies behind them.
template <class E, int columns, class A, class B, class Put>
void multiply_on_tensor_cores(const Tiling<kTensorRows, columns, kChunk<E>>& t, const A& a, const B& b, const Put& put,
                              float* sums) {
  multiply_parts(
      t, sums, put,
      [&](const auto& to) { return TensorProduct<E, columns, A, B, std::decay_t<decltype(to)>>{t, a, b, to}; },
      kTensorThreads<columns>);
}

// Lines of a matrix: `count` of them, `apart` from one batch's to the next one's. step: from line to line (k_near), or
// from k to k.
template <class E, bool near>
struct Lines {
  static constexpr bool k_near = near;
  const E* p;
  int64_t count, step, apart;
  struct Line {
    const E* p;  // null: none
  };
  using Step = int64_t;  // from the line on

  FASTDL_DEVICE_ONLY Lines of(int64_t batch) const { return {p + batch * apart, count, step, apart}; }
  FASTDL_DEVICE_ONLY Line line(int64_t i) const { return {i < count ? p + i * (near ? step : 1) : nullptr}; }
  FASTDL_DEVICE_ONLY Step start(int64_t k) const { return k * (near ? 1 : step); }
  FASTDL_DEVICE_ONLY void next(Step& at) const { at += kChunk<E> * (near ? 1 : step); }
  FASTDL_DEVICE_ONLY const E* place(const Line& line, const Step& at) const {
    return line.p != nullptr ? line.p + at : nullptr;
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
                          with_tensor_tiling<E>(batch, m, n, k, [&](const auto& t) {
                            multiply_on_tensor_cores<E>(t, left, right, put, workspace<float>(t.scratch()));
                          });
                          return true;
                        });
                      });
    if (done) return;
  }
  multiply<T>(batch, m, n, k, a, b, put);
}

}  // namespace fastdl::cuda::gpu
