// A row-major matrix is its transpose in column-major order, which is what cuBLASLt takes: c = a b is asked for as
// c^T = b^T a^T, so that the library's A is b, its B is a, and its m is n.
#include "cuda/matmul.h"

#include <array>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>

#include "core/bfloat16.h"
#include "core/check.h"
#include "cuda/cublaslt.h"
#include "cuda/tuning.h"

namespace fastdl::cuda::gpu {

namespace {

using namespace cublaslt;
using std::int64_t;

constexpr int kCandidates = 8;
constexpr std::uint32_t kVectorBorder = 16;  // bytes; off such borders bias epilogues have faulted

// What the library may use of workspace(): 32 MiB from Hopper on and 4 MiB before, as NVIDIA advises; always all of it,
// so that the block of a stream is made once.
std::size_t workspace_limit() {
#if defined(FASTDL_CUDA)
  return (compute_capability_major() >= 9 ? std::size_t{32} : std::size_t{4}) << 20;
#else
  return std::size_t{64} << 10;
#endif
}

// An operand as the library sees it: stored column-major [rows,columns], `op` tells how it is read.
struct Operand {
  const void* data;
  int64_t rows, columns, ld, apart;
  cublasOperation_t op;
};

// The transpose of x [rows,columns] as an operand; false where neither dimension lies side by side in memory.
bool express(const Strided& x, int64_t rows, int64_t columns, Operand& out) {
  out.data = x.data;
  out.apart = x.apart;
  if ((x.column == 1 || columns == 1) && (x.row >= columns || rows == 1)) {
    out.op = CUBLAS_OP_N;
    out.rows = columns, out.columns = rows;
    out.ld = rows == 1 ? columns : x.row;
    return x.apart >= 0;
  }
  if ((x.row == 1 || rows == 1) && (x.column >= rows || columns == 1)) {
    out.op = CUBLAS_OP_T;
    out.rows = rows, out.columns = columns;
    out.ld = columns == 1 ? rows : x.column;
    return x.apart >= 0;
  }
  return false;
}

struct Problem {
  const Matmul& product;
  Operand a, b;  // the library's: the transposes of the product's b and a
  int device;
  bool tf32;
};

using Key = std::array<int64_t, 19>;
Key key_of(const Problem& p) {
  const Matmul& x = p.product;
  return {p.device,
          int64_t(x.dtype),
          p.tf32,
          int64_t(x.epilogue),
          x.batch,
          x.m,
          x.n,
          x.k,
          p.a.op,
          p.a.ld,
          p.b.op,
          p.b.ld,
          p.a.apart,
          p.b.apart,
          alignment(p.a.data),
          alignment(p.b.data),
          alignment(x.c),
          alignment(x.vector),
          int64_t(x.result)};
}

cudaDataType_t type_of(DType dtype) {
  return dtype == DType::f64 ? CUDA_R_64F : dtype == DType::bf16 ? CUDA_R_16BF : CUDA_R_32F;
}
cublasComputeType_t compute_type(const Problem& p) {
  if (p.product.dtype == DType::f64) return CUBLAS_COMPUTE_64F;
  return p.tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
}

void check(const CublasLt& lt, cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw std::runtime_error(std::string(what) + ": " + lt.cublasLtGetStatusName(status));
}

template <class T>
using Owned = std::unique_ptr<T, cublasStatus_t (*)(T*)>;
using Description = Owned<cublasLtMatmulDescOpaque_t>;
using Layout = Owned<cublasLtMatrixLayoutOpaque_t>;
using Preference = Owned<cublasLtMatmulPreferenceOpaque_t>;

// What is kept for a kind of product. status: not success where the library can't make it.
struct Plan {
  Description description;
  Layout a, b, c;
  cublasLtMatmulAlgo_t algorithm{};
  cublasStatus_t status = CUBLAS_STATUS_NOT_SUPPORTED;
  int candidates = 0, chosen = 0;
  float milliseconds = 0;
};

Description describe(const CublasLt& lt, const Problem& p) {
  cublasLtMatmulDesc_t made = nullptr;
  const cudaDataType_t scale = type_of(wide_dtype(p.product.dtype));
  check(lt, lt.cublasLtMatmulDescCreate(&made, compute_type(p), scale), "cublasLtMatmulDescCreate");
  Description description(made, lt.cublasLtMatmulDescDestroy);
  const auto set = [&](cublasLtMatmulDescAttributes_t attribute, const auto& value) {
    check(lt, lt.cublasLtMatmulDescSetAttribute(made, attribute, &value, sizeof value),
          "cublasLtMatmulDescSetAttribute");
  };
  set(CUBLASLT_MATMUL_DESC_TRANSA, p.a.op);
  set(CUBLASLT_MATMUL_DESC_TRANSB, p.b.op);
  if (p.product.epilogue != Epilogue::none) {
    set(CUBLASLT_MATMUL_DESC_EPILOGUE,
        p.product.epilogue == Epilogue::bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_BGRADB);
    // The heuristic looks at its alignment. Its type is that of D, as the library assumes without being told.
    set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, p.product.vector);
  }
  return description;
}

Layout lay_out(const CublasLt& lt, const Problem& p, DType dtype, int64_t rows, int64_t columns, int64_t ld,
               int64_t apart) {
  cublasLtMatrixLayout_t made = nullptr;
  check(lt,
        lt.cublasLtMatrixLayoutCreate(&made, type_of(dtype), static_cast<std::uint64_t>(rows),
                                      static_cast<std::uint64_t>(columns), ld),
        "cublasLtMatrixLayoutCreate");
  Layout layout(made, lt.cublasLtMatrixLayoutDestroy);
  if (p.product.batch > 1) {
    const auto set = [&](cublasLtMatrixLayoutAttribute_t attribute, const auto& value) {
      check(lt, lt.cublasLtMatrixLayoutSetAttribute(made, attribute, &value, sizeof value),
            "cublasLtMatrixLayoutSetAttribute");
    };
    set(CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, static_cast<std::int32_t>(p.product.batch));
    set(CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, apart);
  }
  return layout;
}

Preference prefer(const CublasLt& lt, const Problem& p) {
  cublasLtMatmulPreference_t made = nullptr;
  check(lt, lt.cublasLtMatmulPreferenceCreate(&made), "cublasLtMatmulPreferenceCreate");
  Preference preference(made, lt.cublasLtMatmulPreferenceDestroy);
  const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
    check(lt, lt.cublasLtMatmulPreferenceSetAttribute(made, attribute, &value, sizeof value),
          "cublasLtMatmulPreferenceSetAttribute");
  };
  set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<std::uint64_t>(workspace_limit()));
  // Of the ways to add the pieces of a cut k, the one with a pass of its own: a fixed order, in full precision.
  set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment(p.a.data));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment(p.b.data));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment(p.product.c));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment(p.product.c));
  return preference;
}

