// Memory that is used again and again: scratch of kernels and arrays that kernels return.
//
// A training step asks for the same sizes over and over. Fresh memory from the system costs a page fault for each 4 KiB
// (2 ms for a 10 MB activation on the machine this was measured on), so freed blocks wait in lists by size class and go
// back to the system only past kKeep bytes.
#include <pthread.h>

#include <cstdlib>
#include <mutex>
#include <new>
#include <unordered_map>
#include <vector>

#include "core/parallel.h"
#include "cpu/memory.h"

namespace fastdl {

namespace {

constexpr std::size_t kHeader = 64;                    // keeps the block aligned; holds its size class
constexpr std::size_t kKeep = std::size_t{512} << 20;  // bytes kept at most

struct Cache {
  std::mutex mutex;
  std::unordered_map<std::size_t, std::vector<void*>> free;
  std::size_t kept = 0;
};

Cache* make_cache();

Cache& cache() {
  static Cache* const instance = make_cache();  // never destroyed: arrays may be freed after static destruction
  return *instance;
}

// A fork while another thread holds the mutex would leave the child waiting for ever.
Cache* make_cache() {
  pthread_atfork([] { cache().mutex.lock(); }, [] { cache().mutex.unlock(); }, [] { cache().mutex.unlock(); });
  return new Cache;
}

// Classes step by an eighth of a power of two: at most 12.5 % is wasted.
std::size_t size_class(std::size_t bytes) {
  if (bytes < 512) return (bytes + 63) / 64 * 64;
  const std::size_t step = (std::size_t{1} << (63 - __builtin_clzll(bytes))) / 8;
  return (bytes + step - 1) / step * step;
}

// Small blocks (results of a few numbers, scratch of small kernels) wait with their thread first, where no lock is
// needed, and so does larger scratch: what a kernel wrote there last is in that core's cache. Plain memory without a
// destructor: arrays may be freed while the thread ends.
constexpr std::size_t kSmall = 1024, kShelves = kSmall / 64;
struct Shelf {
  void* blocks[4];
  int count;
};
thread_local Shelf t_shelves[kShelves];

constexpr std::size_t kMostScratch = std::size_t{16} << 20;  // bytes
struct ScratchBlocks {
  void* blocks[24];  // the oldest first
  int count;
  std::size_t bytes;

  void* remove(int i) {
    void* const block = blocks[i];
    for (--count; i < count; ++i) blocks[i] = blocks[i + 1];
    bytes -= *static_cast<std::size_t*>(block);
    return block;
  }
};
thread_local ScratchBlocks t_scratch;
thread_local bool t_ending = false;

// Frees what waits with a thread when it ends.
struct Clearing {
  ~Clearing() {
    t_ending = true;
    for (Shelf& shelf : t_shelves)
      while (shelf.count > 0) std::free(shelf.blocks[--shelf.count]);
    while (t_scratch.count > 0) std::free(t_scratch.remove(t_scratch.count - 1));
  }
};

void clear_at_end() { thread_local Clearing clearing; }

Shelf* shelf_of(std::size_t size) { return size <= kSmall ? &t_shelves[size / 64 - 1] : nullptr; }

bool put_on(Shelf* shelf, void* block) {
  if (shelf == nullptr || shelf->count == 4 || t_ending) return false;
  clear_at_end();
  shelf->blocks[shelf->count++] = block;
  return true;
}

}  // namespace

void* cached_alloc(std::size_t bytes) {
  const std::size_t size = size_class(bytes ? bytes : 1);
  if (Shelf* shelf = shelf_of(size); shelf != nullptr && shelf->count > 0)
    return static_cast<char*>(shelf->blocks[--shelf->count]) + kHeader;
  {
    Cache& c = cache();
    std::lock_guard<std::mutex> lock(c.mutex);
    auto found = c.free.find(size);
    if (found != c.free.end() && !found->second.empty()) {
      void* block = found->second.back();
      found->second.pop_back();
      c.kept -= size;
      return static_cast<char*>(block) + kHeader;
    }
  }
  void* block = std::aligned_alloc(64, (size + kHeader + 63) / 64 * 64);
  if (block == nullptr) throw std::bad_alloc();
  *static_cast<std::size_t*>(block) = size;
  return static_cast<char*>(block) + kHeader;
}

void cached_free(void* memory) noexcept {
  if (memory == nullptr) return;
  void* block = static_cast<char*>(memory) - kHeader;
  const std::size_t size = *static_cast<std::size_t*>(block);
  if (put_on(shelf_of(size), block)) return;
  Cache& c = cache();
  std::lock_guard<std::mutex> lock(c.mutex);
  if (c.kept + size <= kKeep) {
    try {
      c.free[size].push_back(block);
      c.kept += size;
      return;
    } catch (const std::bad_alloc&) {
    }
  }
  std::free(block);
}

void* scratch_take(std::size_t bytes) {
  const std::size_t size = size_class(bytes ? bytes : 1);
  for (int i = t_scratch.count - 1; i >= 0; --i)
    if (*static_cast<std::size_t*>(t_scratch.blocks[i]) == size)
      return static_cast<char*>(t_scratch.remove(i)) + kHeader;
  return cached_alloc(bytes);
}

void scratch_give(void* memory) {
  void* const block = static_cast<char*>(memory) - kHeader;
  const std::size_t size = *static_cast<std::size_t*>(block);
  if (size <= kSmall || size > kMostScratch || t_ending) return cached_free(memory);
  clear_at_end();
  constexpr int kPlaces = sizeof t_scratch.blocks / sizeof *t_scratch.blocks;
  while (t_scratch.count == kPlaces || t_scratch.bytes + size > kMostScratch)
    cached_free(static_cast<char*>(t_scratch.remove(0)) + kHeader);
  t_scratch.blocks[t_scratch.count++] = block;
  t_scratch.bytes += size;
}

}  // namespace fastdl
