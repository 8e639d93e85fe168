// cuDNN's calls for a convolution, each in the form of its pass, and what is kept for a kind of convolution.
#pragma once
#include <array>
#include <memory>
#include <stdexcept>
#include <string>

#include "cuda/convolve.h"
#include "cuda/cudnn.h"

namespace fastdl::cuda::gpu::convolving {

using namespace fastdl::cudnn;
using std::int64_t;
using std::size_t;

constexpr int kOwn = 1 << 16;    // fastdl's own kernel, among the numbers of the library's algorithms
constexpr int kMostListed = 32;  // more than any pass has algorithms and kinds of math

enum class Kind : std::uint8_t {
  f32,
  tf32,
  bf16,
  widened,  // floats that were bfloat16: math as of tf32, and sums are added to what the result has
};

struct Problem {
  Pass pass;
  Kind kind;
  const Conv2dDims& d;
  void *x, *weight, *y;  // of the three the pass overwrites one
  int device;
};

inline void check(const Cudnn& dnn, cudnnStatus_t status, const char* what) {
  if (status != CUDNN_STATUS_SUCCESS)
    throw std::runtime_error(std::string(what) + ": " + dnn.cudnnGetErrorString(status));
}

template <class T>
using Owned = std::unique_ptr<T, cudnnStatus_t (*)(T*)>;

template <class T>
Owned<T> make(const Cudnn& dnn, cudnnStatus_t (*create)(T**), cudnnStatus_t (*destroy)(T*)) {
  T* made = nullptr;
  check(dnn, create(&made), "a descriptor of cuDNN can't be made");
  return Owned<T>(made, destroy);
}

// What is kept for a kind of convolution. status: not success where the library can't make it; algorithm: or kOwn.
struct Plan {
  Owned<cudnnTensorStruct> x, y;
  Owned<cudnnFilterStruct> weight;
  Owned<cudnnConvolutionStruct> convolution;
  int algorithm = 0;
  cudnnStatus_t status = CUDNN_STATUS_NOT_SUPPORTED;
  int candidates = 0;
  float milliseconds = 0;

