// A convolution in cuDNN's graph interface: described as an operation on three arrays, the engines that the library
// proposes for it, and the plan of one, which runs.
#pragma once
#include <algorithm>
#include <array>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "cuda/convolve.h"
#include "cuda/cudnn.h"
#include "cuda/tuning.h"

namespace fastdl::cuda::gpu::convolving {

using namespace fastdl::cudnn;
using std::int64_t;
using std::size_t;

enum class Kind : std::uint8_t {
  f32,
  tf32,
  bf16,
};

struct Problem {
  Pass pass;
  Kind kind;
  const Conv2dDims& d;
  void *x, *weight, *y;  // of the three the pass overwrites one
  int device;
};

// Memory of the workspace that the library may use.
struct Scratch {
  void* data;
  size_t bytes;
};

// The library can't, or won't.
struct Refused {
  cudnnStatus_t status;
};
inline void expect(cudnnStatus_t status) {
  if (status != CUDNN_STATUS_SUCCESS) throw Refused{status};
}
inline void check(const Cudnn& dnn, cudnnStatus_t status, const char* what) {
  if (status != CUDNN_STATUS_SUCCESS)
    throw std::runtime_error(std::string(what) + ": " + dnn.cudnnGetErrorString(status));
}

constexpr cudnnBackendAttributeType_t type_of(cudnnHandle_t) { return CUDNN_TYPE_HANDLE; }
constexpr cudnnBackendAttributeType_t type_of(cudnnDataType_t) { return CUDNN_TYPE_DATA_TYPE; }
constexpr cudnnBackendAttributeType_t type_of(int64_t) { return CUDNN_TYPE_INT64; }
constexpr cudnnBackendAttributeType_t type_of(float) { return CUDNN_TYPE_FLOAT; }
constexpr cudnnBackendAttributeType_t type_of(void*) { return CUDNN_TYPE_VOID_PTR; }
constexpr cudnnBackendAttributeType_t type_of(cudnnConvolutionMode_t) { return CUDNN_TYPE_CONVOLUTION_MODE; }
constexpr cudnnBackendAttributeType_t type_of(cudnnBackendHeurMode_t) { return CUDNN_TYPE_HEUR_MODE; }
constexpr cudnnBackendAttributeType_t type_of(cudnnBackendNumericalNote_t) { return CUDNN_TYPE_NUMERICAL_NOTE; }
constexpr cudnnBackendAttributeType_t type_of(cudnnBackendBehaviorNote_t) { return CUDNN_TYPE_BEHAVIOR_NOTE; }

// A descriptor of the library's. It keeps what it needs of those that it is made of: they may go.
class Descriptor {
 public:
  Descriptor() = default;
  Descriptor(const Cudnn& dnn, cudnnBackendDescriptorType_t type) : dnn_(&dnn) {
    expect(dnn.cudnnBackendCreateDescriptor(type, &descriptor_));
  }
  Descriptor(Descriptor&& other) noexcept { swap(other); }
  Descriptor& operator=(Descriptor&& other) noexcept { return swap(other), *this; }
  ~Descriptor() {
    if (descriptor_ != nullptr) dnn_->cudnnBackendDestroyDescriptor(descriptor_);
  }

  template <class T>
  Descriptor& set(cudnnBackendAttributeName_t name, T value) {
    return put(name, type_of(value), 1, &value);
  }
  template <class T, size_t n>
  Descriptor& set(cudnnBackendAttributeName_t name, const std::array<T, n>& values) {
    return put(name, type_of(values[0]), n, values.data());
  }
  Descriptor& set(cudnnBackendAttributeName_t name, const Descriptor& value) {
    return put(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value.descriptor_);
  }
  Descriptor& finalize() {
    expect(dnn_->cudnnBackendFinalize(descriptor_));
    return *this;
  }

  template <class T>
  T get(cudnnBackendAttributeName_t name) const {
    return all<T>(name, 1).at(0);
  }
  // As many values as there is room for, or fewer.
  template <class T>
  std::vector<T> all(cudnnBackendAttributeName_t name, size_t room) const {
    std::vector<T> values(room);
    values.resize(take(name, type_of(T{}), room, values.data()));
    return values;
  }
  std::vector<Descriptor> all(cudnnBackendAttributeName_t name, cudnnBackendDescriptorType_t type, size_t room) const {
    std::vector<Descriptor> made;
    std::vector<cudnnBackendDescriptor_t> raw;
    for (size_t i = 0; i < room; ++i) raw.push_back(made.emplace_back(*dnn_, type).descriptor_);
    made.resize(take(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, room, raw.data()));
    return made;
  }

  explicit operator bool() const { return descriptor_ != nullptr; }
  cudnnBackendDescriptor_t raw() const { return descriptor_; }

 private:
  void swap(Descriptor& other) {
    std::swap(dnn_, other.dnn_);
    std::swap(descriptor_, other.descriptor_);
  }
  Descriptor& put(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, size_t count,
                  const void* values) {
    expect(dnn_->cudnnBackendSetAttribute(descriptor_, name, type, static_cast<int64_t>(count), values));
    return *this;
  }
  size_t take(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, size_t room, void* values) const {
    int64_t count = 0;
    expect(dnn_->cudnnBackendGetAttribute(descriptor_, name, type, static_cast<int64_t>(room), &count, values));
    return std::min(static_cast<size_t>(count), room);
  }

