// Philox words by whole vectors: lane i of four vectors holds block i, ten rounds, then the four are interleaved.
// Two groups of blocks go through the rounds together, as one alone waits for its multiplications (0.6 against 0.35 ns
// a word with AVX-512; left to the vectoriser, the same loop over arrays took 2 ns).
#pragma once
#include "core/philox.h"
#include "cpu/simd.h"

namespace fastdl::cpu::FASTDL_ISA {

namespace philox {

typedef std::uint32_t Words __attribute__((vector_size(kVecBytes)));
constexpr int kLanes32 = kVecBytes / 4;
constexpr int kGroups = 2;
constexpr int kBlocks = kGroups * kLanes32;  // made by one call
constexpr int kWords = 4 * kBlocks;

// Products of the even lanes, 64 bits each.
FASTDL_INLINE Words multiply_even(Words a, std::uint32_t factor) {
#if FASTDL_ISA_LEVEL == 2
  // The plain intrinsic draws a false warning from GCC 12 (its bug 105593).
  return (Words)_mm512_maskz_mul_epu32(0xff, (__m512i)a, _mm512_set1_epi32(static_cast<int>(factor)));
#elif FASTDL_ISA_LEVEL == 1
  return (Words)_mm256_mul_epu32((__m256i)a, _mm256_set1_epi32(static_cast<int>(factor)));
#elif defined(__SSE2__)
  return (Words)_mm_mul_epu32((__m128i)a, _mm_set1_epi32(static_cast<int>(factor)));
#else
  Words product;
  for (int i = 0; i < kLanes32; i += 2) {
    const std::uint64_t wide = std::uint64_t{a[i]} * factor;
    product[i] = static_cast<std::uint32_t>(wide);
    product[i + 1] = static_cast<std::uint32_t>(wide >> 32);
  }
  return product;
#endif
}

// Lane i of the result is lane pick(i) of a, or of b counting on from kLanes32.
template <class F>
FASTDL_INLINE Words shuffle(Words a, Words b, const F& pick) {
#if defined(__clang__)
  Words result;
  for (int i = 0; i < kLanes32; ++i) result[i] = pick(i) < kLanes32 ? a[pick(i)] : b[pick(i) - kLanes32];
  return result;
#else
  Words mask;
  for (int i = 0; i < kLanes32; ++i) mask[i] = static_cast<std::uint32_t>(pick(i));
  return __builtin_shuffle(a, b, mask);
#endif
}

FASTDL_INLINE void multiply(Words a, std::uint32_t factor, Words& high, Words& low) {
  typedef std::uint64_t Pairs __attribute__((vector_size(kVecBytes)));
  const Words even = multiply_even(a, factor), odd = multiply_even((Words)((Pairs)a >> 32), factor);
  low = shuffle(even, odd, [](int i) { return i % 2 ? kLanes32 + i - 1 : i; });
  high = shuffle(even, odd, [](int i) { return i % 2 ? kLanes32 + i : i + 1; });
}

// a[i] b[i] c[i] d[i] for lane after lane.
FASTDL_INLINE void store_interleaved(Words a, Words b, Words c, Words d, std::uint32_t* out) {
  constexpr int L = kLanes32;
  const auto low = [](int i) { return i / 2 + i % 2 * L; };
  const auto high = [](int i) { return L / 2 + i / 2 + i % 2 * L; };
  const auto low_pairs = [](int i) { return i / 4 * 2 + i % 2 + i / 2 % 2 * L; };
  const auto high_pairs = [](int i) { return L / 2 + i / 4 * 2 + i % 2 + i / 2 % 2 * L; };
  const Words ab[2] = {shuffle(a, b, low), shuffle(a, b, high)}, cd[2] = {shuffle(c, d, low), shuffle(c, d, high)};
  for (int half = 0; half < 2; ++half) {
    const Words first = shuffle(ab[half], cd[half], low_pairs), second = shuffle(ab[half], cd[half], high_pairs);
    __builtin_memcpy(out + 2 * half * L, &first, sizeof first);
    __builtin_memcpy(out + (2 * half + 1) * L, &second, sizeof second);
  }
}

// Words of kBlocks consecutive blocks of the stream, `block` after its first.
FASTDL_INLINE void make(PhiloxStream stream, std::uint64_t block, std::uint32_t* words) {
  const std::uint64_t first = stream.first + block, counter = stream.count();
  Words a[kGroups], b[kGroups], c[kGroups], d[kGroups];
  for (int g = 0; g < kGroups; ++g) {
    Words lane;
    for (int i = 0; i < kLanes32; ++i) lane[i] = static_cast<std::uint32_t>(g * kLanes32 + i);
    a[g] = lane + static_cast<std::uint32_t>(first);
    b[g] = static_cast<std::uint32_t>(first >> 32) - (Words)(a[g] < lane);  // a comparison that holds is -1
    c[g] = Words{} + static_cast<std::uint32_t>(counter);
    d[g] = Words{} + static_cast<std::uint32_t>(counter >> 32);
  }
  std::uint32_t k0 = static_cast<std::uint32_t>(stream.seed), k1 = static_cast<std::uint32_t>(stream.seed >> 32);
#pragma GCC unroll 10
  for (int round = 0; round < 10; ++round) {
#pragma GCC unroll 2
    for (int g = 0; g < kGroups; ++g) {
      Words left_high, left_low, right_high, right_low;
      multiply(a[g], 0xD2511F53u, left_high, left_low);
      multiply(c[g], 0xCD9E8D57u, right_high, right_low);
      a[g] = right_high ^ b[g] ^ k0;
      b[g] = right_low;
      c[g] = left_high ^ d[g] ^ k1;
      d[g] = left_low;
    }
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  for (int g = 0; g < kGroups; ++g) store_interleaved(a[g], b[g], c[g], d[g], words + g * 4 * kLanes32);
}

}  // namespace philox

}  // namespace fastdl::cpu::FASTDL_ISA
