// The library's check of longjmp takes a change of stacks for an overflow.
#undef _FORTIFY_SOURCE

#include "cuda/emulated.h"

#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <memory>
#include <new>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "cuda/runtime.h"

namespace fastdl::cuda::gpu {

namespace emulated {

constinit thread_local Place t_place{};

namespace {

thread_local unsigned t_order = 0;
constexpr std::size_t kCopied = 16;  // bytes

[[noreturn]] void fail(const std::string& what) { throw std::runtime_error("emulated kernel: " + what); }

// A stack of its own, on which one thread after another runs.
class Fiber {
 public:
  Fiber() : memory_(mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)) {
    if (memory_ == MAP_FAILED) throw std::bad_alloc();
    (void)mprotect(memory_, static_cast<std::size_t>(sysconf(_SC_PAGESIZE)), PROT_NONE);  // a guard at its end
  }
  Fiber(const Fiber&) = delete;
  ~Fiber() { (void)munmap(memory_, kBytes); }

  // Where `begin` is called at first, and from then on to where `place` was set.
  void enter(void (*begin)()) {
    if (begun) _longjmp(place, 1);
    begun = true;
    ucontext_t context;
    (void)getcontext(&context);
    context.uc_stack.ss_sp = memory_;
    context.uc_stack.ss_size = kBytes - shift_;
    context.uc_link = nullptr;
    makecontext(&context, begin, 0);
    (void)setcontext(&context);
    std::abort();  // it does not return
  }

  bool begun = false;
  jmp_buf place;

 private:
  static constexpr std::size_t kBytes = 256 << 10, kLine = 64;
  void* memory_;
  // So that what neighbours have on their stacks lies in different lines of the cache.
  const std::size_t shift_ = reinterpret_cast<std::uintptr_t>(memory_) / kBytes * 5 % 64 * kLine;
};

struct Copy {
  void* to;
  const void* from;
};

struct Shared {
  static constexpr std::size_t kGuard = 64;
  static constexpr unsigned char kNaN = 0xff, kUntouched = 0xa5;
  const void* key;
  std::size_t bytes;
  std::unique_ptr<unsigned char, void (*)(void*)> memory;

  Shared(const void* of, std::size_t size)
      : key(of), bytes(size), memory(static_cast<unsigned char*>(std::aligned_alloc(64, room(size))), &std::free) {
    if (memory == nullptr) throw std::bad_alloc();
    fill();
  }
  void fill() {
    std::memset(memory.get(), kNaN, bytes);
    std::memset(memory.get() + bytes, kUntouched, kGuard);
  }
  bool is_whole() const {
    return std::all_of(memory.get() + bytes, memory.get() + bytes + kGuard, [](auto x) { return x == kUntouched; });
  }
  static std::size_t room(std::size_t size) { return (size + kGuard + 63) / 64 * 64; }
};

struct Team {
  dim3 index;
  std::vector<Shared> shared;
  std::vector<unsigned char> slots;  // [warp][turn][lane][kMostExchanged]
};

}  // namespace

enum class State : std::uint8_t { ready, waiting, done };

struct Thread {
  unsigned index = 0;    // in its block
  std::size_t warp = 0;  // of all that run at the same time
  Team* team = nullptr;
  State state = State::ready;
  What what = What::block;
  unsigned exchanges = 0;
  Fiber* fiber = nullptr;
  std::vector<std::vector<Copy>> groups{1};
};

namespace {

// The fibers of an OS thread that nothing runs on.
std::vector<std::unique_ptr<Fiber>>& idle_fibers() {
  thread_local std::vector<std::unique_ptr<Fiber>> fibers;
  return fibers;
}

}  // namespace

// Some blocks of a launch whose threads take turns.
class Run {
 public:
  Run(const Grid& grid, void (*body)(const void*), const void* of)
      : grid_(grid), body_(body), of_(of), random_(t_order) {
    constexpr unsigned kMixed = 4;  // blocks at the same time that need not be
    const unsigned size = static_cast<unsigned>(grid.threads);
    const unsigned together = grid.waits ? grid.count() : is_mixed() ? std::min(grid.count(), kMixed) : 1;
    teams_.resize(together);
    threads_.resize(std::size_t{together} * size);
    for (std::size_t i = 0; i < threads_.size(); ++i) {
      threads_[i].index = static_cast<unsigned>(i % size);
      threads_[i].team = &teams_[i / size];
      threads_[i].warp = i / kWarp;
    }
    for (Team& team : teams_) team.slots.resize(std::size_t{size} * 2 * kMostExchanged);
    for (Thread& thread : threads_) order_.push_back(&thread);
    if (t_order == 1) std::reverse(order_.begin(), order_.end());
  }
  Run(const Run&) = delete;
  ~Run() {  // what is left on a stack is given up: kernels own nothing
    for (Thread& thread : threads_)
      if (thread.fiber != nullptr) {
        thread.fiber->begun = false;
        idle_fibers().emplace_back(thread.fiber);
      }
  }