// C is D with beta 0, the one case in which the library allows both to be the same.
cublasStatus_t run(const CublasLt& lt, cublasLtHandle_t handle, const Problem& p, const Plan& plan,
                   const cublasLtMatmulAlgo_t& algorithm) {
  static const double one64 = 1, zero64 = 0;
  static const float one32 = 1, zero32 = 0;
  const bool f64 = p.product.dtype == DType::f64;
  const void* const one = f64 ? static_cast<const void*>(&one64) : &one32;
  const void* const zero = f64 ? static_cast<const void*>(&zero64) : &zero32;
  if (p.product.epilogue != Epilogue::none)
    check(lt,
          lt.cublasLtMatmulDescSetAttribute(plan.description.get(), CUBLASLT_MATMUL_DESC_BIAS_POINTER,
                                            &p.product.vector, sizeof(void*)),
          "cublasLtMatmulDescSetAttribute");
  return lt.cublasLtMatmul(handle, plan.description.get(), one, p.a.data, plan.a.get(), p.b.data, plan.b.get(), zero,
                           p.product.c, plan.c.get(), p.product.c, plan.c.get(), &algorithm,
                           workspace(workspace_limit()), workspace_limit(), current_stream());
}

// With those of the library's candidates that run.
void choose(const CublasLt& lt, cublasLtHandle_t handle, const Problem& p, Plan& plan) {
  const Preference preference = prefer(lt, p);
  std::array<cublasLtMatmulHeuristicResult_t, kCandidates> found{};
  const cublasStatus_t status =
      lt.cublasLtMatmulAlgoGetHeuristic(handle, plan.description.get(), plan.a.get(), plan.b.get(), plan.c.get(),
                                        plan.c.get(), preference.get(), kCandidates, found.data(), &plan.candidates);
  if (status != CUBLAS_STATUS_SUCCESS) plan.status = status, plan.candidates = 0;
  Fastest fastest;
  for (int i = 0; i < plan.candidates; ++i) {
    const auto& [algorithm, bytes, state, waves, reserved] = found[static_cast<std::size_t>(i)];
    if (state != CUBLAS_STATUS_SUCCESS || bytes > workspace_limit()) continue;
    fastest.offer(i, [&, &chosen = algorithm] { return run(lt, handle, p, plan, chosen) == CUBLAS_STATUS_SUCCESS; });
  }
  if (fastest.chosen < 0) return;
  plan.status = CUBLAS_STATUS_SUCCESS;
  plan.algorithm = found[static_cast<std::size_t>(fastest.chosen)].algo;
  plan.chosen = fastest.chosen;
  plan.milliseconds = fastest.milliseconds;
}

