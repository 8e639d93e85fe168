#include "cuda/library.h"

#include <dlfcn.h>

#include <stdexcept>

namespace fastdl::cuda::gpu {

Symbols::Symbols(const char* name, const char* soname, const std::string& path)
    : name_(name), file_(path.empty() ? soname : path), handle_(nullptr) {
  if (path.empty()) handle_ = dlopen(soname, RTLD_NOW | RTLD_NOLOAD);
  if (handle_ == nullptr) handle_ = dlopen(file_.c_str(), RTLD_NOW);
  if (handle_ == nullptr) {
    const char* why = dlerror();
    throw std::runtime_error(why != nullptr ? why : "the library can't be opened");
  }
}

void* Symbols::address(const char* symbol) const {
  void* const found = dlsym(handle_, symbol);
  if (found == nullptr) throw std::runtime_error(file_ + " is not " + name_ + ": it has no " + symbol);
  return found;
}

void Symbols::expect(int major, int minor, int expected, const char* what) const {
  if (major != expected)
    throw std::runtime_error(file_ + " is " + name_ + " " + std::to_string(major) + "." + std::to_string(minor) +
                             ", expected " + what);
}

}  // namespace fastdl::cuda::gpu
