// Convolutions by cuDNN, for csrc/cuda/conv2d.cu, which has a kernel of its own to fall back on.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "core/conv2d.h"

namespace fastdl::cuda::gpu {

enum class Pass : std::uint8_t {
  forward,          // y of x and weight
  input_gradient,   // dx of dy and weight
  weight_gradient,  // dweight of x and dy
};

// fastdl's own kernel where it is offered beside the library's plans: all of the work, and the pass that has to
// follow the library's sums.
struct Own {
  std::function<void()> run, finish;
};

// Makes the convolution on this thread's stream, or returns false: no library, float64, nothing to add up, arrays
// that its 32-bit places can't name, a kind that it has no deterministic engine for, or one that `own` makes no
// slower. a, b and result (overwritten, no input's memory) as the pass has them, laid out as conv2d.h says, all
// float32 or all bfloat16 except for the weight gradient, which is float32. The first convolution of a kind (sizes,
// attributes, alignment) runs several plans to choose one, on the real arrays; while a graph is captured such a
// convolution raises, as it could not be made like that and would give other bits than the eager step. set_tf32
// (matmul.h) holds here too.
bool convolve(Pass pass, const View& a, const View& b, const View& result, const Conv2dDims& d, const Own& own = {});

// One line for each kind of convolution so far: what was chosen, or why fastdl's own kernel serves it.
std::vector<std::string> describe_convolutions();
void forget_convolutions();

}  // namespace fastdl::cuda::gpu
