// Random words, a block of four per thread.
#include "core/philox.h"

#include "cuda/map.h"
#include "cuda/philox_words.h"

namespace fastdl::cuda::gpu {

namespace {

struct RandomWords {
  PhiloxStream stream;
  PhiloxKeys keys;
  std::uint32_t* words;
  template <int N>
  FASTDL_DEVICE_ONLY void run(int64_t i, Nothing) const {
    const Words made = philox_words(stream, keys, i);
    Pack<std::uint32_t, N> out;
    for (int k = 0; k < N; ++k) out.v[k] = word_of<N>(made, i, k);
    store_pack(words + i, out);
  }
};

}  // namespace

void random_words(PhiloxStream stream, int64_t n, std::uint32_t* words) {
  for_packs<kPhiloxBlock>(n, on_border(words), PrepareNothing{}, RandomWords{stream, PhiloxKeys(stream.seed), words});
}

FASTDL_REGISTER(random_words)

}  // namespace fastdl::cuda::gpu
