// The Philox 4x32-10 cipher on one block or on several at once.
#pragma once
#include <cstdint>

#include "core/view.h"

namespace fastdl::philox {

// Words of kBlocks consecutive blocks from `first`, block after block, as uint32 [4 * kBlocks]. The loops over blocks
// are left to the vectoriser, which knows the widening multiply of every instruction set.
template <int kBlocks>
FASTDL_INLINE void blocks(std::uint64_t seed, std::uint64_t counter, std::uint64_t first, std::uint32_t* words) {
  std::uint32_t a[kBlocks], b[kBlocks], c[kBlocks], d[kBlocks];
  for (int i = 0; i < kBlocks; ++i) {
    a[i] = static_cast<std::uint32_t>(first + static_cast<std::uint64_t>(i));
    b[i] = static_cast<std::uint32_t>((first + static_cast<std::uint64_t>(i)) >> 32);
    c[i] = static_cast<std::uint32_t>(counter);
    d[i] = static_cast<std::uint32_t>(counter >> 32);
  }
  std::uint32_t k0 = static_cast<std::uint32_t>(seed), k1 = static_cast<std::uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    for (int i = 0; i < kBlocks; ++i) {
      const std::uint64_t left = std::uint64_t{0xD2511F53} * a[i], right = std::uint64_t{0xCD9E8D57} * c[i];
      a[i] = static_cast<std::uint32_t>(right >> 32) ^ b[i] ^ k0;
      b[i] = static_cast<std::uint32_t>(right);
      c[i] = static_cast<std::uint32_t>(left >> 32) ^ d[i] ^ k1;
      d[i] = static_cast<std::uint32_t>(left);
    }
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  for (int i = 0; i < kBlocks; ++i) {
    words[4 * i] = a[i];
    words[4 * i + 1] = b[i];
    words[4 * i + 2] = c[i];
    words[4 * i + 3] = d[i];
  }
}

}  // namespace fastdl::philox
