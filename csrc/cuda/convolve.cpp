// cuDNN's kernels for channels-last arrays read filters by taps by channels, fastdl's weights are filters by channels
// by taps: those that lie otherwise are put in order in the workspace on the way in, and weight gradients on the way
// out.
//
// Of the plans that the library proposes, by what it expects of their speed, the first few that give the same bits each
// time and add up products of the arrays themselves are run and timed here. Where fastdl's own kernel is offered too it
// comes first, and is left for what is faster with the pass that follows it.
//
// A gradient of bfloat16's weights in float32 is made by few of the library's engines, if by any. Those that make it in
// bfloat16, as PyTorch's is, are tried as well, and what they made is turned to float32: its sums were added up in
// float32 and have been rounded once.
#include "cuda/convolve.h"

#include <algorithm>
#include <array>
#include <limits>
#include <map>
#include <mutex>

#include "cuda/convolve_calls.h"
#include "cuda/matmul.h"
#include "cuda/tuning.h"

namespace fastdl::cuda::gpu {

// csrc/cuda/copy.cu
void cast(View x, Out y);
void copy(View src, Out dst);

namespace {

using namespace convolving;

// Of workspace(), for the library and the ordered weights together: always all of it, so that the block of a stream is
// made once. What an algorithm may want has no bound (columns, transforms of whole batches); this is room for sums of a
// cut k and for weights, and little beside the activations of a network whose convolutions take long.
#if defined(FASTDL_CUDA)
constexpr size_t kWorkspace = size_t{256} << 20;
#else
constexpr size_t kWorkspace = size_t{1} << 20;
#endif

using Key = std::array<int64_t, 20>;
Key key_of(const Problem& p) {
  const Conv2dDims& d = p.d;
  const auto& [kernel, stride, padding, dilation] = d.window;
  Key key{p.device, int64_t(p.pass), int64_t(p.kind), d.n, d.c, d.h, d.w, d.o, d.groups};
  size_t i = 9;
  for (const check::Pair& pair : {kernel, stride, padding, dilation}) {
    key[i++] = pair.first;
    key[i++] = pair.second;
  }
  for (const void* const array : {p.x, p.weight, p.y}) key[i++] = alignment(array);
  return key;
}

int64_t weight_size(const Conv2dDims& d) {
  return d.o * (d.c / d.groups) * d.window.kernel_size.first * d.window.kernel_size.second;
}
bool fits(const Conv2dDims& d) {
  constexpr int64_t kMost = std::numeric_limits<int>::max();
  const int64_t weight = weight_size(d);
  const int64_t x = d.n * d.c * d.h * d.w, y = d.n * d.o * d.oh * d.ow;
  return x > 0 && y > 0 && weight > 0 && x <= kMost && y <= kMost && weight <= kMost;
}

// What is kept for a kind of convolution. status: not success where the library can't make it.
struct Plan {
  cudnnStatus_t status = CUDNN_STATUS_NOT_SUPPORTED;
  bool own = false;  // fastdl's kernel was chosen, or is the only one
  Execution execution;
  int candidates = 0;
  float milliseconds = 0;

