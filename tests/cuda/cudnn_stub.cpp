// A stand-in for cuDNN's convolutions on host memory, in plain loops, for tests of the code that calls it. Calls that
// break the library's rules (descriptors that are missing or don't fit, no stream, too little workspace, algorithms
// that were not asked for or not promised) are kept as text and fail.
//
// The three arrays are of one type, float32 or bfloat16; a gradient of weights in float32 beside bfloat16 is not
// supported, unless a test says that it is (stub_mix). Like the library it lists algorithms that can't run, that may
// give other bits each time, that carry special values to other pixels, that want more memory than there is, and some
// twice.
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "core/bfloat16.h"
#include "cuda/cudnn_api.h"

#if !defined(VERSION)
#define VERSION 91002
#endif

namespace fastdl::cudnn {

struct cudnnContext {
  bool stream_set = false;
};
struct cudnnTensorStruct {
  int size[4] = {};
  std::int64_t stride[4] = {};
  cudnnDataType_t type = CUDNN_DATA_FLOAT;
};
struct cudnnFilterStruct {
  int size[4] = {};
  std::int64_t stride[4] = {};
  cudnnDataType_t type = CUDNN_DATA_FLOAT;
};
struct cudnnConvolutionStruct {
  int padding[2] = {}, stride[2] = {}, dilation[2] = {}, groups = 0;
  cudnnMathType_t math = static_cast<cudnnMathType_t>(-1);
};

namespace {

// Of each pass's algorithms, by number.
enum Kind { kWorks, kUnstable, kCannotRun, kHungry, kUnsupported, kSpreads, kNone };
constexpr Kind kKinds[3][8] = {
    {kUnstable, kWorks, kCannotRun, kHungry, kUnsupported, kSpreads, kSpreads, kSpreads},
    {kUnstable, kWorks, kSpreads, kSpreads, kUnsupported, kSpreads, kNone, kNone},
    {kUnstable, kWorks, kSpreads, kUnstable, kUnsupported, kSpreads, kSpreads, kNone},
};
constexpr std::size_t kWorkspace = 4096;

int g_counts[3] = {}, g_tf32 = 0, g_descriptors = 0;
bool g_supports = true, g_create_fails = false, g_mixes = false;
std::string g_wrong;

cudnnStatus_t wrong(const std::string& what) {
  g_wrong += what + "\n";
  return CUDNN_STATUS_BAD_PARAM;
}

// Sizes in the order n, c, h, w with the strides of the format.
template <class Descriptor>
cudnnStatus_t set(Descriptor* to, cudnnTensorFormat_t format, cudnnDataType_t type, int n, int c, int h, int w) {
  if (type != CUDNN_DATA_FLOAT && type != CUDNN_DATA_BFLOAT16) return wrong("a type that it doesn't know");
  for (const int size : {n, c, h, w})
    if (size < 1) return wrong("a descriptor of nothing");
  const std::int64_t C = c, H = h, W = w;
  *to = {{n, c, h, w}, {}, type};
  const std::int64_t nchw[] = {C * H * W, H * W, W, 1}, nhwc[] = {H * W * C, 1, W * C, C};
  std::memcpy(to->stride, format == CUDNN_TENSOR_NHWC ? nhwc : nchw, sizeof nchw);
  return CUDNN_STATUS_SUCCESS;
}

std::string check(cudnnHandle_t handle, cudnnTensorDescriptor_t x, cudnnFilterDescriptor_t w,
                  cudnnConvolutionDescriptor_t conv, cudnnTensorDescriptor_t y) {
  if (handle == nullptr || !handle->stream_set) return "no handle, or no stream set";
  if (x->size[0] == 0 || y->size[0] == 0 || w->size[0] == 0 || conv->stride[0] == 0) return "a descriptor not set";
  if (conv->groups < 1) return "no group count set";
  if (conv->math != CUDNN_DEFAULT_MATH && conv->math != CUDNN_FMA_MATH) return "no math type set";
  if (x->type == CUDNN_DATA_BFLOAT16 && conv->math == CUDNN_FMA_MATH) return "bfloat16 kept from its tensor cores";
  if (x->size[0] != y->size[0] || y->size[1] != w->size[0]) return "batches or filters differ";
  if (x->size[1] != w->size[1] * conv->groups || w->size[0] % conv->groups != 0) return "groups don't fit";
  for (int i = 0; i < 2; ++i) {
    const std::int64_t reach = std::int64_t{conv->dilation[i]} * (w->size[2 + i] - 1) + 1;
    const std::int64_t room = x->size[2 + i] + std::int64_t{2} * conv->padding[i] - reach;
    if (room < 0 || room / conv->stride[i] + 1 != y->size[2 + i]) return "the output's size doesn't fit";
  }
  return "";
}

// The sums of one of the passes into a dense array as long as the result, in float64. f(sum's place, a, b).
template <class F>
void walk(const cudnnTensorStruct& x, const cudnnFilterStruct& w, const cudnnConvolutionStruct& conv,
          const cudnnTensorStruct& y, const F& f) {
  const int filters = w.size[0] / conv.groups, channels = w.size[1];
  for (int n = 0; n < y.size[0]; ++n)
    for (int o = 0; o < y.size[1]; ++o)
      for (int p = 0; p < y.size[2]; ++p)
        for (int q = 0; q < y.size[3]; ++q)
          for (int c = 0; c < channels; ++c)
            for (int i = 0; i < w.size[2]; ++i)
              for (int j = 0; j < w.size[3]; ++j) {
                const std::int64_t h = std::int64_t{p} * conv.stride[0] + std::int64_t{i} * conv.dilation[0];
                const std::int64_t v = std::int64_t{q} * conv.stride[1] + std::int64_t{j} * conv.dilation[1];
                const std::int64_t row = h - conv.padding[0], column = v - conv.padding[1];
                if (row < 0 || row >= x.size[2] || column < 0 || column >= x.size[3]) continue;
                f(n * x.stride[0] + (o / filters * channels + c) * x.stride[1] + row * x.stride[2] +
                      column * x.stride[3],
                  o * w.stride[0] + c * w.stride[1] + i * w.stride[2] + j * w.stride[3],
                  n * y.stride[0] + o * y.stride[1] + p * y.stride[2] + q * y.stride[3]);
              }
}

template <class Descriptor>
std::size_t count_of(const Descriptor& d) {
  std::size_t count = 1;
  for (const int size : d.size) count *= static_cast<std::size_t>(size);
  return count;
}

// An element of an array of this type.
double at(const void* p, cudnnDataType_t type, std::int64_t i) {
  return static_cast<double>(type == CUDNN_DATA_FLOAT ? static_cast<const float*>(p)[i]
                                                      : static_cast<float>(static_cast<const bfloat16*>(p)[i]));
}

void blend(const std::vector<double>& sums, const void* alpha, const void* beta, void* to, cudnnDataType_t type) {
  const double a = static_cast<double>(*static_cast<const float*>(alpha)), b = *static_cast<const float*>(beta);
  for (std::size_t i = 0; i < sums.size(); ++i) {
    const double x = a * sums[i] + (b == 0 ? 0 : b * at(to, type, static_cast<std::int64_t>(i)));
    if (type == CUDNN_DATA_FLOAT)
      static_cast<float*>(to)[i] = static_cast<float>(x);
    else
      static_cast<bfloat16*>(to)[i] = bfloat16(x);
  }
}

bool supported(int pass, cudnnTensorDescriptor_t x, cudnnFilterDescriptor_t w, cudnnTensorDescriptor_t y) {
  const bool mixed = g_mixes && pass == 2 && w->type == CUDNN_DATA_FLOAT;
  return g_supports && x->type == y->type && (w->type == x->type || mixed);
}

cudnnStatus_t list(const std::string& why, bool supported, int pass, int wanted, int* found,
                   cudnnConvolutionFwdAlgoPerf_t* results, cudnnMathType_t math) {
  *found = 0;
  if (!why.empty()) return wrong("list: " + why);
  if (wanted < 10) return wrong("list: too few algorithms wanted");
  if (!supported) return CUDNN_STATUS_NOT_SUPPORTED;
  const auto add = [&](int algo, Kind kind, cudnnDeterminism_t determinism, cudnnMathType_t of) {
    const cudnnStatus_t status = kind == kUnsupported ? CUDNN_STATUS_NOT_SUPPORTED : CUDNN_STATUS_SUCCESS;
    results[(*found)++] = {algo, status, -1, kWorkspace, determinism, of, {}};
  };
  for (int algo = 0; algo < 8; ++algo)
    if (const Kind kind = kKinds[pass][algo]; kind != kNone)
      add(algo, kind, kind == kUnstable ? CUDNN_NON_DETERMINISTIC : CUDNN_DETERMINISTIC, math);
  add(0, kUnstable, CUDNN_DETERMINISTIC, CUDNN_DEFAULT_MATH);
  add(1, kWorks, CUDNN_DETERMINISTIC, CUDNN_DEFAULT_MATH);
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t measure(const std::string& why, int pass, int algo, std::size_t* bytes) {
  if (!why.empty()) return wrong("workspace: " + why);
  const Kind kind = kKinds[pass][algo];
  if (kind == kUnsupported) return wrong("workspace: an algorithm whose status was an error");
  *bytes = kind == kHungry ? std::size_t{1} << 40 : kWorkspace;
  return CUDNN_STATUS_SUCCESS;
}

// Whether the call may be made; success: it is counted, and the workspace overwritten.
cudnnStatus_t begin(const std::string& why, int pass, int algo, void* workspace, std::size_t bytes,
                    cudnnMathType_t math) {
  if (!why.empty()) return wrong("call: " + why);
  const Kind kind = kKinds[pass][algo];
  if (kind == kUnstable) return wrong("call: an algorithm that may give other bits");
  if (kind == kSpreads) return wrong("call: an algorithm that spreads special values");
  if (kind == kUnsupported || kind == kHungry) return wrong("call: an algorithm that was ruled out");
  if (kind == kCannotRun) return CUDNN_STATUS_NOT_SUPPORTED;
  if (bytes < kWorkspace) return wrong("call: too little workspace");
  if (reinterpret_cast<std::uintptr_t>(workspace) % 256 != 0) return wrong("call: workspace's border");
  std::memset(workspace, 0x5a, bytes);
  ++g_counts[pass];
  g_tf32 += math == CUDNN_DEFAULT_MATH;
  return CUDNN_STATUS_SUCCESS;
}

template <class T>
cudnnStatus_t create(T** made) {
  ++g_descriptors;
  *made = new T{};
  return CUDNN_STATUS_SUCCESS;
}
template <class T>
cudnnStatus_t destroy(T* made) {
  --g_descriptors;
  delete made;
  return CUDNN_STATUS_SUCCESS;
}

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))

// For the tests.
EXPORT int stub_count(const char* what) {
  const std::string name = what;
  return name == "forward"           ? g_counts[0]
         : name == "input gradient"  ? g_counts[1]
         : name == "weight gradient" ? g_counts[2]
         : name == "tf32"            ? g_tf32
         : name == "descriptors"     ? g_descriptors
                                     : -1;
}
EXPORT const char* stub_wrong() { return g_wrong.c_str(); }
EXPORT void stub_mix(bool mixes) { g_mixes = mixes; }
EXPORT void stub_reset(bool supports, bool create_fails) {
  g_mixes = false;
  g_counts[0] = g_counts[1] = g_counts[2] = g_tf32 = 0;
  g_wrong.clear();
  g_supports = supports;
  g_create_fails = create_fails;
}

EXPORT std::size_t cudnnGetVersion() { return VERSION; }
EXPORT const char* cudnnGetErrorString(cudnnStatus_t status) {
  return status == CUDNN_STATUS_BAD_PARAM ? "CUDNN_STATUS_BAD_PARAM" : "another status";
}
EXPORT cudnnStatus_t cudnnCreate(cudnnHandle_t* handle) {
  if (g_create_fails) return 1001;
  static cudnnContext context;
  context = {};
  *handle = &context;
  return CUDNN_STATUS_SUCCESS;
}
EXPORT cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, void*) {
  handle->stream_set = true;
  return CUDNN_STATUS_SUCCESS;
}

