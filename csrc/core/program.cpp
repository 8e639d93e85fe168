#include "core/program.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "core/kernel.h"
#include "core/philox.h"
#include "cpu/memory.h"

namespace fastdl {

thread_local Recorder* t_recorder = nullptr;

namespace {

std::uintptr_t address(const void* memory) { return reinterpret_cast<std::uintptr_t>(memory); }

}  // namespace

void record(std::unique_ptr<Call> call) { t_recorder->add(std::move(call)); }

void record_check(const View& values, std::unique_ptr<Call> check) {
  if (!t_recorder->program.arena->holds(values.data)) record(std::move(check));
}

Arena::~Arena() {
  for (auto& [begin, block] : blocks_) cached_free(reinterpret_cast<void*>(begin));
}

// The smallest free block that fits and is not much too large.
void* Arena::take(std::size_t bytes) {
  bytes = std::max<std::size_t>((bytes + 63) / 64 * 64, 64);
  std::lock_guard<std::mutex> lock(mutex_);
  auto best = blocks_.end();
  for (auto at = blocks_.begin(); at != blocks_.end(); ++at)
    if (at->second.free && at->second.size >= bytes && at->second.size <= 2 * bytes &&
        (best == blocks_.end() || at->second.size < best->second.size))
      best = at;
  if (best != blocks_.end()) {
    best->second.free = false;
    best->second.number = static_cast<std::int64_t>(allocations_.size());
    allocations_.push_back({reinterpret_cast<char*>(best->first), bytes});
    return reinterpret_cast<void*>(best->first);
  }
  void* memory = cached_alloc(bytes);
  blocks_.emplace(address(memory), Block{bytes, false, static_cast<std::int64_t>(allocations_.size())});
  allocations_.push_back({static_cast<char*>(memory), bytes});
  total_ += bytes;
  return memory;
}

void Arena::release_free() {
  std::lock_guard<std::mutex> lock(mutex_);
  for (auto at = blocks_.begin(); at != blocks_.end();)
    if (at->second.free) {
      cached_free(reinterpret_cast<void*>(at->first));
      total_ -= at->second.size;
      at = blocks_.erase(at);
    } else {
      ++at;
    }
}

void Arena::give(void* memory) noexcept {
  std::lock_guard<std::mutex> lock(mutex_);
  blocks_.find(address(memory))->second.free = true;
}

const Arena::Block* Arena::find(const void* memory) const {
  auto after = blocks_.upper_bound(address(memory));
  if (after == blocks_.begin()) return nullptr;
  const auto& [begin, block] = *std::prev(after);
  return address(memory) < begin + block.size ? &block : nullptr;
}

bool Arena::holds(const void* memory) const {
  std::lock_guard<std::mutex> lock(mutex_);
  return find(memory) != nullptr;
}

std::int64_t Arena::allocation(const void* memory) const {
  std::lock_guard<std::mutex> lock(mutex_);
  const Block* block = find(memory);
  return block != nullptr ? block->number : -1;
}

// What a call's arguments mean to the program.
struct Recorder::Visitor final : ArgumentVisitor {
  explicit Visitor(Recorder& r, const Call& c) : recorder(r), call(c) {}

  void array(View& view, Access access) override {
    if (view.size() == 0) return;
    const check::Extent extent = check::extent(view);
    Program& program = recorder.program;
    uses.push_back({&view, access, program.arena->allocation(view.data)});
    const int input = recorder.input_of(reinterpret_cast<void*>(extent.begin));
    if (input >= 0 && access != Access::kRead && !recorder.fixed_[static_cast<std::size_t>(input)])
      recorder.refuse("to change an argument in place");
    if (input >= 0)
      program.bindings[static_cast<std::size_t>(input)].push_back(
          {&view, static_cast<char*>(view.data) - program.inputs[static_cast<std::size_t>(input)]});
    if (access == Access::kRead || program.arena->holds(view.data)) return;
    for (const Outside& o : program.outside)
      if (address(o.begin) <= extent.begin && extent.end <= address(o.begin) + o.bytes) return;
    char* const begin = reinterpret_cast<char*>(extent.begin);
    const std::size_t bytes = extent.end - extent.begin;
    program.outside.push_back({begin, bytes, call.name()});
  }

