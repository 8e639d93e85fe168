// The memory that a thread's next block reads, brought into the second-level cache a piece at a time while the tiles of
// this block run: a network's activations come from memory, and a block alone would wait for all of its own at once.
#pragma once
#include "cpu/conv/taps.h"

namespace fastdl::cpu::FASTDL_ISA {

class Ahead {
 public:
  Ahead() = default;
  // [from, from + count) in `pieces` steps.
  template <class T>
  FASTDL_INLINE Ahead(const T* from, int64_t count, int64_t pieces)
      : at(reinterpret_cast<const char*>(from)),
        end(at + max_of(0, count) * static_cast<int64_t>(sizeof(T))),
        piece(ceil_div(ceil_div(end - at, kLine), max_of(1, pieces)) * kLine) {}

  FASTDL_INLINE void step() {
    for (const char* const until = end - at < piece ? end : at + piece; at < until; at += kLine)
      __builtin_prefetch(at, 0, 2);
  }

 private:
  static constexpr int64_t kLine = 64;
  const char* at = nullptr;
  const char* end = nullptr;
  int64_t piece = 0;
};

// The source rows of a block's successor.
template <class T>
FASTDL_INLINE Ahead rows_ahead(const T* src, int64_t channels, const Taps& th, const Taps& tw, const Blocking& blocks,
                               int64_t images, int64_t index, int64_t pieces) {
  if (index + 1 >= blocks.count) return {};
  const auto start = [&](int64_t i) {
    const Block block = block_at(blocks, images, th.outputs, i);
    const int64_t row = min_of(th.size, max_of(0, block.row * th.step + th.first()));
    return (block.image * th.size + row) * tw.size * channels;
  };
  const int64_t from = start(index + 1), all = images * th.size * tw.size * channels;
  return {src + from, min_of(from - start(index), all - from), pieces};
}

}  // namespace fastdl::cpu::FASTDL_ISA