  void run() {
    const unsigned blocks = grid_.count(), together = static_cast<unsigned>(teams_.size());
    for (unsigned first = 0; first < blocks; first += together) {
      for (unsigned i = 0; i < together && first + i < blocks; ++i) {
        // All together are in reverse already, as their threads are.
        const unsigned at = t_order == 1 && !grid_.waits ? blocks - 1 - first - i : first + i;
        teams_[i].index = {at % grid_.blocks.x, at / grid_.blocks.x};
        for (Shared& array : teams_[i].shared) array.fill();
      }
      const std::size_t warps = std::size_t{std::min(together, blocks - first)} * blockDim.x / kWarp;
      for (Thread& thread : threads_) {
        thread.state = thread.warp < warps ? State::ready : State::done;
        thread.groups.resize(1);
        thread.groups[0].clear();
      }
      while (step()) release();
      for (const Team& team : teams_)
        for (const Shared& array : team.shared)
          if (!array.is_whole()) fail("a block wrote beyond the end of its shared memory");
    }
  }

  // On the fiber of the present thread.
  void run_body() {
    try {
      body_(of_);
    } catch (...) {
      error_ = std::current_exception();
    }
    t_place.now->state = State::done;
  }
  // Goes to the next thread that waits on a fiber of its own, or home, where one that is done leaves its fiber.
  void leave() {
    Fiber& fiber = *t_place.now->fiber;
    if (_setjmp(fiber.place) != 0) return;
    while (turn_ != order_.size() && !can_run(*order_[turn_])) ++turn_;
    if (t_place.now->state == State::done || turn_ == order_.size() || order_[turn_]->fiber == nullptr)
      _longjmp(home_, 1);
    Thread& next = *order_[turn_++];
    take_place(next);
    _longjmp(next.fiber->place, 1);
  }
  const Grid& grid() const { return grid_; }

 private:
  static bool is_mixed() { return t_order > 1; }
  bool can_run(const Thread& thread) const { return thread.state == State::ready && thread.warp != late_; }

  // Every thread that can goes on until it waits or is done. Are there threads that are not? In mixed order one warp
  // comes too late: it runs when nobody else can, which shows who should have waited for it.
  bool step() {
    if (is_mixed()) {
      std::shuffle(order_.begin(), order_.end(), random_);
      if (std::none_of(threads_.begin(), threads_.end(), [this](const Thread& t) { return can_run(t); })) late_ = kNone;
    }
    for (turn_ = 0; turn_ != order_.size();)
      if (Thread& thread = *order_[turn_++]; can_run(thread)) resume(thread);
    if (is_mixed() && late_ == kNone) late_ = random_() % (threads_.size() / kWarp);
    return std::any_of(threads_.begin(), threads_.end(), [](const Thread& t) { return t.state != State::done; });
  }

  void resume(Thread& thread) {
    auto& idle = idle_fibers();
    if (thread.fiber == nullptr) {
      if (idle.empty()) idle.push_back(std::make_unique<Fiber>());
      thread.fiber = idle.back().release();
      idle.pop_back();
    }
    take_place(thread);
    go(*thread.fiber);
    if (error_) std::rethrow_exception(error_);
    if (t_place.now->state == State::done) idle.emplace_back(std::exchange(t_place.now->fiber, nullptr));
  }
  static void take_place(Thread& thread) {
    t_place.now = &thread;
    t_place.thread = thread.index;
    t_place.block = thread.team->index;
  }
  void go(Fiber& fiber) {
    if (_setjmp(home_) == 0) fiber.enter(&begin);
  }
  static void begin() {
    while (true) {
      t_place.run->run_body();
      t_place.run->leave();
    }
  }

