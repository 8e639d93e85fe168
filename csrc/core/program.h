// The recorded program of a training step: calls in order, the memory of their intermediates, and what may change
// between replays.
//
// A Recorder is set for a thread while the step runs for the first time. Arrays that kernels return then come from the
// program's arena, where the step's own frees give memory back: intermediates whose lives don't overlap share it.
// Memory outside the arena that calls change (parameters, optimizer state, running statistics) is noted, so that the
// program can be played and the function run from the same state and compared.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/call.h"
#include "core/check.h"

namespace fastdl {

struct PhiloxStream;

// Memory of one program's intermediates; lives as long as the program or an array in it.
class Arena {
 public:
  Arena() = default;
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  void* take(std::size_t bytes);
  void give(void* memory) noexcept;
  bool holds(const void* memory) const;
  // The number of the allocation that memory lies in, counted from 0, or -1.
  std::int64_t allocation(const void* memory) const;
  std::size_t bytes() const { return total_; }
  // The first byte and the size of each allocation so far, by number.
  struct Allocation {
    char* begin;
    std::size_t size;
  };
  const std::vector<Allocation>& allocations() const { return allocations_; }
  void release_free();  // gives blocks that no array uses back

 private:
  struct Block {
    std::size_t size;
    bool free;
    std::int64_t number;
  };
  const Block* find(const void* memory) const;
  mutable std::mutex mutex_;
  std::map<std::uintptr_t, Block> blocks_;
  std::size_t total_ = 0;
  std::vector<Allocation> allocations_;
};

// Memory outside the arena that the program changes.
struct Outside {
  char* begin;
  std::size_t bytes;
  const char* writer;  // the kernel that changed it first
};

// A place in a call's arguments that shows the memory of an input.
struct Binding {
  View* view;
  std::ptrdiff_t offset;  // bytes from the input's first element
};

// A random stream in a call's arguments: `offset` draws after the generator's counter at the start of the step.
struct Draw {
  PhiloxStream* stream;
  std::size_t generator;
  std::uint64_t offset;
};

struct Generator {
  std::uint64_t seed, counter;  // at the start of the step
};

// An array argument of a recorded call. Memory of the arena is used again: what tells two arrays in one place apart is
// the number of the allocation.
struct Use {
  View* view;
  Access access;
  std::int64_t allocation;  // -1: outside the arena
};

struct Step {
  std::unique_ptr<Call> call;
  std::vector<Use> uses;
};

class Program {
 public:
  std::vector<Step> steps;
  std::shared_ptr<Arena> arena = std::make_shared<Arena>();
  std::vector<std::shared_ptr<void>> kept;
  std::vector<Outside> outside;
  std::vector<std::vector<Binding>> bindings;  // for each input
  std::vector<char*> inputs;                   // where each input is now
  std::vector<Draw> draws;
  std::vector<Generator> generators;

  void bind(std::size_t input, void* data);
  void seed(std::size_t generator, std::uint64_t seed, std::uint64_t counter);
  void play() const;
  // Seconds of each call, the median over `rounds` plays that start from the same state, which is restored at the end.
  std::vector<double> time(int rounds);

  // What lies outside in one block, for after the recording.
  using Snapshot = std::unique_ptr<char, void (*)(void*)>;
  void merge_outside();  // no two overlap from then on
  Snapshot save_outside() const;
  void restore_outside(const Snapshot& saved) const;
  void exchange_outside(Snapshot& saved) const;
  const char* changed_outside(const Snapshot& saved) const;  // the writer of memory that is not as saved, or ""
};

class Recorder {
 public:
  // fixed: inputs that are the same in every call; others must not be changed in place.
  Recorder(Program& program, std::vector<View> inputs, std::vector<bool> fixed);
  void add(std::unique_ptr<Call> call);
  void refuse(std::string why) {
    if (refused.empty()) refused = std::move(why);
  }
  int input_of(const void* memory) const;  // the input that memory lies in, or -1
  bool varies(const void* memory) const;   // may differ between replays: an input, the arena, or changed outside

  Program& program;
  std::string refused;  // why this step can't be recorded

 private:
  struct Visitor;
  std::vector<check::Extent> inputs_;
  std::vector<bool> fixed_;
};

// Records a check of values that kernels rely on (labels, indices), so that replays make it too. Nothing to do for
// memory that only recorded kernels write.
void record_check(const View& values, std::unique_ptr<Call> check);

template <class... Args>
class CheckCall final : public Call {
 public:
  using Function = void (*)(const char* kernel, const View& values, Args...);
  CheckCall(const char* kernel, const View& values, Function f, Args... args)
      : kernel_(kernel), values_(values), f_(f), args_(args...) {}
  const char* name() const override { return "check"; }
  void play() const override {
    std::apply([this](const Args&... args) { f_(kernel_, values_, args...); }, args_);
  }
  bool repeats(const Call& other) const override {
    const auto* same = dynamic_cast<const CheckCall*>(&other);
    return same != nullptr && check::same_view(values_, same->values_) && f_ == same->f_ && args_ == same->args_;
  }
  void visit(ArgumentVisitor& visitor) override { visitor.array(values_, Access::kRead); }

 private:
  const char* kernel_;
  View values_;
  Function f_;
  std::tuple<Args...> args_;
};

// Runs f(kernel, values, args...) now and, in a recorded step, at every replay. Values in a GPU's memory can't be
// looked at before the kernel, which then must not trust them.
template <class... Args>
void checked(const char* kernel, const View& values, void (*f)(const char*, const View&, Args...),
             std::type_identity_t<Args>... args) {
  if (!kOnHost) return;
  f(kernel, values, args...);
  if (is_recording()) record_check(values, std::make_unique<CheckCall<Args...>>(kernel, values, f, args...));
}

}  // namespace fastdl