  void stream(PhiloxStream& stream) override {
    const std::vector<Generator>& all = recorder.program.generators;
    for (std::size_t g = 0; g < all.size(); ++g)
      if (stream.seed == all[g].seed && stream.counter >= all[g].counter) {
        recorder.program.draws.push_back({&stream, g, stream.counter - all[g].counter});
        return;
      }
    recorder.refuse("random numbers that come from no fastdl.Generator");
  }

  void keep(std::shared_ptr<void> memory) override { recorder.program.kept.push_back(std::move(memory)); }
  void refuse(const char* why) override { recorder.refuse(why); }

  Recorder& recorder;
  const Call& call;
  std::vector<Use> uses;
};

Recorder::Recorder(Program& p, std::vector<View> inputs, std::vector<bool> fixed)
    : program(p), fixed_(std::move(fixed)) {
  for (const View& view : inputs) {
    inputs_.push_back(check::extent(view));
    program.inputs.push_back(static_cast<char*>(view.data));
  }
  program.bindings.resize(inputs.size());
}

void Recorder::add(std::unique_ptr<Call> call) {
  Visitor visitor(*this, *call);
  call->visit(visitor);
  program.steps.push_back({std::move(call), std::move(visitor.uses)});
}

int Recorder::input_of(const void* memory) const {
  for (std::size_t i = 0; i < inputs_.size(); ++i)
    if (inputs_[i].begin <= address(memory) && address(memory) < inputs_[i].end) return static_cast<int>(i);
  return -1;
}

bool Recorder::varies(const void* memory) const {
  if (input_of(memory) >= 0 || program.arena->holds(memory)) return true;
  for (const Outside& o : program.outside)
    if (address(o.begin) <= address(memory) && address(memory) < address(o.begin) + o.bytes) return true;
  return false;
}

void Program::bind(std::size_t input, void* data) {
  if (inputs[input] == data) return;
  inputs[input] = static_cast<char*>(data);
  for (const Binding& b : bindings[input]) b.view->data = inputs[input] + b.offset;
}

void Program::seed(std::size_t generator, std::uint64_t seed, std::uint64_t counter) {
  for (const Draw& d : draws)
    if (d.generator == generator) *d.stream = {seed, counter + d.offset};
}

void Program::play() const {
  DenormalGuard guard;
  for (const Step& step : steps) step.call->play();
}

void Program::merge_outside() {
  std::sort(outside.begin(), outside.end(), [](const Outside& a, const Outside& b) { return a.begin < b.begin; });
  std::vector<Outside> merged;
  for (const Outside& o : outside)
    if (!merged.empty() && o.begin < merged.back().begin + merged.back().bytes)
      merged.back().bytes = std::max<std::size_t>(merged.back().bytes, o.begin + o.bytes - merged.back().begin);
    else
      merged.push_back(o);
  outside = std::move(merged);
}

Program::Snapshot Program::save_outside() const {
  std::size_t bytes = 0;
  for (const Outside& o : outside) bytes += o.bytes;
  Snapshot saved(static_cast<char*>(cached_alloc(bytes)), cached_free);
  char* at = saved.get();
  for (const Outside& o : outside) at = std::copy_n(o.begin, o.bytes, at);
  return saved;
}

void Program::restore_outside(const Snapshot& saved) const {
  const char* at = saved.get();
  for (const Outside& o : outside) {
    std::memcpy(o.begin, at, o.bytes);
    at += o.bytes;
  }
}

void Program::exchange_outside(Snapshot& saved) const {
  char* at = saved.get();
  for (const Outside& o : outside) at = std::swap_ranges(o.begin, o.begin + o.bytes, at);
}

const char* Program::changed_outside(const Snapshot& saved) const {
  const char* at = saved.get();
  for (const Outside& o : outside) {
    if (std::memcmp(o.begin, at, o.bytes) != 0) return o.writer;
    at += o.bytes;
  }
  return "";
}

std::vector<double> Program::time(int rounds) {
  const auto saved = save_outside();
  std::vector<std::vector<double>> seconds(steps.size());
  DenormalGuard guard;
  for (int r = 0; r < rounds; ++r) {
    for (std::size_t i = 0; i < steps.size(); ++i) {
      const auto start = std::chrono::steady_clock::now();
      steps[i].call->play();
      seconds[i].push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    restore_outside(saved);
  }
  std::vector<double> medians;
  for (auto& all : seconds) {
    std::nth_element(all.begin(), all.begin() + rounds / 2, all.end());
    medians.push_back(all[static_cast<std::size_t>(rounds / 2)]);
  }
  return medians;
}

}  // namespace fastdl