EXPORT cudnnStatus_t cudnnCreateTensorDescriptor(cudnnTensorDescriptor_t* tensor) { return create(tensor); }
EXPORT cudnnStatus_t cudnnDestroyTensorDescriptor(cudnnTensorDescriptor_t tensor) { return destroy(tensor); }
EXPORT cudnnStatus_t cudnnSetTensor4dDescriptor(cudnnTensorDescriptor_t tensor, cudnnTensorFormat_t format,
                                                cudnnDataType_t type, int n, int c, int h, int w) {
  return set(tensor, format, type, n, c, h, w);
}
EXPORT cudnnStatus_t cudnnCreateFilterDescriptor(cudnnFilterDescriptor_t* filter) { return create(filter); }
EXPORT cudnnStatus_t cudnnDestroyFilterDescriptor(cudnnFilterDescriptor_t filter) { return destroy(filter); }
EXPORT cudnnStatus_t cudnnSetFilter4dDescriptor(cudnnFilterDescriptor_t filter, cudnnDataType_t type,
                                                cudnnTensorFormat_t format, int k, int c, int h, int w) {
  return set(filter, format, type, k, c, h, w);
}
EXPORT cudnnStatus_t cudnnCreateConvolutionDescriptor(cudnnConvolutionDescriptor_t* conv) { return create(conv); }
EXPORT cudnnStatus_t cudnnDestroyConvolutionDescriptor(cudnnConvolutionDescriptor_t conv) { return destroy(conv); }
EXPORT cudnnStatus_t cudnnSetConvolution2dDescriptor(cudnnConvolutionDescriptor_t conv, int pad_h, int pad_w,
                                                     int stride_h, int stride_w, int dilation_h, int dilation_w,
                                                     cudnnConvolutionMode_t mode, cudnnDataType_t compute) {
  if (mode != CUDNN_CROSS_CORRELATION || compute != CUDNN_DATA_FLOAT) return wrong("a convolution of another kind");
  if (pad_h < 0 || pad_w < 0 || stride_h < 1 || stride_w < 1 || dilation_h < 1 || dilation_w < 1)
    return wrong("attributes out of range");
  *conv = {{pad_h, pad_w}, {stride_h, stride_w}, {dilation_h, dilation_w}, conv->groups, conv->math};
  return CUDNN_STATUS_SUCCESS;
}
EXPORT cudnnStatus_t cudnnSetConvolutionGroupCount(cudnnConvolutionDescriptor_t conv, int groups) {
  conv->groups = groups;
  return CUDNN_STATUS_SUCCESS;
}
EXPORT cudnnStatus_t cudnnSetConvolutionMathType(cudnnConvolutionDescriptor_t conv, cudnnMathType_t math) {
  conv->math = math;
  return CUDNN_STATUS_SUCCESS;
}

