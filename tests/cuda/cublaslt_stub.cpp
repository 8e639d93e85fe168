// A stand-in for cuBLASLt on host memory, in plain loops, for tests of the code that calls it. Calls that break the
// library's rules (attributes that are missing or come too late, wrong sizes, types that don't go together, broken
// promises about alignment or workspace) are kept as text and fail.
//
// Like the library, it has no bias epilogues for float64, and not every algorithm that it proposes can run.
#include <cmath>
#include <cstring>
#include <string>

#include "core/bfloat16.h"
#include "cuda/cublaslt_api.h"

#if !defined(VERSION)
#define VERSION 130100
#endif

namespace fastdl::cublaslt {

struct cublasLtContext {};
struct cublasLtMatmulDescOpaque_t {
  cublasComputeType_t compute;
  cudaDataType_t scale;
  int op[2] = {-1, -1};
  std::uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  void* bias = nullptr;
};
struct cublasLtMatrixLayoutOpaque_t {
  cudaDataType_t type;
  std::uint64_t rows, columns;
  std::int64_t ld;
  std::int32_t batch = 1;
  std::int64_t apart = 0;
};
struct cublasLtMatmulPreferenceOpaque_t {
  std::uint64_t workspace = 0;
  std::uint32_t reduction = 7, alignment[4] = {256, 256, 256, 256};
};

namespace {

constexpr int kBroken = 0, kCannotRun = 1, kWorks = 2, kAlgorithms = 3;
constexpr std::size_t kWorkspace = 4096;

int g_products = 0, g_tf32 = 0, g_epilogues = 0, g_layouts = 0, g_descriptions = 0;
bool g_supports = true, g_create_fails = false;
std::string g_wrong;

cublasStatus_t wrong(const std::string& what) {
  g_wrong += what + "\n";
  return CUBLAS_STATUS_INVALID_VALUE;
}

// What an algorithm was proposed for, in the algorithm's own words.
struct Proposal {
  std::int32_t which, m, n, k, batch, epilogue;
  std::uint32_t alignment[4];
};
static_assert(sizeof(Proposal) <= sizeof(cublasLtMatmulAlgo_t));

bool aligned(const void* p, std::uint32_t bytes) { return reinterpret_cast<std::uintptr_t>(p) % bytes == 0; }

// A and B of one type, which D has as well, or float32 of bfloat16; the vector of an epilogue is of D's.
std::string check_types(const cublasLtMatmulDescOpaque_t& op, cudaDataType_t a, cudaDataType_t b, cudaDataType_t d) {
  if (a != b) return "types of A and B differ";
  if (a != d && !(a == CUDA_R_16BF && d == CUDA_R_32F)) return "a type that D can't have";
  if (op.scale != (a == CUDA_R_64F ? CUDA_R_64F : CUDA_R_32F)) return "scale type doesn't fit";
  const bool fits = op.compute == CUBLAS_COMPUTE_64F   ? a == CUDA_R_64F
                    : op.compute == CUBLAS_COMPUTE_32F ? a != CUDA_R_64F
                                                       : a == CUDA_R_32F;
  return fits ? "" : "compute type doesn't fit";
}

std::string check(const cublasLtMatmulDescOpaque_t& op, const cublasLtMatrixLayoutOpaque_t& a,
                  const cublasLtMatrixLayoutOpaque_t& b, const cublasLtMatrixLayoutOpaque_t& d, Proposal& sizes) {
  for (const auto* x : {&a, &b, &d}) {
    if (x->rows == 0 || x->columns == 0) return "empty matrix";
    if (x->ld < static_cast<std::int64_t>(x->rows)) return "ld is less than rows";
    if (x->batch != d.batch) return "batch counts differ";
    if (x->apart < 0) return "negative batch stride";
  }
  if (d.batch > 1 && d.apart < d.ld * static_cast<std::int64_t>(d.columns)) return "batches of D overlap";
  if (op.op[0] < 0 || op.op[1] < 0) return "TRANSA or TRANSB not set";
  if (const std::string why = check_types(op, a.type, b.type, d.type); !why.empty()) return why;
  const auto m = op.op[0] == CUBLAS_OP_N ? a.rows : a.columns, ka = op.op[0] == CUBLAS_OP_N ? a.columns : a.rows;
  const auto kb = op.op[1] == CUBLAS_OP_N ? b.rows : b.columns, n = op.op[1] == CUBLAS_OP_N ? b.columns : b.rows;
  if (m != d.rows || n != d.columns || ka != kb) return "sizes don't fit";
  if (op.epilogue != CUBLASLT_EPILOGUE_DEFAULT && op.bias == nullptr) return "an epilogue without its pointer";
  if (!aligned(op.bias, 16)) return "a bias off a border of 16 bytes, which GPUs have faulted on";
  sizes.m = static_cast<int>(m), sizes.n = static_cast<int>(n), sizes.k = static_cast<int>(ka);
  sizes.batch = d.batch, sizes.epilogue = static_cast<int>(op.epilogue);
  return "";
}

template <class T, class D>
void multiply(const cublasLtMatmulDescOpaque_t& op, const Proposal& p, const void* of_a,
              const cublasLtMatrixLayoutOpaque_t& la, const void* of_b, const cublasLtMatrixLayoutOpaque_t& lb,
              void* of_d, const cublasLtMatrixLayoutOpaque_t& ld) {
  auto *a = static_cast<const T*>(of_a), *b = static_cast<const T*>(of_b);
  auto *d = static_cast<D*>(of_d), *const vector = static_cast<D*>(op.bias);
  for (std::int64_t batch = 0; batch < p.batch; ++batch, a += la.apart, b += lb.apart, d += ld.apart)
    for (std::int64_t j = 0; j < p.n; ++j) {
      double over_k = 0;
      for (std::int64_t k = 0; k < p.k; ++k)
        over_k += static_cast<double>(b[op.op[1] == CUBLAS_OP_N ? j * lb.ld + k : k * lb.ld + j]);
      if (p.epilogue == CUBLASLT_EPILOGUE_BGRADB) vector[j] = static_cast<D>(over_k);
      for (std::int64_t i = 0; i < p.m; ++i) {
        double sum = 0;
        for (std::int64_t k = 0; k < p.k; ++k)
          sum += static_cast<double>(a[op.op[0] == CUBLAS_OP_N ? k * la.ld + i : i * la.ld + k]) *
                 static_cast<double>(b[op.op[1] == CUBLAS_OP_N ? j * lb.ld + k : k * lb.ld + j]);
        if (p.epilogue == CUBLASLT_EPILOGUE_BIAS) sum += static_cast<double>(vector[i]);
        d[j * ld.ld + i] = static_cast<D>(sum);
      }
    }
}

template <class T>
cublasStatus_t set(T& place, const void* value, std::size_t bytes) {
  if (bytes != sizeof(T)) return wrong("an attribute of " + std::to_string(bytes) + " bytes");
  std::memcpy(&place, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

}  // namespace

extern "C" {

#define EXPORT __attribute__((visibility("default")))

// For the tests.
EXPORT int stub_count(const char* what) {
  const std::string name = what;
  return name == "products"       ? g_products
         : name == "epilogues"    ? g_epilogues
         : name == "tf32"         ? g_tf32
         : name == "layouts"      ? g_layouts
         : name == "descriptions" ? g_descriptions
                                  : -1;
}
EXPORT const char* stub_wrong() { return g_wrong.c_str(); }
EXPORT void stub_reset(bool supports, bool create_fails) {
  g_products = g_epilogues = g_tf32 = 0;
  g_wrong.clear();
  g_supports = supports;
  g_create_fails = create_fails;
}

EXPORT std::size_t cublasLtGetVersion() { return VERSION; }
EXPORT const char* cublasLtGetStatusName(cublasStatus_t status) {
  return status == CUBLAS_STATUS_INVALID_VALUE ? "CUBLAS_STATUS_INVALID_VALUE" : "another status";
}
EXPORT cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  static cublasLtContext context;
  if (g_create_fails) return 1;
  *handle = &context;
  return CUBLAS_STATUS_SUCCESS;
}

EXPORT cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* desc, cublasComputeType_t compute,
                                               cudaDataType_t scale) {
  ++g_descriptions;
  *desc = new cublasLtMatmulDescOpaque_t{compute, scale};
  return CUBLAS_STATUS_SUCCESS;
}
EXPORT cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc,
                                                     cublasLtMatmulDescAttributes_t attribute, const void* value,
                                                     std::size_t bytes) {
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
      return set(desc->op[0], value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB:
      return set(desc->op[1], value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      return set(desc->epilogue, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      return set(desc->bias, value, bytes);
  }
  return wrong("an unknown attribute of a description");
}
EXPORT cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc) {
  --g_descriptions;
  delete desc;
  return CUBLAS_STATUS_SUCCESS;
}

EXPORT cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType_t type,
                                                 std::uint64_t rows, std::uint64_t columns, std::int64_t ld) {
  ++g_layouts;
  *layout = new cublasLtMatrixLayoutOpaque_t{type, rows, columns, ld};
  return CUBLAS_STATUS_SUCCESS;
}
EXPORT cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                       cublasLtMatrixLayoutAttribute_t attribute, const void* value,
                                                       std::size_t bytes) {
  switch (attribute) {
    case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT:
      return set(layout->batch, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET:
      return set(layout->apart, value, bytes);
  }
  return wrong("an unknown attribute of a layout");
}
EXPORT cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  --g_layouts;
  delete layout;
  return CUBLAS_STATUS_SUCCESS;
}