  bool serves() const { return status == CUDNN_STATUS_SUCCESS && !own; }
};

size_t to_border(int64_t bytes) { return (static_cast<size_t>(bytes) + 255) / 256 * 256; }
// Of the workspace, for a gradient of weights in bfloat16.
size_t rounded_bytes(const Conv2dDims& d, bool rounded) {
  return rounded ? to_border(weight_size(d) * item_size(DType::bf16)) : 0;
}

// Makes the convolution, of rounded weights first where the workspace begins.
cudnnStatus_t run(const Cudnn& dnn, cudnnHandle_t handle, const Problem& p, const Execution& execution,
                  const Scratch& scratch) {
  if (!execution.rounded) return execute(dnn, handle, p, execution, scratch);
  Problem rounded = p;
  rounded.weight = scratch.data;
  const size_t room = rounded_bytes(p.d, true);
  const cudnnStatus_t status =
      execute(dnn, handle, rounded, execution, {static_cast<char*>(scratch.data) + room, scratch.bytes - room});
  const int64_t size = weight_size(p.d);
  if (status == CUDNN_STATUS_SUCCESS)
    cast(View{rounded.weight, DType::bf16, 1, {size}, {1}}, View{p.weight, DType::f32, 1, {size}, {1}});
  return status;
}

// What a choice begins with: fastdl's own kernel and its time, or nothing, and what the library's sums need besides.
constexpr int kOwn = 1 << 16;  // its number
struct Before {
  Fastest fastest;
  std::function<void()> finish;
};

// The fastest plan, or why the library has none.
void choose(const Cudnn& dnn, cudnnHandle_t handle, const Problem& p, Plan& plan, const Scratch& scratch,
            const Before& before) {
  constexpr size_t kMostTimed = 8;
  std::vector<Execution> candidates;
  Fastest fastest = before.fastest;
  // Runs the first few that can be planned. rounded: of those that make the result in bfloat16.
  const auto offer = [&](bool rounded) {
    const Descriptor graph = describe(dnn, handle, p, rounded);
    const size_t none = candidates.size(), bytes = scratch.bytes - rounded_bytes(p.d, rounded);
    for (const cudnnBackendHeurMode_t mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK}) {
      const size_t most = none + (mode == CUDNN_HEUR_MODE_A ? kMostTimed : 1);
      if (candidates.size() >= most) break;  // before the library is asked
      for (const Descriptor& proposal : proposals(dnn, graph, mode)) {
        if (candidates.size() == most) break;
        Execution planned = plan_of(dnn, handle, proposal, p.kind, rounded);
        if (!planned.plan || planned.bytes > bytes) continue;
        candidates.push_back(std::move(planned));
        fastest.offer(static_cast<int>(candidates.size()) - 1, [&] {
          if (run(dnn, handle, p, candidates.back(), scratch) != CUDNN_STATUS_SUCCESS) return false;
          if (before.finish) before.finish();
          return true;
        });
      }
    }
  };
  const bool may_round =
      p.pass == Pass::weight_gradient && p.kind == Kind::bf16 && rounded_bytes(p.d, true) < scratch.bytes;
  for (const bool rounded : {false, true}) try {
      if (!rounded || may_round) offer(rounded);
    } catch (const Refused& refused) {
      plan.status = refused.status;
    }
  plan.candidates = static_cast<int>(candidates.size()) + plan.own;
  if (fastest.chosen < 0 || candidates.empty()) return;
  plan.status = CUDNN_STATUS_SUCCESS;
  plan.milliseconds = fastest.milliseconds;
  plan.own = fastest.chosen == kOwn;
  if (!plan.own) plan.execution = std::move(candidates[static_cast<size_t>(fastest.chosen)]);
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

// The plan that there is, or nullptr; while a graph is captured there must be one.
const Plan* known(const Problem& p) {
  const auto at = g_plans.find(key_of(p));
  if (at == g_plans.end() && is_capturing()) refuse_capture("the choice of a convolution's plan");
  return at == g_plans.end() ? nullptr : &at->second;
}

const Plan& make_plan(const Cudnn& dnn, const Problem& p, const Scratch& scratch, const Before& before) {
  const Handle& handle = handle_of(dnn, p.device);
  Plan plan;
  plan.own = before.fastest.chosen >= 0;
  if (handle.status == CUDNN_STATUS_SUCCESS)
    choose(dnn, handle.handle, p, plan, scratch, before);
  else
    plan.status = handle.status;
  return g_plans.emplace(key_of(p), std::move(plan)).first->second;
}

// [filters][channels][taps] of `data` as [filters][taps][channels], or with `back` the other way around.
View reordered(void* data, DType dtype, const Conv2dDims& d, bool back) {
  const int64_t channels = d.c / d.groups, taps = d.window.kernel_size.first * d.window.kernel_size.second;
  const int64_t outer = back ? taps : channels, inner = back ? channels : taps;
  return {data, dtype, 3, {d.o, inner, outer}, {outer * inner, 1, inner}};
}
View contiguous(void* data, const View& like) {
  const auto& shape = like.shape;
  return {data, like.dtype, 3, {shape[0], shape[1], shape[2]}, {shape[1] * shape[2], shape[2], 1}};
}

}  // namespace

bool convolve(Pass pass, const View& a, const View& b, const View& result, const Conv2dDims& d, const Own& own) {
  if (a.dtype == DType::f64 || !fits(d)) return false;
  const Cudnn* const dnn = cudnn().get();
  if (dnn == nullptr) return false;
  const bool to_weight = pass == Pass::weight_gradient;
  const View& x = pass == Pass::input_gradient ? result : a;
  const View& weight = to_weight ? result : b;
  const View& y = pass == Pass::forward ? result : (to_weight ? b : a);
  // Room for filters to be put in order is kept also where they are, as their order is not part of the plan's key.
  const bool ordered = d.c == d.groups || d.window.kernel_size == check::Pair{1, 1};
  const bool reorder = !ordered && !has_channels_last(weight);
  const size_t bytes = ordered ? 0 : to_border(weight.size() * item_size(weight.dtype));
  if (bytes > kWorkspace / 2) return false;

  const Kind kind = a.dtype == DType::bf16 ? Kind::bf16 : get_tf32() ? Kind::tf32 : Kind::f32;
  Problem p{pass, kind, d, x.data, reorder ? nullptr : weight.data, y.data, current_device()};
  const std::lock_guard<std::mutex> lock(g_mutex);
  const Plan* plan = known(p);
  if (plan != nullptr && !plan->serves()) return false;
  Before before{{}, own.finish};
  if (plan == nullptr && own.run)  // it uses the workspace too
    before.fastest.offer(kOwn, [&] { return own.run(), true; });

  auto* const memory = static_cast<char*>(workspace(kWorkspace));
  const Scratch scratch{memory, kWorkspace - bytes};
  if (reorder) p.weight = memory + scratch.bytes;
  const auto& [handle, made] = handle_of(*dnn, p.device);
  if (made == CUDNN_STATUS_SUCCESS) check(*dnn, dnn->cudnnSetStream(handle, current_stream()), "cudnnSetStream");
  if (reorder && !to_weight) {
    const View from = reordered(weight.data, weight.dtype, d, false);
    copy(from, contiguous(p.weight, from));
  }
  if (plan == nullptr) plan = &make_plan(*dnn, p, scratch, before);
  if (!plan->serves()) return false;
  check(*dnn, run(*dnn, handle, p, plan->execution, scratch), "cuDNN's convolution");
  if (reorder && to_weight) {
    const View from = reordered(p.weight, weight.dtype, d, true);
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
    const char* const kinds[] = {"float32", "tf32", "bfloat16"};
    std::string line = kinds[key[2]] + std::string(passes[key[1]]);
    line += " " + number(3) + "x" + number(4) + "x" + pair(5) + ", " + number(7) + " filters " + pair(9) + ", groups " +
            number(8) + ", stride " + pair(11) + ", padding " + pair(13) + ", dilation " + pair(15) + ", alignment " +
            number(17) + " " + number(18) + " " + number(19) + ": ";
    if (plan.status == CUDNN_STATUS_SUCCESS)
      line += (plan.own ? "own kernel" : "engine " + std::to_string(plan.execution.engine)) +
              (plan.execution.rounded ? ", rounded" : "") + ", of " + std::to_string(plan.candidates) + " plans, " +
              std::to_string(plan.milliseconds) + " ms";
    else
      line += "own kernel, status " + std::to_string(plan.status);
    lines.push_back(line);
  }
  return lines;
}

}  // namespace fastdl::cuda::gpu