std::mutex g_mutex;  // for all below, and while a plan is in use
bool g_tf32 = false;
// Never destroyed: at the end of the process the library may be gone before them.
auto& g_plans = *new std::map<Key, Plan>;
auto& g_handles = *new std::map<int, cublasLtHandle_t>;  // by device; nullptr where none can be made

cublasLtHandle_t handle_of(const CublasLt& lt, int device) {
  const auto [at, added] = g_handles.try_emplace(device, nullptr);
  if (added && lt.cublasLtCreate(&at->second) != CUBLAS_STATUS_SUCCESS) at->second = nullptr;
  return at->second;
}

Plan make_plan(const CublasLt& lt, cublasLtHandle_t handle, const Problem& p) {
  const Matmul& x = p.product;
  Plan plan{describe(lt, p), lay_out(lt, p, x.dtype, p.a.rows, p.a.columns, p.a.ld, p.a.apart),
            lay_out(lt, p, x.dtype, p.b.rows, p.b.columns, p.b.ld, p.b.apart),
            lay_out(lt, p, x.result, x.n, x.m, x.n, x.m * x.n)};
  if (handle != nullptr) choose(lt, handle, p, plan);
  return plan;
}

}  // namespace

bool matmul(const Matmul& product) {
  const Matmul& x = product;
  if (x.m == 0 || x.n == 0 || x.k == 0 || x.batch == 0) return false;
  if (x.batch > std::numeric_limits<std::int32_t>::max()) return false;
  Problem p{product, {}, {}, current_device(), false};
  if (x.epilogue != Epilogue::none && alignment(x.vector) < kVectorBorder) return false;
  if (!express(x.b, x.k, x.n, p.a) || !express(x.a, x.m, x.k, p.b)) return false;
  const CublasLt* const lt = cublaslt().get();
  if (lt == nullptr) return false;
  const std::lock_guard<std::mutex> lock(g_mutex);
  p.tf32 = g_tf32 && x.dtype == DType::f32;
  const Key key = key_of(p);
  auto at = g_plans.find(key);
  if (at == g_plans.end()) {
    if (is_capturing()) refuse_capture("the choice of a matrix product's algorithm");
    at = g_plans.emplace(key, make_plan(*lt, handle_of(*lt, p.device), p)).first;
  }
  const Plan& plan = at->second;
  if (plan.status != CUBLAS_STATUS_SUCCESS) return false;
  check(*lt, run(*lt, g_handles[p.device], p, plan, plan.algorithm), "cublasLtMatmul");
  return true;
}

void set_tf32(bool on) {
  const std::lock_guard<std::mutex> lock(g_mutex);
  g_tf32 = on;
}

bool get_tf32() {
  const std::lock_guard<std::mutex> lock(g_mutex);
  return g_tf32;
}

void forget_plans() {
  const std::lock_guard<std::mutex> lock(g_mutex);
  g_plans.clear();
  g_handles.clear();
}

std::vector<std::string> describe_plans() {
  const std::lock_guard<std::mutex> lock(g_mutex);
  std::vector<std::string> lines;
  for (const auto& [key, plan] : g_plans) {
    const auto number = [&](std::size_t i) { return std::to_string(key[i]); };
    const char* const epilogues[] = {"", " bias", " row sums"};
    std::string line = key[2] != 0 ? "tf32" : check::dtype_name(static_cast<DType>(key[1]));
    if (key[18] != key[1]) line += std::string(" to ") + check::dtype_name(static_cast<DType>(key[18]));
    line += epilogues[key[3]] + (" " + number(4)) + " x " + number(5) + "x" + number(6) + "x" + number(7) + ", " +
            (key[8] != 0 ? "T" : "N") + (key[10] != 0 ? "T" : "N") + ", alignment " + number(14) + " " + number(15) +
            " " + number(16) + " " + number(17) + ": ";
    if (plan.status == CUBLAS_STATUS_SUCCESS)
      line += "algorithm " + std::to_string(plan.chosen) + " of " + std::to_string(plan.candidates) + ", " +
              std::to_string(plan.milliseconds) + " ms";
    else
      line += "own kernel, status " + std::to_string(plan.status);
    lines.push_back(line);
  }
  return lines;
}

}  // namespace fastdl::cuda::gpu
