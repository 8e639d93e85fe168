// A pool of threads for parallel_run: workers spin briefly between jobs, then sleep on a futex.
//
// One word holds the job's number, whether it is open and how many workers are inside. A worker enters only while the
// job is open, so the caller never waits for one that woke up late. A second region, nested or from another thread,
// runs on its caller alone. Each thread has a run of neighbouring tasks and, when that is done, helps with the runs of
// the others. After fork the child starts with no workers and makes its own on first use.
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <mutex>
#include <string>
#include <thread>

#include "core/error.h"
#include "core/kernel.h"
#include "core/parallel.h"
#include "cpu/runtime.h"

namespace fastdl {

namespace {

constexpr double kParallelCost = 12000;  // ns of work from which a hand-off (1 to 2 us, and cache lines that move) pays
constexpr int kSpins = 4000;             // about 100 us, the usual gap between two kernels of a training step
constexpr int kMaxThreads = 256;
constexpr double kGrabCost = 20000;  // ns of work that a thread takes at once, at most
constexpr std::uint64_t kOpen = std::uint64_t{1} << 31;

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

// The tasks that one thread begins with; on a cache line of its own.
struct alignas(64) Run {
  std::atomic<std::int64_t> taken{0};
  std::int64_t first = 0, count = 0;

  // Takes tasks [*begin, *end): at most `most` and, beyond the first, an eighth of what is left. One by one would be
  // dear: an atomic update waits for every store before it, a third of the time of a task that writes 16 KiB.
  bool take(std::int64_t most, std::int64_t* begin, std::int64_t* end) {
    *begin = taken.load(std::memory_order_relaxed);
    do {
      if (*begin >= count) return false;
      *end = *begin + std::min(most, 1 + (count - *begin) / 8);
    } while (!taken.compare_exchange_weak(*begin, *end, std::memory_order_relaxed));
    return true;
  }
};

struct Pool {
  std::atomic<std::uint64_t> state{0};  // job number << 32 | open << 31 | workers inside
  Run runs[kMaxThreads];
  bool back = false;
  std::int64_t most = 1;  // tasks taken at once
  TaskFunction function = nullptr;
  void* context = nullptr;
  std::atomic<int> threads{0};  // that share this job, the caller among them
  std::atomic<int> failed{0};
  std::exception_ptr error;
  std::mutex region;  // held by the thread whose region uses the pool
  int workers = 0;    // threads started in this process

  void work(int thread) {
    try {
      for (int i = 0; i < threads; ++i) {
        Run& run = runs[(thread + i) % threads];
        for (std::int64_t k, end; run.take(most, &k, &end);)
          for (; k < end; ++k) function(context, run.first + (back ? run.count - 1 - k : k));
      }
    } catch (...) {
      if (failed.exchange(1) == 0) error = std::current_exception();
      for (int i = 0; i < threads; ++i) runs[i].taken.store(runs[i].count);
    }
  }

  void serve(int thread) {
    DenormalGuard guard;
    std::uint64_t seen = 0;
    for (;;) {
      std::uint64_t now = state.load(std::memory_order_acquire);
      for (int spin = 0; spin < kSpins && ((now & kOpen) == 0 || (now >> 32) == seen); ++spin) {
        pause();
        now = state.load(std::memory_order_acquire);
      }
      if ((now & kOpen) == 0 || (now >> 32) == seen) {
        state.wait(now, std::memory_order_acquire);
        continue;
      }
      seen = now >> 32;
      while ((now & kOpen) != 0 && (now >> 32) == seen &&
             static_cast<int>(now & (kOpen - 1)) < threads.load(std::memory_order_relaxed) - 1) {
        if (!state.compare_exchange_weak(now, now + 1, std::memory_order_acq_rel)) continue;
        work(thread);
        state.fetch_sub(1, std::memory_order_acq_rel);
        break;
      }
    }
  }

  void grow(int wanted) {
    for (; workers < wanted; ++workers) std::thread([this, thread = workers + 1] { serve(thread); }).detach();
  }