  // Lets those go on that wait for nobody any more.
  void release() {
    const auto whole = static_cast<std::ptrdiff_t>(grid_.threads);
    bool any = release_all(threads_.begin(), threads_.end(), What::grid);
    for (auto team = threads_.begin(); team != threads_.end(); team += whole) {
      any = release_all(team, team + whole, What::block) || any;
      for (auto warp = team; warp != team + whole; warp += kWarp)
        if (warp->what > What::grid) any = release_all(warp, warp + kWarp, warp->what) || any;
    }
    any = any || std::any_of(threads_.begin(), threads_.end(), [](const Thread& t) { return t.state == State::ready; });
    if (!any) fail("threads wait for others that are done, or wait for something else");
  }
  template <class I>
  static bool release_all(I first, I last, What what) {
    if (std::any_of(first, last, [&](const Thread& t) { return t.state != State::waiting || t.what != what; }))
      return false;
    std::for_each(first, last, [](Thread& t) { t.state = State::ready; });
    return true;
  }

  Grid grid_;
  void (*body_)(const void*);
  const void* of_;
  std::minstd_rand random_;
  std::vector<Team> teams_;
  std::vector<Thread> threads_;
  std::vector<Thread*> order_;
  std::size_t turn_ = 0;  // the next thread of them
  static constexpr std::size_t kNone = ~std::size_t{0};
  std::size_t late_ = kNone;  // a warp
  std::exception_ptr error_;
  jmp_buf home_;
};

void run(const Grid& grid, void (*body)(const void*), const void* of) {
  constexpr int kMostThreads = 1024;
  constexpr std::int64_t kMostShared = 99 << 10;  // the least that a block may have where there are tensor cores
  const std::int64_t most_bytes = grid.waits ? block_memory() : kMostShared;
  if (grid.count() == 0 || grid.threads <= 0 || grid.threads % kWarp != 0 || grid.threads > kMostThreads ||
      grid.blocks.z != 1 || static_cast<std::int64_t>(grid.dynamic_bytes) > most_bytes ||
      (grid.waits && grid.count() > waiting_blocks()))
    throw std::runtime_error("a kernel could not be launched: its grid is not one that the device takes");
  Run run(grid, body, of);
  t_place = {{}, {}, static_cast<unsigned>(grid.threads), grid.blocks, nullptr, &run};
  run.run();
}

void wait(What what) {
  Thread& thread = *t_place.now;
  if (what == What::grid && !t_place.run->grid().waits) fail("blocks wait for each other");
  thread.state = State::waiting;
  thread.what = what;
  thread.exchanges += what > What::grid;
  t_place.run->leave();
}

unsigned char* exchanged() {
  const std::size_t warp = t_place.now->index / kWarp, turn = t_place.now->exchanges % 2;
  return t_place.now->team->slots.data() + (warp * 2 + turn) * kWarp * kMostExchanged;
}

void* shared_memory(const void* key, std::size_t bytes) {
  std::vector<Shared>& shared = t_place.now->team->shared;
  if (key == nullptr) bytes = t_place.run->grid().dynamic_bytes;
  for (Shared& array : shared)
    if (array.key == key) return array.memory.get();
  constexpr std::size_t kMostDeclared = 48 << 10;
  std::size_t declared = key != nullptr ? bytes : 0;
  for (const Shared& array : shared) declared += array.key != nullptr ? array.bytes : 0;
  if (declared > kMostDeclared) fail("more shared memory than can be declared");
  return shared.emplace_back(key, bytes).memory.get();
}

void copy_later(void* to, const void* from) {
  check_alignment(to, kCopied);
  check_alignment(from, kCopied);
  t_place.now->groups.back().push_back({to, from});
}
void end_group() { t_place.now->groups.emplace_back(); }
void wait_for_groups(std::size_t running) {
  auto& groups = t_place.now->groups;  // the last is open
  if (groups.size() - 1 <= running) return;
  const auto end = groups.end() - 1 - static_cast<std::ptrdiff_t>(running);
  for (auto group = groups.begin(); group != end; ++group)
    for (const Copy& copy : *group)
      copy.from != nullptr ? std::memcpy(copy.to, copy.from, kCopied) : std::memset(copy.to, 0, kCopied);
  groups.erase(groups.begin(), end);
}

void fail_unaligned(const void* p, std::size_t border) {
  fail("an access at " + std::to_string(reinterpret_cast<std::uintptr_t>(p) % border) + " bytes beyond a border of " +
       std::to_string(border));
}

}  // namespace emulated

void emulate_order(unsigned order) { emulated::t_order = order; }

}  // namespace fastdl::cuda::gpu
