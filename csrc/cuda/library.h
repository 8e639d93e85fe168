// NVIDIA's libraries, opened when a kernel first asks for one: a copy that the process already has, or one that Python
// finds. Never linked and never required: without a library its table is missing and fastdl's own kernels serve.
#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "cuda/runtime.h"

namespace fastdl::cuda::gpu {

// A library that is being opened. Throws with the reason where that fails.
class Symbols {
 public:
  // From the dynamic linker's own search for `soname` if the path is empty. name: of the library, for messages.
  Symbols(const char* name, const char* soname, const std::string& path);

  template <class Function>
  void find(const char* symbol, Function& function) const {
    function = reinterpret_cast<Function>(address(symbol));
  }
  // Throws unless `major` is what is expected; the rest is for the message.
  void expect(int major, int minor, int expected, const char* what) const;

 private:
  void* address(const char* symbol) const;

  const char* name_;
  std::string file_;
  void* handle_;
};

// Table: the library's functions, with `int fill(const Symbols&)`, which finds them and returns the version.
template <class Table>
class Library {
 public:
  // forget: throws away what was made with the table before.
  Library(const char* name, const char* soname, void (*forget)()) : name_(name), soname_(soname), forget_(forget) {}

  // Opens the library and returns its version, or throws with the reason; what was open then stays in use.
  int load(const std::string& path) {
    auto table = std::make_unique<Table>();
    const int version = table->fill(Symbols(name_, soname_, path));
    use(table.release());
    return version;
  }
  // Goes back to fastdl's own kernels. The library stays in memory: others may be using it.
  void unload() { use(nullptr); }

  // find: is called by the first kernel that asks, outside of any lock, and may call load.
  void set_finder(std::function<void()> find) {
    const std::lock_guard<std::mutex> lock(mutex_);
    find_ = std::move(find);
    asked_ = false;
  }

  // The functions, or nullptr without a library. Asks the finder if it has not been asked yet.
  const Table* get() {
    if (!asked_) {
      std::function<void()> find;
      {
        const std::lock_guard<std::mutex> lock(mutex_);
        find = find_;
      }
      if (find) {
        if (is_capturing()) refuse_capture(name_);
        find();
      }
      asked_ = true;
    }
    return table_;
  }

 private:
  void use(const Table* table) {
    const std::lock_guard<std::mutex> lock(mutex_);
    forget_();
    table_ = table;
    asked_ = true;
  }

  const char *const name_, *const soname_;
  void (*const forget_)();
  std::mutex mutex_;
  std::atomic<const Table*> table_ = nullptr;  // tables are never freed: another thread may hold one
  std::atomic<bool> asked_ = false;            // the finder has had its turn
  std::function<void()> find_;
};

}  // namespace fastdl::cuda::gpu

// A member of a table for a function of the library's API, and finding it.
#define FASTDL_MEMBER(name) decltype(&FASTDL_API::name) name = nullptr;
#define FASTDL_FIND(name) symbols.find(#name, name);
