// Random words, blocks by the vector.
#include "core/philox.h"

#include "cpu/philox_words.h"

namespace fastdl::cpu::FASTDL_ISA {

void random_words(PhiloxStream stream, int64_t n, std::uint32_t* words) {
  constexpr int64_t kTask = 256 * philox::kWords;
  parallel_for(ceil_div(n, kTask), 5.0 / philox::kLanes32 * static_cast<double>(min_of(n, kTask)), [&](int64_t task) {
    const int64_t end = min_of(n, (task + 1) * kTask);
    int64_t e = task * kTask;
    for (; e + philox::kWords <= end; e += philox::kWords)
      philox::make(stream, static_cast<std::uint64_t>(e / 4), words + e);
    if (e < end) {
      std::uint32_t last[philox::kWords];
      philox::make(stream, static_cast<std::uint64_t>(e / 4), last);
      __builtin_memcpy(words + e, last, static_cast<std::size_t>(end - e) * sizeof(std::uint32_t));
    }
  });
}

FASTDL_REGISTER(random_words)

}  // namespace fastdl::cpu::FASTDL_ISA