  bool serves() const { return status == CUDNN_STATUS_SUCCESS && algorithm != kOwn; }
};

// What the library refuses to describe is left to the own kernel.
inline Plan describe(const Cudnn& dnn, const Problem& p) {
  const auto narrow = [](int64_t x) { return static_cast<int>(x); };
  const Conv2dDims& d = p.d;
  const auto& [kernel, stride, padding, dilation] = d.window;
  const cudnnDataType_t type = p.kind == Kind::bf16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
  const cudnnDataType_t of_weight = p.pass == Pass::weight_gradient ? CUDNN_DATA_FLOAT : type;
  Plan plan{make(dnn, dnn.cudnnCreateTensorDescriptor, dnn.cudnnDestroyTensorDescriptor),
            make(dnn, dnn.cudnnCreateTensorDescriptor, dnn.cudnnDestroyTensorDescriptor),
            make(dnn, dnn.cudnnCreateFilterDescriptor, dnn.cudnnDestroyFilterDescriptor),
            make(dnn, dnn.cudnnCreateConvolutionDescriptor, dnn.cudnnDestroyConvolutionDescriptor)};
  plan.status = CUDNN_STATUS_SUCCESS;
  for (const cudnnStatus_t status :
       {dnn.cudnnSetTensor4dDescriptor(plan.x.get(), CUDNN_TENSOR_NHWC, type, narrow(d.n), narrow(d.c), narrow(d.h),
                                       narrow(d.w)),
        dnn.cudnnSetTensor4dDescriptor(plan.y.get(), CUDNN_TENSOR_NHWC, type, narrow(d.n), narrow(d.o), narrow(d.oh),
                                       narrow(d.ow)),
        dnn.cudnnSetFilter4dDescriptor(plan.weight.get(), of_weight, CUDNN_TENSOR_NHWC, narrow(d.o),
                                       narrow(d.c / d.groups), narrow(kernel.first), narrow(kernel.second)),
        dnn.cudnnSetConvolution2dDescriptor(plan.convolution.get(), narrow(padding.first), narrow(padding.second),
                                            narrow(stride.first), narrow(stride.second), narrow(dilation.first),
                                            narrow(dilation.second), CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT),
        dnn.cudnnSetConvolutionGroupCount(plan.convolution.get(), narrow(d.groups)),
        dnn.cudnnSetConvolutionMathType(plan.convolution.get(),
                                        p.kind == Kind::f32 ? CUDNN_FMA_MATH : CUDNN_DEFAULT_MATH)})
    if (status != CUDNN_STATUS_SUCCESS) plan.status = status;
  return plan;
}

// The library's calls, each in the pass's form.

using Listed = std::array<cudnnConvolutionFwdAlgoPerf_t, kMostListed>;
inline cudnnStatus_t list(const Cudnn& dnn, cudnnHandle_t handle, Pass pass, const Plan& p, Listed& out, int& count) {
  auto *const x = p.x.get(), *const y = p.y.get();
  auto* const w = p.weight.get();
  auto* const conv = p.convolution.get();
  switch (pass) {
    case Pass::forward:
      return dnn.cudnnGetConvolutionForwardAlgorithm_v7(handle, x, w, conv, y, kMostListed, &count, out.data());
    case Pass::input_gradient:
      return dnn.cudnnGetConvolutionBackwardDataAlgorithm_v7(handle, w, y, conv, x, kMostListed, &count, out.data());
    default:
      return dnn.cudnnGetConvolutionBackwardFilterAlgorithm_v7(handle, x, y, conv, w, kMostListed, &count, out.data());
  }
}

inline cudnnStatus_t measure(const Cudnn& dnn, cudnnHandle_t handle, Pass pass, const Plan& p, int algorithm,
                             size_t& bytes) {
  auto *const x = p.x.get(), *const y = p.y.get();
  auto* const w = p.weight.get();
  auto* const conv = p.convolution.get();
  switch (pass) {
    case Pass::forward:
      return dnn.cudnnGetConvolutionForwardWorkspaceSize(handle, x, w, conv, y, algorithm, &bytes);
    case Pass::input_gradient:
      return dnn.cudnnGetConvolutionBackwardDataWorkspaceSize(handle, w, y, conv, x, algorithm, &bytes);
    default:
      return dnn.cudnnGetConvolutionBackwardFilterWorkspaceSize(handle, x, y, conv, w, algorithm, &bytes);
  }
}

// Memory of the workspace that the library may use.
struct Scratch {
  void* data;
  size_t bytes;
};

inline cudnnStatus_t run(const Cudnn& dnn, cudnnHandle_t handle, const Problem& p, const Plan& plan, int algorithm,
                         const Scratch& scratch) {
  static const float one = 1, zero = 0;
  const float* const beta = p.kind == Kind::widened ? &one : &zero;
  auto *const x = plan.x.get(), *const y = plan.y.get();
  auto* const w = plan.weight.get();
  auto* const conv = plan.convolution.get();
  switch (p.pass) {
    case Pass::forward:
      return dnn.cudnnConvolutionForward(handle, &one, x, p.x, w, p.weight, conv, algorithm, scratch.data,
                                         scratch.bytes, beta, y, p.y);
    case Pass::input_gradient:
      return dnn.cudnnConvolutionBackwardData(handle, &one, w, p.weight, y, p.y, conv, algorithm, scratch.data,
                                              scratch.bytes, beta, x, p.x);
    default:
      return dnn.cudnnConvolutionBackwardFilter(handle, &one, x, p.x, y, p.y, conv, algorithm, scratch.data,
                                                scratch.bytes, beta, w, p.weight);
  }
}

// Transforms of tiles or images carry infinity and NaN to pixels that don't read them, and lose digits.
inline bool transforms(Pass pass, int algorithm) {
  switch (pass) {
    case Pass::forward:
      return algorithm >= CUDNN_CONVOLUTION_FWD_ALGO_FFT;
    case Pass::input_gradient:
      return algorithm >= CUDNN_CONVOLUTION_BWD_DATA_ALGO_FFT;
    default:
      return algorithm == CUDNN_CONVOLUTION_BWD_FILTER_ALGO_FFT ||
             algorithm >= CUDNN_CONVOLUTION_BWD_FILTER_ALGO_WINOGRAD;
  }
}

// Is it the algorithm's first mention, and does each of them promise the same bits every time?
inline bool is_candidate(const Listed& listed, int count, int i) {
  const auto& one = listed[static_cast<size_t>(i)];
  if (one.status != CUDNN_STATUS_SUCCESS) return false;
  for (int j = 0; j < count; ++j) {
    const auto& other = listed[static_cast<size_t>(j)];
    if (other.status != CUDNN_STATUS_SUCCESS || other.algo != one.algo) continue;
    if (j < i || other.determinism != CUDNN_DETERMINISTIC) return false;
  }
  return true;
}

}  // namespace fastdl::cuda::gpu::convolving
