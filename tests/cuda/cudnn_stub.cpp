// A stand-in for cuDNN's convolutions on host memory, in plain loops, for tests of the code that calls it. Calls that
// break the library's rules (attributes that are missing, of another type or don't fit, descriptors set after they are
// final or read before, no stream, too little workspace, arrays off the border that was promised, engines that were not
// asked for) are kept as text and fail. A descriptor is copied into those that are made of it.
//
// The three arrays are of one type, float32 or bfloat16; a gradient of weights in float32 beside bfloat16 is not
// supported, unless a test says that it is (stub_mix). Like the library it proposes engines that can't be planned or
// run, that may give other bits each time, that carry special values to other pixels, that round what they read, that
// want more memory than there is, that are compiled first, and some twice.
#include "cudnn_stub_convolution.h"

#if !defined(VERSION)
#define VERSION 91002
#endif

namespace fastdl::cudnn {

struct cudnnContext {
  bool stream_set = false;
};

namespace {

// The engines, by number.
enum Engine : int64_t {
  kUnstable,
  kUnplanned,
  kCannotRun,
  kHungry,
  kWinograd,
  kFft,
  kDown,
  kCompiled,
  kWorks,
  kTensorCore
};
const std::vector<int64_t> kProposed = {kUnstable, kUnplanned, kCannotRun, kHungry, kWinograd,
                                        kFft,      kDown,      kCompiled,  kWorks,  kTensorCore};
const std::vector<int64_t> kFallback = {kUnstable, kWorks};
constexpr int64_t kWorkspace = 4096;

std::vector<int> notes_of(int64_t engine) {
  switch (engine) {
    case kUnstable:
      return {CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC};
    case kWinograd:
      return {CUDNN_NUMERICAL_NOTE_TENSOR_CORE, CUDNN_NUMERICAL_NOTE_WINOGRAD, CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_4x4};
    case kFft:
      return {CUDNN_NUMERICAL_NOTE_FFT};
    case kTensorCore:
      return {CUDNN_NUMERICAL_NOTE_TENSOR_CORE};
    case kDown:
      return {CUDNN_NUMERICAL_NOTE_TENSOR_CORE, CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS};
    case kWorks:
      return {CUDNN_NUMERICAL_NOTE_STRICT_NAN_PROP};
    default:
      return {};
  }
}

int g_counts[3] = {}, g_tf32 = 0, g_descriptors = 0;
bool g_supports = true, g_create_fails = false, g_mixes = false, g_only_fallback = false;
std::string g_wrong;

cudnnStatus_t wrong(const std::string& what) {
  g_wrong += what + "\n";
  return CUDNN_STATUS_BAD_PARAM;
}

std::size_t size_of(cudnnBackendAttributeType_t type) {
  switch (type) {
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_INT64:
    case CUDNN_TYPE_VOID_PTR:
    case CUDNN_TYPE_BACKEND_DESCRIPTOR:
      return 8;
    default:
      return 4;
  }
}

// What each kind of descriptor has to be made of: name, type, count.
struct Need {
  int name;
  cudnnBackendAttributeType_t type;
  std::size_t count;
};
std::vector<Need> needs(cudnnBackendDescriptorType_t type) {
  switch (type) {
    case CUDNN_BACKEND_TENSOR_DESCRIPTOR:
      return {{CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1},
              {CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1},
              {CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4},
              {CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4},
              {CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1}};
    case CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR:
      return {{CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1},
              {CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1},
              {CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2},
              {CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2},
              {CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2},
              {CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2},
              {CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1}};
    case CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR:
      return {{CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1},
              {CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1}};
    case CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR:
      return {{CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1},
              {CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1}};
    case CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR:
      return {{CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1},
              {CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1}};
    case CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR:
      return {{CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, 3},
              {CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, 3},
              {CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1}};
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR:
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR:
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR: {
      const int first = kPasses[pass_of(type)];
      return {{first, CUDNN_TYPE_FLOAT, 1},
              {first + 1, CUDNN_TYPE_FLOAT, 1},
              {first + 2, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1},
              {first + 3, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1},
              {first + 4, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1},
              {first + 5, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1}};
    }
    default:
      return {{-1, CUDNN_TYPE_HANDLE, 0}};  // made by the library alone
  }
}

std::string check(const Descriptor& d) {
  switch (d.type) {
    case CUDNN_BACKEND_TENSOR_DESCRIPTOR: {
      const Tensor t(d);
      if (t.type != CUDNN_DATA_FLOAT && t.type != CUDNN_DATA_BFLOAT16) return "a type that it doesn't know";
      for (const int64_t size : t.size)
        if (size < 1) return "an array of nothing";
      const int64_t c = t.size[1], h = t.size[2], w = t.size[3];
      if (t.stride != std::vector<int64_t>{h * w * c, 1, w * c, c}) return "not channels-last";
      const int64_t item = t.type == CUDNN_DATA_FLOAT ? 4 : 2;
      if (t.border < item || (t.border & (t.border - 1)) != 0) return "no border";
      return "";
    }
    case CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR:
      if (d.one<int>(CUDNN_ATTR_CONVOLUTION_COMP_TYPE) != CUDNN_DATA_FLOAT ||
          d.one<int>(CUDNN_ATTR_CONVOLUTION_CONV_MODE) != CUDNN_CROSS_CORRELATION ||
          d.one<int64_t>(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS) != 2)
        return "a convolution of another kind";
      if (d.all<int64_t>(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS) != d.all<int64_t>(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS))
        return "paddings differ";
      for (std::size_t i = 0; i < 2; ++i)
        if (d.all<int64_t>(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS)[i] < 0 ||
            d.all<int64_t>(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES)[i] < 1 ||
            d.all<int64_t>(CUDNN_ATTR_CONVOLUTION_DILATIONS)[i] < 1)
          return "attributes out of range";
      return "";
    case CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR: {
      const auto handle = d.one<cudnnHandle_t>(CUDNN_ATTR_OPERATIONGRAPH_HANDLE);
      return handle == nullptr || !handle->stream_set ? "no handle, or no stream set" : "";
    }
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR:
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR:
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR:
      return check(Convolution(d));
    default:
      return "";
  }
}

bool supported(const Convolution& c) {
  const bool mixed = g_mixes && c.pass == 2 && c.w.type == CUDNN_DATA_FLOAT;
  return g_supports && c.x.type == c.y.type && (c.w.type == c.x.type || mixed);
}

const Descriptor& operation_of(const Descriptor& engine) {
  return engine.of(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH).of(CUDNN_ATTR_OPERATIONGRAPH_OPS);
}
const Descriptor& engine_of(const Descriptor& plan) {
  return plan.of(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG).of(CUDNN_ATTR_ENGINECFG_ENGINE);
}

// Configurations of the engines that a heuristic proposes.
std::vector<std::shared_ptr<Descriptor>> proposals(const Descriptor& heuristic) {
  const bool fallback = heuristic.one<int>(CUDNN_ATTR_ENGINEHEUR_MODE) == CUDNN_HEUR_MODE_FALLBACK;
  std::vector<std::shared_ptr<Descriptor>> made;
  for (const int64_t number : fallback ? kFallback : kProposed) {
    auto engine = std::make_shared<Descriptor>(Descriptor{CUDNN_BACKEND_ENGINE_DESCRIPTOR, true});
    engine->put<int64_t>(CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, {number});
    engine->put(CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE, notes_of(number));
    engine->put(CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE,
                number == kCompiled ? std::vector<int>{CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION} : std::vector<int>{});
    engine->attributes[CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH] =
        heuristic.attributes.at(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
    auto config = std::make_shared<Descriptor>(Descriptor{CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, true});
    config->attributes[CUDNN_ATTR_ENGINECFG_ENGINE] = {CUDNN_TYPE_BACKEND_DESCRIPTOR, {}, {engine}};
    made.push_back(config);
  }
  return made;
}

// What finalizing adds, or why it can't be.
cudnnStatus_t complete(Descriptor& d) {
  if (d.type == CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR) {
    const Descriptor& operation = d.of(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH).of(CUDNN_ATTR_OPERATIONGRAPH_OPS);
    const int mode = d.one<int>(CUDNN_ATTR_ENGINEHEUR_MODE);
    if (mode != CUDNN_HEUR_MODE_A && mode != CUDNN_HEUR_MODE_FALLBACK) return wrong("another heuristic");
    if (!supported(Convolution(operation)) || (g_only_fallback && mode == CUDNN_HEUR_MODE_A))
      return CUDNN_STATUS_NOT_SUPPORTED;
    d.attributes[CUDNN_ATTR_ENGINEHEUR_RESULTS] = {CUDNN_TYPE_BACKEND_DESCRIPTOR, {}, proposals(d)};
  }
  if (d.type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR) {
    const Descriptor& engine = engine_of(d);
    const Convolution c(operation_of(engine));
    const int64_t number = engine.one<int64_t>(CUDNN_ATTR_ENGINE_GLOBAL_INDEX);
    const bool aligned = c.x.border >= 16 && c.w.border >= 16 && c.y.border >= 16;
    if (number == kUnplanned || (number == kTensorCore && !aligned)) return CUDNN_STATUS_NOT_SUPPORTED;
    d.put<int64_t>(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64,
                   {number == kHungry ? int64_t{1} << 40 : kWorkspace});
  }
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t execute(const Descriptor& plan, const Descriptor& pack) {
  const Descriptor& engine = engine_of(plan);
  const int64_t number = engine.one<int64_t>(CUDNN_ATTR_ENGINE_GLOBAL_INDEX);
  const Convolution c(operation_of(engine));
  if (number == kCannotRun) return CUDNN_STATUS_NOT_SUPPORTED;
  const bool rounds = number == kTensorCore && c.x.type == CUDNN_DATA_FLOAT;
  if (number != kWorks && number != kTensorCore) return wrong("execute: an engine that should be ruled out");
  std::map<int64_t, void*> arrays;
  const auto ids = pack.all<int64_t>(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
  const auto pointers = pack.all<void*>(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
  for (std::size_t i = 0; i < 3; ++i) arrays[ids[i]] = pointers[i];
  for (const Tensor* t : {&c.x, &c.w, &c.y})
    if (arrays.count(t->id) == 0 || reinterpret_cast<std::uintptr_t>(arrays[t->id]) % std::uintptr_t(t->border) != 0)
      return wrong("execute: an array is missing, or off its border");
  void* const workspace = pack.one<void*>(CUDNN_ATTR_VARIANT_PACK_WORKSPACE);
  if (workspace == nullptr || reinterpret_cast<std::uintptr_t>(workspace) % 256 != 0)
    return wrong("execute: workspace's border");
  std::memset(workspace, 0x5a, kWorkspace);
  ++g_counts[c.pass];
  g_tf32 += rounds;
  make(c, arrays[c.x.id], arrays[c.w.id], arrays[c.y.id], arrays[c.result().id]);
  return CUDNN_STATUS_SUCCESS;
}

Descriptor& of(cudnnBackendDescriptor_t descriptor) { return *static_cast<Descriptor*>(descriptor); }

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
EXPORT void stub_only_fallback(bool only) { g_only_fallback = only; }
EXPORT void stub_reset(bool supports, bool create_fails) {
  g_mixes = g_only_fallback = false;
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

EXPORT cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type,
                                                  cudnnBackendDescriptor_t* descriptor) {
  ++g_descriptors;
  *descriptor = new Descriptor{type};
  return CUDNN_STATUS_SUCCESS;
}
EXPORT cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t descriptor) {
  --g_descriptors;
  delete static_cast<Descriptor*>(descriptor);
  return CUDNN_STATUS_SUCCESS;
}
EXPORT cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                                              cudnnBackendAttributeType_t type, int64_t count, const void* elements) {
  Descriptor& d = of(descriptor);
  if (d.final) return wrong("set: a final descriptor");
  bool known = false;
  for (const Need& need : needs(d.type))
    known |= need.name == name && need.type == type && static_cast<int64_t>(need.count) == count;
  if (!known) return wrong("set: attribute " + std::to_string(name) + " of another kind or count");
  const std::size_t bytes = static_cast<std::size_t>(count) * size_of(type);
  Attribute made{type, std::vector<char>(bytes), {}};
  std::memcpy(made.bytes.data(), elements, bytes);
  if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR)
    for (int64_t i = 0; i < count; ++i) {
      const Descriptor& part = of(static_cast<const cudnnBackendDescriptor_t*>(elements)[i]);
      if (!part.final) return wrong("set: a descriptor that isn't final");
      made.nested.push_back(std::make_shared<Descriptor>(part));
    }
  d.attributes[name] = made;
  return CUDNN_STATUS_SUCCESS;
}
EXPORT cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t descriptor) {
  Descriptor& d = of(descriptor);
  if (d.final) return wrong("finalize: twice");
  for (const Need& need : needs(d.type))
    if (d.attributes.count(need.name) == 0) return wrong("finalize: no attribute " + std::to_string(need.name));
  if (const std::string why = check(d); !why.empty()) return wrong("finalize: " + why);
  const cudnnStatus_t status = complete(d);
  d.final = status == CUDNN_STATUS_SUCCESS;
  return status;
}
EXPORT cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                                              cudnnBackendAttributeType_t type, int64_t wanted, int64_t* count,
                                              void* elements) {
  const Descriptor& d = of(descriptor);
  const auto found = d.attributes.find(name);
  if (!d.final || found == d.attributes.end() || found->second.type != type) return wrong("get: nothing of the kind");
  const Attribute& a = found->second;
  const bool nested = type == CUDNN_TYPE_BACKEND_DESCRIPTOR;
  *count = static_cast<int64_t>(nested ? a.nested.size() : a.bytes.size() / size_of(type));
  if (wanted < *count && (nested || name == CUDNN_ATTR_ENGINE_NUMERICAL_NOTE)) return wrong("get: too little room");
  if (!nested) {
    std::memcpy(elements, a.bytes.data(), a.bytes.size());
    return CUDNN_STATUS_SUCCESS;
  }
  for (std::size_t i = 0; i < a.nested.size(); ++i) {
    Descriptor& to = of(static_cast<cudnnBackendDescriptor_t*>(elements)[i]);
    if (to.type != a.nested[i]->type || to.final) return wrong("get: into another kind of descriptor");
    to = *a.nested[i];
  }
  return CUDNN_STATUS_SUCCESS;
}
EXPORT cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan,
                                         cudnnBackendDescriptor_t pack) {
  if (handle == nullptr || !handle->stream_set) return wrong("execute: no handle, or no stream set");
  if (of(plan).type != CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR || !of(plan).final) return wrong("execute: no plan");
  if (of(pack).type != CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR || !of(pack).final) return wrong("execute: no pack");
  return execute(of(plan), of(pack));
}

}  // namespace fastdl::cudnn
