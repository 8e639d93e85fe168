// Threads and scratch memory for CPU kernels.
//
// parallel_for(tasks, cost, f) calls f(task) for every task in [0, tasks), on several threads when tasks * cost
// (nanoseconds, roughly) is worth the hand-off. Which thread takes which task is not fixed, so a task must own what it
// writes, and borders between tasks must follow from shapes alone wherever sums cross them. As a rule each thread takes
// an equal run of neighbours, from the first to the last, so a later loop over the same data meets the same cache;
// parallel_for_back goes from the last to the first, and meets what such a loop touched last.
#pragma once
#include <cstddef>
#include <cstdint>

#include "core/view.h"

namespace fastdl {

int num_threads();
void set_num_threads(int count);

using TaskFunction = void (*)(void* context, std::int64_t task);
void parallel_run(std::int64_t tasks, double cost, bool back, TaskFunction function, void* context);

template <class F>
FASTDL_INLINE void parallel_tasks(std::int64_t tasks, double cost, bool back, const F& f) {
  parallel_run(
      tasks, cost, back, [](void* context, std::int64_t task) { (*static_cast<const F*>(context))(task); },
      const_cast<F*>(&f));
}
template <class F>
FASTDL_INLINE void parallel_for(std::int64_t tasks, double cost, const F& f) {
  parallel_tasks(tasks, cost, false, f);
}
template <class F>
FASTDL_INLINE void parallel_for_back(std::int64_t tasks, double cost, const F& f) {
  parallel_tasks(tasks, cost, true, f);
}

// Uninitialised scratch memory, 64-byte aligned, kept by the thread for its next use when small enough.
void* scratch_take(std::size_t bytes);
void scratch_give(void* memory);

template <class T>
class Scratch {
 public:
  FASTDL_INLINE explicit Scratch(std::int64_t count)
      : data_(static_cast<T*>(scratch_take(static_cast<std::size_t>(count) * sizeof(T)))) {}
  FASTDL_INLINE ~Scratch() { scratch_give(data_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  FASTDL_INLINE operator T*() const { return data_; }

 private:
  T* data_;
};

}  // namespace fastdl
