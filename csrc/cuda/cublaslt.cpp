#include "cuda/cublaslt.h"

#include <dlfcn.h>

#include <atomic>
#include <mutex>
#include <stdexcept>

#include "cuda/matmul.h"
#include "cuda/runtime.h"

namespace fastdl::cuda::gpu {

namespace {

constexpr const char* kSoname = "libcublasLt.so.13";
constexpr int kMajor = 13;

std::mutex g_mutex;
std::atomic<const CublasLt*> g_library = nullptr;  // tables are never freed: another thread may hold one
std::atomic<bool> g_asked = false;                 // the finder has had its turn
std::function<void()> g_find;

void* open_library(const std::string& path) {
  void* library = nullptr;
  if (path.empty()) library = dlopen(kSoname, RTLD_NOW | RTLD_NOLOAD);
  if (library == nullptr) library = dlopen(path.empty() ? kSoname : path.c_str(), RTLD_NOW);
  if (library == nullptr) {
    const char* why = dlerror();
    throw std::runtime_error(why != nullptr ? why : "the library can't be opened");
  }
  return library;
}

template <class Function>
void find_function(void* library, const char* name, const std::string& file, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  if (function == nullptr) throw std::runtime_error(file + " is not cuBLASLt: it has no " + name);
}

}  // namespace

int load_cublaslt(const std::string& path) {
  void* const library = open_library(path);
  const std::string file = path.empty() ? kSoname : path;
  CublasLt table;
#define FASTDL_FIND(name) find_function(library, #name, file, table.name);
  FASTDL_CUBLASLT_FUNCTIONS(FASTDL_FIND)
#undef FASTDL_FIND
  const int version = static_cast<int>(table.cublasLtGetVersion());
  if (version / 10000 != kMajor)
    throw std::runtime_error(file + " is cuBLASLt " + std::to_string(version / 10000) + "." +
                             std::to_string(version / 100 % 100) + ", expected that of CUDA 13");
  const std::lock_guard<std::mutex> lock(g_mutex);
  forget_plans();
  g_library = new CublasLt(table);
  g_asked = true;
  return version;
}

void unload_cublaslt() {
  const std::lock_guard<std::mutex> lock(g_mutex);
  forget_plans();
  g_library = nullptr;
  g_asked = true;
}

void set_cublaslt_finder(std::function<void()> find) {
  const std::lock_guard<std::mutex> lock(g_mutex);
  g_find = std::move(find);
  g_asked = false;
}

const CublasLt* cublaslt() {
  if (!g_asked) {
    std::function<void()> find;
    {
      const std::lock_guard<std::mutex> lock(g_mutex);
      find = g_find;
    }
    if (find) {
      if (is_capturing()) refuse_capture("cuBLASLt");
      find();
    }
    g_asked = true;
  }
  return g_library;
}

}  // namespace fastdl::cuda::gpu
