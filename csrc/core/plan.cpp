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

// Largest first, then earliest, each at the lowest offset where no other that lives at the same time is.
std::size_t place(std::vector<Life>& lives) {
  std::sort(lives.begin(), lives.end(),
            [](const Life& a, const Life& b) { return a.size != b.size ? a.size > b.size : a.first < b.first; });
  std::size_t total = 0;
  std::vector<const Life*> placed;  // by offset
  for (Life& life : lives) {
    life.offset = 0;
    for (const Life* other : placed) {
      if (other->last < life.first || life.last < other->first) continue;
      if (life.offset + life.size <= other->offset) break;
      life.offset = std::max(life.offset, other->offset + other->size);
    }
    placed.insert(std::upper_bound(placed.begin(), placed.end(), &life,
                                   [](const Life* a, const Life* b) { return a->offset < b->offset; }),
                  &life);
    total = std::max(total, life.offset + life.size);
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
