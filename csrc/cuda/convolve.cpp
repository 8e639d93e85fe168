// cuDNN's kernels for channels-last arrays read filters by taps by channels, fastdl's weights are filters by channels
// by taps: those that lie otherwise are put in order in the workspace on the way in, and weight gradients on the way
// out.
//
// Of the library's algorithms those that give the same bits each time, and add up products of the arrays themselves,
// are run and timed here: its own search would also try them with the math that was not asked for, and once each. Where
// fastdl's own kernel is offered too it comes first, and is left for what is faster with the pass that follows it.
//
// Of bfloat16 its documents list convolutions whose three arrays are bfloat16 and whose sums are float. A gradient of
// weights in float32, which fastdl promises, is not among them; it is asked for all the same. Where it is refused,
// images and dy are made float32 a few images at a time, and multiplied as TF32, which has all digits of bfloat16: the
// sums are the same, at half the speed. bfloat16 is left to CUDNN_DEFAULT_MATH, as in PyTorch.
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
void fill_zero(Out dst);

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

// What a choice begins with: fastdl's own kernel and its time, or nothing, and what the library's sums need besides.
struct Before {
  Fastest fastest;
  std::function<void()> finish;
};

void choose(const Cudnn& dnn, cudnnHandle_t handle, const Problem& p, Plan& plan, const Scratch& scratch,
            const Before& before) {
  Listed listed{};
  int count = 0;
  plan.status = list(dnn, handle, p.pass, plan, listed, count);
  if (plan.status != CUDNN_STATUS_SUCCESS) return;
  plan.status = CUDNN_STATUS_NOT_SUPPORTED;
  Fastest fastest = before.fastest;
  plan.candidates = fastest.chosen >= 0;
  for (int i = 0; i < count; ++i) {
    const int algorithm = listed[static_cast<size_t>(i)].algo;
    if (!is_candidate(listed, count, i) || transforms(p.pass, algorithm)) continue;
    size_t bytes = 0;
    if (measure(dnn, handle, p.pass, plan, algorithm, bytes) != CUDNN_STATUS_SUCCESS || bytes > scratch.bytes) continue;
    ++plan.candidates;
    fastest.offer(algorithm, [&] {
      if (run(dnn, handle, p, plan, algorithm, scratch) != CUDNN_STATUS_SUCCESS) return false;
      if (before.finish) before.finish();
      return true;
    });
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

// The plan that there is, or nullptr; while a graph is captured there must be one.
const Plan* known(const Problem& p) {
  const auto at = g_plans.find(key_of(p));
  if (at == g_plans.end() && is_capturing()) refuse_capture("the choice of a convolution's algorithm");
  return at == g_plans.end() ? nullptr : &at->second;
}

// The plan, made if need be; nullptr where the library can't make the convolution, or not as fast.
const Plan* plan_of(const Cudnn& dnn, const Problem& p, const Scratch& scratch, const Before& before = {}) {
  const Plan* plan = known(p);
  if (plan == nullptr) {
    const auto& [handle, made] = handle_of(dnn, p.device);
    Plan fresh = describe(dnn, p);
    fresh.algorithm = before.fastest.chosen;
    if (made != CUDNN_STATUS_SUCCESS) fresh.status = made;
    if (fresh.status == CUDNN_STATUS_SUCCESS) choose(dnn, handle, p, fresh, scratch, before);
    plan = &g_plans.emplace(key_of(p), std::move(fresh)).first->second;
  }
  return plan->serves() ? plan : nullptr;
}

bool make(const Cudnn& dnn, const Problem& p, const Scratch& scratch, const Before& before = {}) {
  const Plan* const plan = plan_of(dnn, p, scratch, before);
  if (plan == nullptr) return false;
  check(dnn, run(dnn, handle_of(dnn, p.device).handle, p, *plan, plan->algorithm, scratch), "cuDNN's convolution");
  return true;
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

View row(void* data, DType dtype, int64_t first, int64_t count) {
  return {static_cast<char*>(data) + first * item_size(dtype), dtype, 1, {count}, {1}};
}

// A gradient of bfloat16's weights from float32 copies, of so many images at a time as half the memory has room for.
bool make_widened(const Cudnn& dnn, const Problem& whole, const Scratch& scratch) {
  constexpr int64_t kBorder = 64;  // floats
  Conv2dDims d = whole.d;          // of the images at hand
  const int64_t of_x = d.c * d.h * d.w, of_y = d.o * d.oh * d.ow;
  const auto room = static_cast<int64_t>(scratch.bytes / 2 / sizeof(float)) / kBorder * kBorder;
  const int64_t most = (room - kBorder) / (of_x + of_y);
  if (most < 1) return false;
  const int64_t pieces = (d.n + most - 1) / most, count = (d.n + pieces - 1) / pieces;
  auto *const x = static_cast<float*>(scratch.data), *const y = x + (count * of_x + kBorder - 1) / kBorder * kBorder;
  const Scratch rest{x + room, scratch.bytes - static_cast<size_t>(room) * sizeof(float)};
  const Problem p{whole.pass, Kind::widened, d, x, whole.weight, y, whole.device};

  const auto take = [&](int64_t first, int64_t images) {
    d.n = images;
    cast(row(whole.x, DType::bf16, first * of_x, images * of_x), row(x, DType::f32, 0, images * of_x));
    cast(row(whole.y, DType::bf16, first * of_y, images * of_y), row(y, DType::f32, 0, images * of_y));
  };
  // The last piece may be another kind. Both are known before the first sums, over which the choice of a plan writes.
  for (const int64_t images : {count, (whole.d.n - 1) % count + 1}) {
    d.n = images;
    if (known(p) == nullptr) take(0, images);
    if (plan_of(dnn, p, rest) == nullptr) return false;
  }
  fill_zero(row(whole.weight, DType::f32, 0, weight_size(d)));
  for (int64_t first = 0; first < whole.d.n; first += count) {
    take(first, std::min(count, whole.d.n - first));
    make(dnn, p, rest);
  }
  return true;
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
  const size_t weight_bytes = static_cast<size_t>(weight.size() * item_size(weight.dtype));
  const size_t bytes = ordered ? 0 : (weight_bytes + 255) / 256 * 256;
  if (bytes > kWorkspace / 2) return false;

  const Kind kind = a.dtype == DType::bf16 ? Kind::bf16 : get_tf32() ? Kind::tf32 : Kind::f32;
  Problem p{pass, kind, d, x.data, reorder ? nullptr : weight.data, y.data, current_device()};
  // Tensor cores are fed by accesses of 16 bytes, and the library isn't told where arrays begin before it runs.
  for (const void* const array : {p.x, p.weight, p.y})
    if (kind == Kind::bf16 && alignment(array) < 16) return false;
  const std::lock_guard<std::mutex> lock(g_mutex);
  const bool widens = to_weight && kind == Kind::bf16 && !own.run;  // the own kernel needs no copies
  const Plan* const plan = known(p);
  if (plan != nullptr && !plan->serves() && !widens) return false;
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
  if (!make(*dnn, p, scratch, before) && !(widens && make_widened(*dnn, p, scratch))) return false;
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
  const auto is_widened = [](const Key& key) {
    return key[1] == int64_t(Pass::weight_gradient) && key[2] == int64_t(Kind::bf16);
  };
  const std::lock_guard<std::mutex> lock(g_mutex);
  std::vector<std::string> lines;
  for (const auto& [key, plan] : g_plans) {
    const auto number = [&](size_t i) { return std::to_string(key[i]); };
    const auto pair = [&](size_t i) { return number(i) + "x" + number(i + 1); };
    const char* const passes[] = {" forward", " input gradient", " weight gradient"};
    const char* const kinds[] = {"float32", "tf32", "bfloat16", "bfloat16 as tf32"};
    std::string line = kinds[key[2]] + std::string(passes[key[1]]);
    line += " " + number(3) + "x" + number(4) + "x" + pair(5) + ", " + number(7) + " filters " + pair(9) + ", groups " +
            number(8) + ", stride " + pair(11) + ", padding " + pair(13) + ", dilation " + pair(15) + ", alignment " +
            number(17) + " " + number(18) + " " + number(19) + ": ";
    if (plan.status == CUDNN_STATUS_SUCCESS)
      line += (plan.serves() ? "algorithm " + std::to_string(plan.algorithm) : "own kernel") + " of " +
              std::to_string(plan.candidates) + ", " + std::to_string(plan.milliseconds) + " ms";
    else
      line += (is_widened(key) && plan.algorithm != kOwn ? "as tf32" : "own kernel") + std::string(", status ") +
              std::to_string(plan.status);
    lines.push_back(line);
  }
  return lines;
}

}  // namespace fastdl::cuda::gpu
