// Philox words on the device: a thread makes one block of four (core/philox.h says which words those are).
#pragma once
#include "core/philox.h"
#include "cuda/launch.h"

namespace fastdl::cuda::gpu {

using Words = Pack<std::uint32_t, kPhiloxBlock>;
constexpr int kPhiloxRounds = 10;

// The two words of the key in every round, made by the host: kernels read them from their arguments as they use them.
struct PhiloxKeys {
  std::uint32_t low[kPhiloxRounds], high[kPhiloxRounds];

  explicit PhiloxKeys(std::uint64_t seed) {
    auto k0 = static_cast<std::uint32_t>(seed), k1 = static_cast<std::uint32_t>(seed >> 32);
    for (int round = 0; round < kPhiloxRounds; ++round, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
      low[round] = k0;
      high[round] = k1;
    }
  }
};

// Those of the block that holds the stream's element e.
FASTDL_BOTH Words philox_words(const PhiloxStream& stream, const PhiloxKeys& keys, int64_t e) {
  const std::uint64_t block = stream.first + static_cast<std::uint64_t>(e / kPhiloxBlock), counter = stream.count();
  std::uint32_t a = static_cast<std::uint32_t>(block), b = static_cast<std::uint32_t>(block >> 32),
                c = static_cast<std::uint32_t>(counter), d = static_cast<std::uint32_t>(counter >> 32);
  FASTDL_UNROLL
  for (int round = 0; round < kPhiloxRounds; ++round) {
    const std::uint64_t left = std::uint64_t{0xD2511F53u} * a, right = std::uint64_t{0xCD9E8D57u} * c;
    a = static_cast<std::uint32_t>(right >> 32) ^ b ^ keys.low[round];
    b = static_cast<std::uint32_t>(right);
    c = static_cast<std::uint32_t>(left >> 32) ^ d ^ keys.high[round];
    d = static_cast<std::uint32_t>(left);
  }
  return {{a, b, c, d}};
}

// The word of element e + k, where N elements from e on are taken together: one block, or one word of it.
template <int N>
FASTDL_BOTH std::uint32_t word_of(const Words& words, int64_t e, int k) {
  return N == 1 ? words.v[e % kPhiloxBlock] : words.v[k];
}

}  // namespace fastdl::cuda::gpu
