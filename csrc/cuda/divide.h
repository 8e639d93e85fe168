// Division by a number that the host knows: a product and a shift, where the device's own takes dozens of instructions.
#pragma once
#include <type_traits>

#include "cuda/launch.h"

namespace fastdl::cuda::gpu {

// x / divisor for 0 <= x < 2^62. With 2^s >= divisor and m = 2^(62+s) / divisor, rounded up, it is x m >> (62+s): m is
// too large by less than 2^s / divisor, the quotient by less than 1 / divisor. A divisor of 0 has nothing to divide.
struct Divider {
  int64_t divisor;
  std::uint64_t multiplier;
  int shift = 0;

  explicit Divider(int64_t by = 1) : divisor(by > 0 ? by : 1) {
    while ((int64_t{1} << shift) < divisor) ++shift;
    const auto wide = static_cast<unsigned __int128>(divisor);
    multiplier = static_cast<std::uint64_t>(((static_cast<unsigned __int128>(1) << (62 + shift)) + wide - 1) / wide);
  }
  FASTDL_DEVICE_ONLY int64_t operator()(int64_t x) const {
    const auto high = static_cast<std::uint64_t>(x) << 2;
#if defined(__CUDA_ARCH__)
    return static_cast<int64_t>(__umul64hi(high, multiplier) >> shift);
#else
    return static_cast<int64_t>(static_cast<std::uint64_t>((static_cast<unsigned __int128>(high) * multiplier) >> 64) >>
                                shift);
#endif
  }
};

// The same for 0 <= x < 2^31 in 32 bits, a third of the instructions.
struct Divider32 {
  std::int32_t divisor;
  std::uint32_t multiplier;
  int shift = 0;

  explicit Divider32(int64_t by = 1) : divisor(static_cast<std::int32_t>(by > 0 ? by : 1)) {
    while ((int64_t{1} << shift) < divisor) ++shift;
    multiplier = static_cast<std::uint32_t>(((int64_t{1} << (31 + shift)) + divisor - 1) / divisor);
  }
  FASTDL_DEVICE_ONLY std::int32_t operator()(std::int32_t x) const {
    const auto high = static_cast<std::uint32_t>(x) << 1;
#if defined(__CUDA_ARCH__)
    return static_cast<std::int32_t>(__umulhi(high, multiplier) >> shift);
#else
    return static_cast<std::int32_t>(static_cast<std::uint32_t>((std::uint64_t{high} * multiplier) >> 32) >> shift);
#endif
  }
};

// The one for numbers of type I.
template <class I>
using DividerOf = std::conditional_t<sizeof(I) == sizeof(std::int32_t), Divider32, Divider>;

}  // namespace fastdl::cuda::gpu
