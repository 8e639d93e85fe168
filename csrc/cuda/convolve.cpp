// cuDNN's kernels for channels-last arrays read filters by taps by channels, fastdl's weights are filters by channels
// by taps: they are put in order in the workspace on the way in, and weight gradients on the way out.
//
// Of the library's algorithms those that give the same bits each time, and add up products of the arrays themselves,
// are run and timed here: its own search would also try them with the math that was not asked for, and once each.
#include "cuda/convolve.h"

#include <array>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>

#include "cuda/cudnn.h"
#include "cuda/matmul.h"
#include "cuda/tuning.h"

namespace fastdl::cuda::gpu {

void copy(View src, Out dst);  // csrc/cuda/copy.cu

namespace {

using namespace fastdl::cudnn;
using std::int64_t;
using std::size_t;

constexpr int kMostListed = 32;  // more than any pass has algorithms and kinds of math

// Of workspace(), for the library and the ordered weights together: always all of it, so that the block of a stream is
// made once. What an algorithm may want has no bound (columns, transforms of whole batches); this is room for sums of a
// cut k and for weights, and little beside the activations of a network whose convolutions take long.
#if defined(FASTDL_CUDA)
constexpr size_t kWorkspace = size_t{256} << 20;
#else
constexpr size_t kWorkspace = size_t{1} << 20;
#endif

struct Problem {
  Pass pass;
  const Conv2dDims& d;
  void *x, *weight, *y;  // of the three the pass overwrites one
  int device;
  bool tf32;
};

using Key = std::array<int64_t, 20>;
Key key_of(const Problem& p) {
  const Conv2dDims& d = p.d;
  const auto& [kernel, stride, padding, dilation] = d.window;
  return {p.device,
          int64_t(p.pass),
          p.tf32,
          d.n,
          d.c,
          d.h,
          d.w,
          d.o,
          d.groups,
          kernel.first,
          kernel.second,
          stride.first,
          stride.second,
          padding.first,
          padding.second,
          dilation.first,
          dilation.second,
          alignment(p.x),
          alignment(p.weight),
          alignment(p.y)};
}

bool fits(const Conv2dDims& d) {
  constexpr int64_t kMost = std::numeric_limits<int>::max();
  const int64_t weight = d.o * (d.c / d.groups) * d.window.kernel_size.first * d.window.kernel_size.second;
  const int64_t x = d.n * d.c * d.h * d.w, y = d.n * d.o * d.oh * d.ow;
  return x > 0 && y > 0 && weight > 0 && x <= kMost && y <= kMost && weight <= kMost;
}

void check(const Cudnn& dnn, cudnnStatus_t status, const char* what) {
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

// What is kept for a kind of convolution. status: not success where the library can't make it.
struct Plan {
  Owned<cudnnTensorStruct> x, y;
  Owned<cudnnFilterStruct> weight;
  Owned<cudnnConvolutionStruct> convolution;
  int algorithm = 0;
  cudnnStatus_t status = CUDNN_STATUS_NOT_SUPPORTED;
  int candidates = 0;
  float milliseconds = 0;
};

// What the library refuses to describe is left to the own kernel.
Plan describe(const Cudnn& dnn, const Problem& p) {
  const auto narrow = [](int64_t x) { return static_cast<int>(x); };
  const Conv2dDims& d = p.d;
  const auto& [kernel, stride, padding, dilation] = d.window;
  Plan plan{make(dnn, dnn.cudnnCreateTensorDescriptor, dnn.cudnnDestroyTensorDescriptor),
            make(dnn, dnn.cudnnCreateTensorDescriptor, dnn.cudnnDestroyTensorDescriptor),
            make(dnn, dnn.cudnnCreateFilterDescriptor, dnn.cudnnDestroyFilterDescriptor),
            make(dnn, dnn.cudnnCreateConvolutionDescriptor, dnn.cudnnDestroyConvolutionDescriptor)};
  plan.status = CUDNN_STATUS_SUCCESS;
  for (const cudnnStatus_t status :
       {dnn.cudnnSetTensor4dDescriptor(plan.x.get(), CUDNN_TENSOR_NHWC, CUDNN_DATA_FLOAT, narrow(d.n), narrow(d.c),
                                       narrow(d.h), narrow(d.w)),
        dnn.cudnnSetTensor4dDescriptor(plan.y.get(), CUDNN_TENSOR_NHWC, CUDNN_DATA_FLOAT, narrow(d.n), narrow(d.o),
                                       narrow(d.oh), narrow(d.ow)),
        dnn.cudnnSetFilter4dDescriptor(plan.weight.get(), CUDNN_DATA_FLOAT, CUDNN_TENSOR_NHWC, narrow(d.o),
                                       narrow(d.c / d.groups), narrow(kernel.first), narrow(kernel.second)),
        dnn.cudnnSetConvolution2dDescriptor(plan.convolution.get(), narrow(padding.first), narrow(padding.second),
                                            narrow(stride.first), narrow(stride.second), narrow(dilation.first),
                                            narrow(dilation.second), CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT),
        dnn.cudnnSetConvolutionGroupCount(plan.convolution.get(), narrow(d.groups)),
        dnn.cudnnSetConvolutionMathType(plan.convolution.get(), p.tf32 ? CUDNN_DEFAULT_MATH : CUDNN_FMA_MATH)})
    if (status != CUDNN_STATUS_SUCCESS) plan.status = status;
  return plan;
}

// The library's calls, each in the pass's form.

using Listed = std::array<cudnnConvolutionFwdAlgoPerf_t, kMostListed>;
cudnnStatus_t list(const Cudnn& dnn, cudnnHandle_t handle, Pass pass, const Plan& p, Listed& out, int& count) {
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

cudnnStatus_t measure(const Cudnn& dnn, cudnnHandle_t handle, Pass pass, const Plan& p, int algorithm, size_t& bytes) {
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

cudnnStatus_t run(const Cudnn& dnn, cudnnHandle_t handle, const Problem& p, const Plan& plan, int algorithm,
                  const Scratch& scratch) {
  static const float one = 1, zero = 0;
  auto *const x = plan.x.get(), *const y = plan.y.get();
  auto* const w = plan.weight.get();
  auto* const conv = plan.convolution.get();
  switch (p.pass) {
    case Pass::forward:
      return dnn.cudnnConvolutionForward(handle, &one, x, p.x, w, p.weight, conv, algorithm, scratch.data,
                                         scratch.bytes, &zero, y, p.y);
    case Pass::input_gradient:
      return dnn.cudnnConvolutionBackwardData(handle, &one, w, p.weight, y, p.y, conv, algorithm, scratch.data,
                                              scratch.bytes, &zero, x, p.x);
    default:
      return dnn.cudnnConvolutionBackwardFilter(handle, &one, x, p.x, y, p.y, conv, algorithm, scratch.data,
                                                scratch.bytes, &zero, w, p.weight);
  }
}

// Transforms of tiles or images carry infinity and NaN to pixels that don't read them, and lose digits.
bool transforms(Pass pass, int algorithm) {
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
bool is_candidate(const Listed& listed, int count, int i) {
  const auto& one = listed[static_cast<size_t>(i)];
  if (one.status != CUDNN_STATUS_SUCCESS) return false;
  for (int j = 0; j < count; ++j) {
    const auto& other = listed[static_cast<size_t>(j)];
    if (other.status != CUDNN_STATUS_SUCCESS || other.algo != one.algo) continue;
    if (j < i || other.determinism != CUDNN_DETERMINISTIC) return false;
  }
  return true;
}

void choose(const Cudnn& dnn, cudnnHandle_t handle, const Problem& p, Plan& plan, const Scratch& scratch) {
  Listed listed{};
  int count = 0;
  plan.status = list(dnn, handle, p.pass, plan, listed, count);
  if (plan.status != CUDNN_STATUS_SUCCESS) return;
  plan.status = CUDNN_STATUS_NOT_SUPPORTED;
  Fastest fastest;
  for (int i = 0; i < count; ++i) {
    const int algorithm = listed[static_cast<size_t>(i)].algo;
    if (!is_candidate(listed, count, i) || transforms(p.pass, algorithm)) continue;
    size_t bytes = 0;
    if (measure(dnn, handle, p.pass, plan, algorithm, bytes) != CUDNN_STATUS_SUCCESS || bytes > scratch.bytes) continue;
    ++plan.candidates;
    fastest.offer(algorithm, [&] { return run(dnn, handle, p, plan, algorithm, scratch) == CUDNN_STATUS_SUCCESS; });
  }
  if (fastest.chosen < 0) return;
  plan.status = CUDNN_STATUS_SUCCESS;
  plan.algorithm = fastest.chosen;
  plan.milliseconds = fastest.milliseconds;
}

std::mutex g_mutex;  // for all below, and while a plan or a handle is in use
// Never destroyed: at the end of the process the library may be gone before them.
auto& g_plans = *new std::map<Key, Plan>;
struct Handle {
  cudnnHandle_t handle = nullptr;
  cudnnStatus_t status;  // not success where none can be made: a part of the library is missing, say
};
auto& g_handles = *new std::map<int, Handle>;  // by device

const Handle& handle_of(const Cudnn& dnn, int device) {
  const auto [at, added] = g_handles.try_emplace(device);
  if (added) at->second.status = dnn.cudnnCreate(&at->second.handle);
  return at->second;
}

// [filters][channels][taps] of `data` as [filters][taps][channels], or with `back` the other way around.
View reordered(void* data, const Conv2dDims& d, bool back) {
  const int64_t channels = d.c / d.groups, taps = d.window.kernel_size.first * d.window.kernel_size.second;
  const int64_t outer = back ? taps : channels, inner = back ? channels : taps;
  return {data, DType::f32, 3, {d.o, inner, outer}, {outer * inner, 1, inner}};
}
View contiguous(void* data, const View& like) {
  const auto& shape = like.shape;
  return {data, DType::f32, 3, {shape[0], shape[1], shape[2]}, {shape[1] * shape[2], shape[2], 1}};
}

}  // namespace

bool convolve(Pass pass, const View& a, const View& b, const View& result, const Conv2dDims& d) {
  if (result.dtype != DType::f32 || !fits(d)) return false;
  const Cudnn* const dnn = cudnn().get();
  if (dnn == nullptr) return false;
  const bool to_weight = pass == Pass::weight_gradient;
  const View& x = pass == Pass::input_gradient ? result : a;
  const View& weight = to_weight ? result : b;
  const View& y = pass == Pass::forward ? result : (to_weight ? b : a);
  const bool reorder = d.c > d.groups && d.window.kernel_size != check::Pair{1, 1};
  const size_t bytes = reorder ? (static_cast<size_t>(weight.size()) * sizeof(float) + 255) / 256 * 256 : 0;
  if (bytes > kWorkspace / 2) return false;

  Problem p{pass, d, x.data, reorder ? nullptr : weight.data, y.data, current_device(), get_tf32()};
  const std::lock_guard<std::mutex> lock(g_mutex);
  const Key key = key_of(p);
  auto at = g_plans.find(key);
  if (at != g_plans.end() && at->second.status != CUDNN_STATUS_SUCCESS) return false;
  if (at == g_plans.end() && is_capturing()) refuse_capture("the choice of a convolution's algorithm");

  auto* const memory = static_cast<char*>(workspace(kWorkspace));
  const Scratch scratch{memory, kWorkspace - bytes};
  if (reorder) p.weight = memory + scratch.bytes;
  const auto& [handle, made] = handle_of(*dnn, p.device);
  if (made == CUDNN_STATUS_SUCCESS) check(*dnn, dnn->cudnnSetStream(handle, current_stream()), "cudnnSetStream");
  if (reorder && !to_weight) {
    const View from = reordered(weight.data, d, false);
    copy(from, contiguous(p.weight, from));
  }
  if (at == g_plans.end()) {
    Plan plan = describe(*dnn, p);
    if (made != CUDNN_STATUS_SUCCESS) plan.status = made;
    if (plan.status == CUDNN_STATUS_SUCCESS) choose(*dnn, handle, p, plan, scratch);
    at = g_plans.emplace(key, std::move(plan)).first;
  }
  const Plan& plan = at->second;
  if (plan.status != CUDNN_STATUS_SUCCESS) return false;
  check(*dnn, run(*dnn, handle, p, plan, plan.algorithm, scratch), "cuDNN's convolution");
  if (reorder && to_weight) {
    const View from = reordered(p.weight, d, true);
    copy(from, contiguous(weight.data, from));
  }
  return true;
}

void forget_convolutions() {
  const std::lock_guard<std::mutex> lock(g_mutex);
  g_plans.clear();
  g_handles.clear();
}

std::vector<std::string> describe_convolutions() {
  const std::lock_guard<std::mutex> lock(g_mutex);
  std::vector<std::string> lines;
  for (const auto& [key, plan] : g_plans) {
    const auto number = [&](size_t i) { return std::to_string(key[i]); };
    const auto pair = [&](size_t i) { return number(i) + "x" + number(i + 1); };
    const char* const passes[] = {" forward", " input gradient", " weight gradient"};
    std::string line = (key[2] != 0 ? "tf32" : "float32") + std::string(passes[key[1]]);
    line += " " + number(3) + "x" + number(4) + "x" + pair(5) + ", " + number(7) + " filters " + pair(9) + ", groups " +
            number(8) + ", stride " + pair(11) + ", padding " + pair(13) + ", dilation " + pair(15) + ", alignment " +
            number(17) + " " + number(18) + " " + number(19) + ": ";
    if (plan.status == CUDNN_STATUS_SUCCESS)
      line += "algorithm " + std::to_string(plan.algorithm) + " of " + std::to_string(plan.candidates) + ", " +
              std::to_string(plan.milliseconds) + " ms";
    else
      line += "own kernel, status " + std::to_string(plan.status);
    lines.push_back(line);
  }
  return lines;
}

}  // namespace fastdl::cuda::gpu