EXPORT cudnnStatus_t cudnnGetConvolutionForwardAlgorithm_v7(cudnnHandle_t handle, cudnnTensorDescriptor_t x,
                                                            cudnnFilterDescriptor_t w,
                                                            cudnnConvolutionDescriptor_t conv,
                                                            cudnnTensorDescriptor_t y, int wanted, int* found,
                                                            cudnnConvolutionFwdAlgoPerf_t* results) {
  return list(check(handle, x, w, conv, y), supported(0, x, w, y), 0, wanted, found, results, conv->math);
}
EXPORT cudnnStatus_t cudnnGetConvolutionBackwardDataAlgorithm_v7(cudnnHandle_t handle, cudnnFilterDescriptor_t w,
                                                                 cudnnTensorDescriptor_t dy,
                                                                 cudnnConvolutionDescriptor_t conv,
                                                                 cudnnTensorDescriptor_t dx, int wanted, int* found,
                                                                 cudnnConvolutionBwdDataAlgoPerf_t* results) {
  return list(check(handle, dx, w, conv, dy), supported(1, dx, w, dy), 1, wanted, found, results, conv->math);
}
EXPORT cudnnStatus_t cudnnGetConvolutionBackwardFilterAlgorithm_v7(cudnnHandle_t handle, cudnnTensorDescriptor_t x,
                                                                   cudnnTensorDescriptor_t dy,
                                                                   cudnnConvolutionDescriptor_t conv,
                                                                   cudnnFilterDescriptor_t dw, int wanted, int* found,
                                                                   cudnnConvolutionBwdFilterAlgoPerf_t* results) {
  return list(check(handle, x, dw, conv, dy), supported(2, x, dw, dy), 2, wanted, found, results, conv->math);
}

