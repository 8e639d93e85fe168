// Matrix products by cuBLASLt, for the kernels that have a product of their own to fall back on.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "core/view.h"

namespace fastdl::cuda::gpu {

// A matrix by its strides in elements, and from one batch's matrix to the next one's.
struct Strided {
  const void* data;
  std::int64_t row, column, apart = 0;
};

// cuBLASLt's ReLU epilogues are left out: they make 0 of NaN, and fastdl's ReLU keeps it.
enum class Epilogue : std::uint8_t {
  none,
  bias,      // adds vector [n] to every row
  row_sums,  // writes a's sums over k to vector [m]: the bias gradient beside dweight = dy^T x
};

// c = a @ b for each of `batch`. c [batch,m,n], contiguous, overwritten, aliases no input.   a [m,k]   b [k,n]
// The operands' dtype and that of c and vector: the same, or float32 of bfloat16, whose products are added in float.
struct Matmul {
  DType dtype, result;
  std::int64_t batch, m, n, k;
  Strided a, b;
  void* c;
  Epilogue epilogue = Epilogue::none;
  void* vector = nullptr;
};

// Makes the product on this thread's stream, or returns false: no library, strides that it can't express, nothing to
// multiply, or an epilogue or type that it lacks. The first product of a kind (sizes, strides, alignment) runs several
// algorithms to choose one, on the real arrays; while a graph is captured such a product raises, as it could not be
// made like that and would give other bits than the eager step.
bool matmul(const Matmul& product);

// Float32 products, and convolutions (convolve.h), with operands rounded to TF32 (10 bits of mantissa) on tensor cores;
// off until asked for.
void set_tf32(bool on);
bool get_tf32();

// One line for each kind of product so far: what was chosen, or why fastdl's own kernels serve it.
std::vector<std::string> describe_plans();
void forget_plans();

}  // namespace fastdl::cuda::gpu
