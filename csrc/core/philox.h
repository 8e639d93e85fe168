// Philox 4x32-10 (Salmon et al., SC 2011): word e of stream (seed, counter) is word e % 4 of the block with key (seed
// low, seed high) and counter (e / 4 low, e / 4 high, counter low, counter high).
#pragma once
#include "core/check.h"
#include "core/kernel.h"

namespace fastdl {

struct PhiloxStream {
  std::uint64_t seed, counter;
  std::uint64_t first = 0;                    // the block that a kernel's first element takes its word from
  const std::uint64_t* counter_at = nullptr;  // where the counter is read when the kernel runs, in place of `counter`

  FASTDL_BOTH std::uint64_t count() const { return counter_at != nullptr ? *counter_at : counter; }
};

inline void visit_argument(ArgumentVisitor& visitor, PhiloxStream& stream) { visitor.stream(stream); }
inline void visit_argument(ArgumentVisitor& visitor, std::uint32_t*&) {
  visitor.refuse("arrays of random numbers, which would be the same in every replay; draw them before the step");
}

constexpr std::int64_t kPhiloxBlock = 4;  // words
inline void describe(Elements& elements, const PhiloxStream&) { elements.row = kPhiloxBlock; }
inline void cut(Cut& cut, PhiloxStream& stream) {
  stream.first += static_cast<std::uint64_t>(cut.begin / kPhiloxBlock);
}

namespace FASTDL_DEVICE {
inline Kernel<void(PhiloxStream stream, std::int64_t n, std::uint32_t* words)> random_words;  // overwrites words [n]
}

}  // namespace fastdl