EXPORT cudnnStatus_t cudnnGetConvolutionForwardWorkspaceSize(cudnnHandle_t handle, cudnnTensorDescriptor_t x,
                                                             cudnnFilterDescriptor_t w,
                                                             cudnnConvolutionDescriptor_t conv,
                                                             cudnnTensorDescriptor_t y, cudnnConvolutionFwdAlgo_t algo,
                                                             std::size_t* bytes) {
  return measure(check(handle, x, w, conv, y), 0, algo, bytes);
}
EXPORT cudnnStatus_t cudnnGetConvolutionBackwardDataWorkspaceSize(
    cudnnHandle_t handle, cudnnFilterDescriptor_t w, cudnnTensorDescriptor_t dy, cudnnConvolutionDescriptor_t conv,
    cudnnTensorDescriptor_t dx, cudnnConvolutionBwdDataAlgo_t algo, std::size_t* bytes) {
  return measure(check(handle, dx, w, conv, dy), 1, algo, bytes);
}
EXPORT cudnnStatus_t cudnnGetConvolutionBackwardFilterWorkspaceSize(
    cudnnHandle_t handle, cudnnTensorDescriptor_t x, cudnnTensorDescriptor_t dy, cudnnConvolutionDescriptor_t conv,
    cudnnFilterDescriptor_t dw, cudnnConvolutionBwdFilterAlgo_t algo, std::size_t* bytes) {
  return measure(check(handle, x, dw, conv, dy), 2, algo, bytes);
}