EXPORT cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  *preference = new cublasLtMatmulPreferenceOpaque_t;
  return CUBLAS_STATUS_SUCCESS;
}
EXPORT cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                           cublasLtMatmulPreferenceAttributes_t attribute,
                                                           const void* value, std::size_t bytes) {
  switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
      return set(preference->workspace, value, bytes);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
      return set(preference->reduction, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
      return set(preference->alignment[attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES], value, bytes);
  }
  return wrong("an unknown attribute of a preference");
}
EXPORT cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  delete preference;
  return CUBLAS_STATUS_SUCCESS;
}

EXPORT cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t desc,
                                                     cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                                     cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                                     cublasLtMatmulPreference_t preference, int wanted,
                                                     cublasLtMatmulHeuristicResult_t* results, int* found) {
  *found = 0;
  Proposal proposal{};
  if (const std::string why = check(*desc, *a, *b, *d, proposal); !why.empty()) return wrong("heuristic: " + why);
  if (c != d) return wrong("heuristic: C isn't D");
  if (preference->workspace < kWorkspace) return wrong("heuristic: no workspace");
  if (preference->reduction != CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE) return wrong("heuristic: reduction scheme");
  if (wanted < kAlgorithms) return wrong("heuristic: too few algorithms wanted");
  if (!g_supports || (desc->epilogue != CUBLASLT_EPILOGUE_DEFAULT && d->type == CUDA_R_64F))
    return CUBLAS_STATUS_NOT_SUPPORTED;
  std::memcpy(proposal.alignment, preference->alignment, sizeof proposal.alignment);
  for (proposal.which = 0; proposal.which < kAlgorithms; ++proposal.which) {
    cublasLtMatmulHeuristicResult_t& result = results[(*found)++];
    std::memcpy(&result.algo, &proposal, sizeof proposal);
    result.workspaceSize = kWorkspace;
    result.state = proposal.which == kBroken ? CUBLAS_STATUS_NOT_SUPPORTED : CUBLAS_STATUS_SUCCESS;
  }
  return CUBLAS_STATUS_SUCCESS;
}