  void run(std::int64_t tasks, double cost, int sharing, bool backwards, TaskFunction f, void* c) {
    grow(sharing - 1);
    function = f;
    context = c;
    back = backwards;
    most = std::max<std::int64_t>(1, static_cast<std::int64_t>(kGrabCost / std::max(cost, 1.0)));
    threads = sharing;
    failed.store(0);
    for (int i = 0; i < threads; ++i) {
      runs[i].first = tasks * i / threads;
      runs[i].count = tasks * (i + 1) / threads - runs[i].first;
      runs[i].taken.store(0, std::memory_order_relaxed);
    }
    const std::uint64_t job = ((state.load() >> 32) + 1) & 0xffffffffu;
    state.store(job << 32 | kOpen, std::memory_order_release);
    state.notify_all();
    work(0);
    state.fetch_and(~kOpen, std::memory_order_acq_rel);
    for (int spin = 0; (state.load(std::memory_order_acquire) & (kOpen - 1)) != 0; ++spin)
      spin < kSpins ? pause() : std::this_thread::yield();  // a worker may have lost its core to another process
    if (failed.load()) {
      std::exception_ptr thrown = std::move(error);
      error = nullptr;
      std::rethrow_exception(thrown);
    }
  }
};

// Never destroyed: workers may outlive static destruction. A fork leaves the child a fresh one.
Pool* g_pool = new Pool;
thread_local bool t_inside = false;  // this thread is running a task or a region

void after_fork_in_child() { g_pool = new Pool; }

int cgroup_cores() {
  std::ifstream file("/sys/fs/cgroup/cpu.max");
  std::string quota;
  double period = 0;
  if (!(file >> quota >> period) || quota == "max" || period <= 0) return kMaxThreads;
  const int cores = static_cast<int>(std::atof(quota.c_str()) / period + 0.5);
  return cores > 0 ? cores : 1;
}

std::atomic<int> g_threads{0};

}  // namespace

int available_cores() {
  cpu_set_t set;
  int cores =
      sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
  const int quota = cgroup_cores();
  if (quota < cores) cores = quota;
  return cores < 1 ? 1 : cores;
}

int num_threads() {
  int count = g_threads.load(std::memory_order_relaxed);
  if (count == 0) g_threads.store(count = available_cores());
  return count;
}

void set_num_threads(int count) {
  if (count < 1 || count > kMaxThreads)
    throw ValueError("set_num_threads: n must lie in [1, 256], got " + std::to_string(count));
  g_threads.store(count);
}

void parallel_run(std::int64_t tasks, double cost, bool back, TaskFunction function, void* context) {
  int threads = num_threads();
  if (tasks < threads) threads = static_cast<int>(tasks);
  if (threads > 1 && static_cast<double>(tasks) * cost >= kParallelCost && !t_inside) {
    std::unique_lock<std::mutex> lock(g_pool->region, std::try_to_lock);
    if (lock.owns_lock()) {
      struct Inside {
        Inside() { t_inside = true; }
        ~Inside() { t_inside = false; }
      } inside;
      g_pool->run(tasks, cost, threads, back, function, context);
      return;
    }
  }
  for (std::int64_t k = 0; k < tasks; ++k) function(context, back ? tasks - 1 - k : k);
}

void configure_from_environment() {
  static const int once = pthread_atfork(nullptr, nullptr, after_fork_in_child);
  (void)once;
  if (const char* isa = std::getenv("FASTDL_CPU_ISA"); isa && *isa) set_isa(isa);
  if (const char* text = std::getenv("FASTDL_NUM_THREADS"); text && *text) {
    char* end = nullptr;
    const long count = std::strtol(text, &end, 10);
    if (*end != '\0' || count < 1 || count > kMaxThreads)
      throw ValueError(std::string("FASTDL_NUM_THREADS must be a whole number in [1, 256], got '") + text + "'");
    set_num_threads(static_cast<int>(count));
  }
}

}  // namespace fastdl