EXPORT cudnnStatus_t cudnnConvolutionForward(cudnnHandle_t handle, const void* alpha, cudnnTensorDescriptor_t xd,
                                             const void* x, cudnnFilterDescriptor_t wd, const void* w,
                                             cudnnConvolutionDescriptor_t conv, cudnnConvolutionFwdAlgo_t algo,
                                             void* workspace, std::size_t bytes, const void* beta,
                                             cudnnTensorDescriptor_t yd, void* y) {
  const cudnnStatus_t status = begin(check(handle, xd, wd, conv, yd), 0, algo, workspace, bytes, conv->math);
  if (status != CUDNN_STATUS_SUCCESS) return status;
  std::vector<double> sums(count_of(*yd));
  walk(*xd, *wd, *conv, *yd,
       [&](auto i, auto j, auto k) { sums[static_cast<std::size_t>(k)] += at(x, xd->type, i) * at(w, wd->type, j); });
  blend(sums, alpha, beta, y, yd->type);
  return status;
}
EXPORT cudnnStatus_t cudnnConvolutionBackwardData(cudnnHandle_t handle, const void* alpha, cudnnFilterDescriptor_t wd,
                                                  const void* w, cudnnTensorDescriptor_t dyd, const void* dy,
                                                  cudnnConvolutionDescriptor_t conv, cudnnConvolutionBwdDataAlgo_t algo,
                                                  void* workspace, std::size_t bytes, const void* beta,
                                                  cudnnTensorDescriptor_t dxd, void* dx) {
  const cudnnStatus_t status = begin(check(handle, dxd, wd, conv, dyd), 1, algo, workspace, bytes, conv->math);
  if (status != CUDNN_STATUS_SUCCESS) return status;
  std::vector<double> sums(count_of(*dxd));
  walk(*dxd, *wd, *conv, *dyd,
       [&](auto i, auto j, auto k) { sums[static_cast<std::size_t>(i)] += at(w, wd->type, j) * at(dy, dyd->type, k); });
  blend(sums, alpha, beta, dx, dxd->type);
  return status;
}
EXPORT cudnnStatus_t cudnnConvolutionBackwardFilter(cudnnHandle_t handle, const void* alpha, cudnnTensorDescriptor_t xd,
                                                    const void* x, cudnnTensorDescriptor_t dyd, const void* dy,
                                                    cudnnConvolutionDescriptor_t conv,
                                                    cudnnConvolutionBwdFilterAlgo_t algo, void* workspace,
                                                    std::size_t bytes, const void* beta, cudnnFilterDescriptor_t dwd,
                                                    void* dw) {
  const cudnnStatus_t status = begin(check(handle, xd, dwd, conv, dyd), 2, algo, workspace, bytes, conv->math);
  if (status != CUDNN_STATUS_SUCCESS) return status;
  std::vector<double> sums(count_of(*dwd));
  walk(*xd, *dwd, *conv, *dyd,
       [&](auto i, auto j, auto k) { sums[static_cast<std::size_t>(j)] += at(x, xd->type, i) * at(dy, dyd->type, k); });
  blend(sums, alpha, beta, dw, dwd->type);
  return status;
}

}  // namespace fastdl::cudnn