EXPORT cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void* alpha,
                                     const void* a, cublasLtMatrixLayout_t la, const void* b, cublasLtMatrixLayout_t lb,
                                     const void* beta, const void* c, cublasLtMatrixLayout_t lc, void* d,
                                     cublasLtMatrixLayout_t ld, const cublasLtMatmulAlgo_t* algo, void* workspace,
                                     std::size_t workspace_bytes, void*) {
  Proposal now{}, then;
  if (handle == nullptr) return wrong("product: no handle");
  if (const std::string why = check(*desc, *la, *lb, *ld, now); !why.empty()) return wrong("product: " + why);
  if (c != d || lc != ld) return wrong("product: C isn't D");
  if (workspace_bytes < kWorkspace || !aligned(workspace, 256)) return wrong("product: workspace");
  std::memset(workspace, 0x5a, workspace_bytes);
  std::memcpy(&then, algo, sizeof then);
  if (then.which == kBroken) return wrong("product: an algorithm whose state was an error");
  if (std::memcmp(&then.m, &now.m, 5 * sizeof then.m) != 0) return wrong("product: another problem's algorithm");
  const void* const places[] = {a, b, c, d};
  for (int i = 0; i < 4; ++i)
    if (!aligned(places[i], then.alignment[i])) return wrong("product: alignment of operand " + std::to_string(i));
  if (then.which == kCannotRun) return CUBLAS_STATUS_NOT_SUPPORTED;
  ++g_products;
  g_tf32 += desc->compute == CUBLAS_COMPUTE_32F_FAST_TF32;
  g_epilogues += desc->epilogue != CUBLASLT_EPILOGUE_DEFAULT;
  if (ld->type == CUDA_R_64F) {
    if (*static_cast<const double*>(alpha) != 1 || *static_cast<const double*>(beta) != 0) return wrong("alpha, beta");
    multiply<double, double>(*desc, now, a, *la, b, *lb, d, *ld);
    return CUBLAS_STATUS_SUCCESS;
  }
  if (*static_cast<const float*>(alpha) != 1 || *static_cast<const float*>(beta) != 0) return wrong("alpha, beta");
  if (la->type == CUDA_R_32F)
    multiply<float, float>(*desc, now, a, *la, b, *lb, d, *ld);
  else if (ld->type == CUDA_R_32F)
    multiply<bfloat16, float>(*desc, now, a, *la, b, *lb, d, *ld);
  else
    multiply<bfloat16, bfloat16>(*desc, now, a, *la, b, *lb, d, *ld);
  return CUBLAS_STATUS_SUCCESS;
}

}  // extern "C"

}  // namespace fastdl::cublaslt
