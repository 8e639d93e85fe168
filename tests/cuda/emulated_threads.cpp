// Kernels that keep CUDA's rules for threads, and kernels that break one of them, for tests of csrc/cuda/emulated.h.
#include <algorithm>
#include <exception>
#include <string>
#include <vector>

#include "cuda/on_chip.h"
#include "cuda/tensor_tile.h"

using namespace fastdl::cuda::gpu;

namespace {

std::vector<float> g_results;  // one for each of a block's threads

struct Numbered {
  float* to;
};

// The sum of all threads' numbers, and how many before have an odd one.
struct Sums : Numbered {
  void operator()(const Block& block) const {
    int odd;
    const int before = block.rank(block.thread % 2 == 1, odd);
    const float sum = block.sum(static_cast<float>(block.thread)),
                most = block.reduce(sum, [](float a, float b) { return max_of(a, b); });
    to[block.thread] = most + static_cast<float>(before) / static_cast<float>(2 * odd);
  }
};

// The neighbour's number, which it may not have written yet without a barrier.
template <bool waits>
struct Neighbour : Numbered {
  void operator()(const Block& block) const {
    FASTDL_SHARED(float, numbers, [kThreads]);
    numbers[block.thread] = static_cast<float>(block.thread);
    if (waits) block.sync();
    to[block.thread] = numbers[(block.thread + 1) % block.threads];
  }
};

// What the waits promise of copies: `running` of two groups may not be there yet.
template <int running>
struct Copies : Numbered {
  void operator()(const Block& block) const {
    alignas(16) static const float from[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    FASTDL_SHARED(float, there, [kThreads][8]);
    float* const mine = there[block.thread];
    copy_async(mine, from);
    end_group();
    copy_async(mine + 4, from + 4);
    end_group();
    wait_for_groups<running>();
    to[block.thread] = mine[0] + mine[7];
  }
};

struct Leaves : Numbered {
  void operator()(const Block& block) const {
    if (block.thread == 5) return;
    block.sync();
  }
};
struct Differ : Numbered {
  void operator()(const Block& block) const {
    to[block.thread] = block.thread % 2 == 0 ? static_cast<float>(ballot(true))
                                             : reduce_lanes(1.0f, [](float a, float b) { return a + b; });
  }
};
struct Beyond : Numbered {
  void operator()(const Block& block) const {
    FASTDL_SHARED(float, numbers, [kThreads]);
    numbers[block.thread + 1] = 1;
  }
};
struct OffBorder : Numbered {
  void operator()(const Block& block) const { to[block.thread] = load_pack<2>(to + 1).v[0]; }
};
struct Hungry : Numbered {
  static constexpr int kThreads = 256, kBlocks = 1, kSharedBytes = 100 << 10;
  void operator()(const Block&) const {}
};

__global__ void wait_for_grid(float* to) {
  to[threadIdx.x] = static_cast<float>(blockIdx.x);
  sync_grid();
  if (blockIdx.x == 0) to[threadIdx.x] += 10;
}

void run(const std::string& name) {
  const Numbered all{g_results.data()};
  if (name == "sums") return for_tasks(3, kThreads, Sums{all});
  if (name == "neighbour") return for_tasks(3, kThreads, Neighbour<true>{all});
  if (name == "race") return for_tasks(3, kThreads, Neighbour<false>{all});
  if (name == "all copies") return for_tasks(1, kThreads, Copies<0>{all});
  if (name == "first copies") return for_tasks(1, kThreads, Copies<1>{all});
  if (name == "leaves") return for_tasks(1, kThreads, Leaves{all});
  if (name == "differ") return for_tasks(1, kThreads, Differ{all});
  if (name == "beyond") return for_tasks(1, kThreads, Beyond{all});
  if (name == "off border") return for_tasks(1, kThreads, OffBorder{all});
  if (name == "hungry") return for_tasks(1, kThreads, Hungry{all});
  if (name == "grid") return launch(wait_for_grid, {4, kThreads, 0, true}, g_results.data());
  if (name == "large grid") return launch(wait_for_grid, {5, kThreads, 0, true}, g_results.data());
  if (name == "plain grid") return launch(wait_for_grid, {4, kThreads, 0, false}, g_results.data());
  if (name == "odd threads") return launch(wait_for_grid, {4, 40, 0, true}, g_results.data());
}

}  // namespace

// Runs the kernel of that name with its threads in that order; what it threw, or "".
extern "C" __attribute__((visibility("default"))) const char* run_kernel(const char* name, unsigned order,
                                                                         float* results) {
  static std::string error;
  error.clear();
  g_results.assign(kThreads, -1);
  emulate_order(order);
  try {
    run(name);
  } catch (const std::exception& e) {
    error = e.what();
  }
  std::copy(g_results.begin(), g_results.end(), results);
  return error.c_str();
}
