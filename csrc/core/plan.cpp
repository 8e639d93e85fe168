#include "core/plan.h"

#include <algorithm>
#include <map>

namespace fastdl {

namespace {

// A place for every allocation that lives from `first` to `last`, counted in steps.
struct Life {
  std::int64_t allocation;
  std::size_t first, last, size, offset;
};

// Memory that arrays take one after the other.
struct Slot {
  std::size_t size, offset;
  std::vector<const Life*> lives;

  // Before `life` begins, since when is the slot free? 0: always, -1: it is not free while `life` lasts.
  std::int64_t free_since(const Life& life) const {
    std::int64_t since = 0;
    for (const Life* other : lives) {
      if (other->first <= life.last && life.first <= other->last) return -1;
      if (other->last < life.first) since = std::max(since, static_cast<std::int64_t>(other->last) + 1);
    }
    return since;
  }
};

// Largest first, each in the slot that was freed last, for what of it is still in a cache; in the middle of a larger
// one: a thread keeps to its part of every array, and lines that another one wrote last come several times as
// slowly where the two cores have no cache in common.
std::size_t place(std::vector<Life>& lives) {
  std::sort(lives.begin(), lives.end(),
            [](const Life& a, const Life& b) { return a.size != b.size ? a.size > b.size : a.first < b.first; });
  std::vector<Slot> slots;
  std::size_t total = 0;
  for (Life& life : lives) {
    Slot* best = nullptr;
    std::int64_t latest = -1;
    for (Slot& slot : slots)
      if (const std::int64_t since = slot.free_since(life); since >= 0 && since >= latest) latest = since, best = &slot;
    if (best == nullptr) {
      best = &slots.emplace_back(Slot{life.size, total, {}});
      total += life.size;
    }
    best->lives.push_back(&life);
    life.offset = best->offset + (best->size - life.size) / 2 / 64 * 64;
  }
  return total;
}

}  // namespace

void plan_memory(Program& program, const std::vector<View>& results) {
  std::map<std::int64_t, Life> found;
  for (std::size_t i = 0; i < program.steps.size(); ++i)
    for (const Use& use : program.steps[i].uses)
      if (use.allocation >= 0) {
        auto [at, is_new] = found.try_emplace(use.allocation, Life{use.allocation, i, i, 0, 0});
        at->second.last = i;
      }
  for (const View& view : results) found.erase(program.arena->allocation(view.data));  // these stay where they are
  std::vector<Life> lives;
  for (auto& [number, life] : found) {
    life.size = program.arena->allocations()[static_cast<std::size_t>(number)].size;
    lives.push_back(life);
  }
  program.arena->release_free();
  if (lives.empty()) return;
  char* const base = static_cast<char*>(program.arena->take(place(lives)));
  std::map<std::int64_t, std::ptrdiff_t> moves;
  for (const Life& life : lives)
    moves[life.allocation] =
        base + life.offset - program.arena->allocations()[static_cast<std::size_t>(life.allocation)].begin;
  for (Step& step : program.steps)
    for (Use& use : step.uses)
      if (auto move = moves.find(use.allocation); move != moves.end())
        use.view->data = static_cast<char*>(use.view->data) + move->second;
}

}  // namespace fastdl