  const Cudnn* dnn_ = nullptr;
  cudnnBackendDescriptor_t descriptor_ = nullptr;
};

enum : int64_t { kX = 1, kWeight, kY };  // the arrays' names in a graph

// One of the three arrays, channels-last.
inline Descriptor tensor(const Cudnn& dnn, int64_t id, cudnnDataType_t type, const void* data, int64_t n, int64_t c,
                         int64_t h, int64_t w) {
  Descriptor made(dnn, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  made.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, id)
      .set(CUDNN_ATTR_TENSOR_DATA_TYPE, type)
      .set(CUDNN_ATTR_TENSOR_DIMENSIONS, std::array{n, c, h, w})
      .set(CUDNN_ATTR_TENSOR_STRIDES, std::array{h * w * c, int64_t{1}, w * c, c})
      .set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, int64_t{alignment(data)})
      .finalize();
  return made;
}

// The graph of the one operation. rounded: a gradient of bfloat16's weights is made in bfloat16 too.
inline Descriptor describe(const Cudnn& dnn, cudnnHandle_t handle, const Problem& p, bool rounded) {
  const Conv2dDims& d = p.d;
  const auto& [kernel, stride, padding, dilation] = d.window;
  const auto pair = [](const check::Pair& both) { return std::array{both.first, both.second}; };
  Descriptor convolution(dnn, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
  convolution.set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_DATA_FLOAT)
      .set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_CROSS_CORRELATION)
      .set(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, int64_t{2})
      .set(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, pair(stride))
      .set(CUDNN_ATTR_CONVOLUTION_DILATIONS, pair(dilation))
      .set(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, pair(padding))
      .set(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, pair(padding))
      .finalize();

  struct Names {
    cudnnBackendDescriptorType_t operation;
    cudnnBackendAttributeName_t alpha, beta, convolution, x, weight, y;
  };
  constexpr Names kNames[] = {
      {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
       CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
       CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
       CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y},
      {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
       CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
       CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
       CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY},
      {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
       CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA,
       CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
       CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY},
  };
  const Names& names = kNames[static_cast<size_t>(p.pass)];
  const cudnnDataType_t type = p.kind == Kind::bf16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
  const cudnnDataType_t of_weight = p.pass == Pass::weight_gradient && !rounded ? CUDNN_DATA_FLOAT : type;
  Descriptor operation(dnn, names.operation);
  operation.set(names.alpha, 1.0f)
      .set(names.beta, 0.0f)
      .set(names.convolution, convolution)
      .set(names.x, tensor(dnn, kX, type, p.x, d.n, d.c, d.h, d.w))
      .set(names.weight, tensor(dnn, kWeight, of_weight, rounded ? nullptr : p.weight, d.o, d.c / d.groups,
                                kernel.first, kernel.second))
      .set(names.y, tensor(dnn, kY, type, p.y, d.n, d.o, d.oh, d.ow))
      .finalize();
  Descriptor graph(dnn, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
  graph.set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, handle).set(CUDNN_ATTR_OPERATIONGRAPH_OPS, operation).finalize();
  return graph;
}

// Configurations of engines: by falling expected speed, or those that serve what the others can't.
inline std::vector<Descriptor> proposals(const Cudnn& dnn, const Descriptor& graph, cudnnBackendHeurMode_t mode) try {
  constexpr size_t kMost = 64;  // about forty are seen
  Descriptor heuristics(dnn, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
  heuristics.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph).set(CUDNN_ATTR_ENGINEHEUR_MODE, mode).finalize();
  return heuristics.all(CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, kMost);
} catch (const Refused&) {
  return {};
}

// Does an engine give the same bits every time, add up in float the products of the arrays as they are, and begin at
// once? Transforms of tiles or images carry infinity and NaN to pixels that don't read them, and lose digits. Some are
// compiled when they are planned, for seconds.
inline bool is_eligible(const Descriptor& engine, Kind kind) {
  constexpr size_t kMost = 16;  // notes; more than there are
  for (const auto note : engine.all<cudnnBackendNumericalNote_t>(CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, kMost)) {
    const bool tensor_cores = note == CUDNN_NUMERICAL_NOTE_TENSOR_CORE && kind != Kind::f32;
    if (!tensor_cores && note != CUDNN_NUMERICAL_NOTE_STRICT_NAN_PROP) return false;
  }
  const auto needs = engine.all<cudnnBackendBehaviorNote_t>(CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, kMost);
  return std::find(needs.begin(), needs.end(), CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION) == needs.end();
}

// What runs. engine: its number in the library; bytes: of workspace; rounded: as in describe.
struct Execution {
  Descriptor plan;
  int64_t engine = -1;
  size_t bytes = 0;
  bool rounded = false;
};

// The plan of a proposal; without one where the engine can't make it, or not as is_eligible says.
inline Execution plan_of(const Cudnn& dnn, cudnnHandle_t handle, const Descriptor& proposal, Kind kind,
                         bool rounded) try {
  const std::vector<Descriptor> engine = proposal.all(CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_BACKEND_ENGINE_DESCRIPTOR, 1);
  if (!is_eligible(engine.at(0), kind)) return {};
  Descriptor plan(dnn, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
  plan.set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, handle).set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, proposal).finalize();
  const auto bytes = static_cast<size_t>(plan.get<int64_t>(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE));
  return {std::move(plan), engine[0].get<int64_t>(CUDNN_ATTR_ENGINE_GLOBAL_INDEX), bytes, rounded};
} catch (const Refused&) {
  return {};
}

inline cudnnStatus_t execute(const Cudnn& dnn, cudnnHandle_t handle, const Problem& p, const Execution& execution,
                             const Scratch& scratch) try {
  Descriptor pack(dnn, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
  pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, std::array<int64_t, 3>{kX, kWeight, kY})
      .set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, std::array<void*, 3>{p.x, p.weight, p.y})
      .set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, scratch.data)
      .finalize();
  return dnn.cudnnBackendExecute(handle, execution.plan.raw(), pack.raw());
} catch (const Refused& refused) {
  return refused.status;
}

}  // namespace fastdl::cuda::gpu::convolving
