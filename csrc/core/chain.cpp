#include "core/chain.h"

#include <algorithm>
#include <map>
#include <string>

#include "core/parallel.h"

namespace fastdl {

namespace {

constexpr std::int64_t kPiece = 4096;                 // elements
constexpr double kCost = 0.25;                        // ns an element and call, at least
constexpr std::size_t kMostCalls = 32;                // of one chain
constexpr std::size_t kMostPassed = 16;               // calls between two of a chain
constexpr std::size_t kSlotBytes = kPiece * 8 + 320;  // no two slots at the same place of a page

struct Link {
  std::unique_ptr<Call> call;
  int slots[kMaxElementwise];  // for each array argument: where in the scratch memory it is, or -1
};

class Chain final : public Call {
 public:
  Chain(std::vector<Link> links, std::vector<Use> uses, std::int64_t size, std::int64_t row, std::size_t slots)
      : links_(std::move(links)), uses_(std::move(uses)), size_(size), piece_(kPiece / row * row), slots_(slots) {
    for (const Link& link : links_) name_ += (name_.empty() ? "" : " ") + std::string(link.call->name());
  }

  const char* name() const override { return name_.c_str(); }
  void visit(ArgumentVisitor& visitor) override {
    for (const Use& use : uses_) visitor.array(*use.view, use.access);
  }

  void play() const override {
    const double cost = kCost * static_cast<double>(std::min(piece_, size_) * static_cast<std::int64_t>(links_.size()));
    parallel_for((size_ + piece_ - 1) / piece_, cost, [&](std::int64_t task) {
      const Scratch<char> memory(static_cast<std::int64_t>(slots_ * kSlotBytes));
      const std::int64_t begin = task * piece_, count = std::min(piece_, size_ - begin);
      for (const Link& link : links_) {
        Cut cut{begin, count};
        for (int k = 0; k < kMaxElementwise; ++k)
          if (link.slots[k] >= 0) cut.inside[k] = memory + static_cast<std::size_t>(link.slots[k]) * kSlotBytes;
        link.call->play_cut(cut);
      }
    });
  }

 private:
  std::vector<Link> links_;
  std::vector<Use> uses_;  // of memory that lives beyond a piece
  std::int64_t size_, piece_;
  std::size_t slots_;
  std::string name_;
};

bool same_place(const Use& a, const Use& b) { return a.allocation == b.allocation && a.view->data == b.view->data; }

bool meet(const Use& a, const Use& b) {
  return a.allocation >= 0 || b.allocation >= 0 ? a.allocation == b.allocation : check::overlap(*a.view, *b.view);
}

// Whether two calls may change places.
bool independent(const Step& a, const Step& b) {
  for (const Use& u : a.uses)
    for (const Use& v : b.uses)
      if ((u.access != Access::kRead || v.access != Access::kRead) && meet(u, v)) return false;
  return true;
}

class Chains {
 public:
  Chains(Program& program, const std::set<std::int64_t>& read_later) : program_(program), read_later_(read_later) {
    for (const Step& step : program_.steps)
      for (const Use& use : step.uses) ++uses_[use.allocation];
  }

  void run() {
    for (std::size_t i = 0; i < program_.steps.size(); ++i)
      if (start(i)) {
        grow(i);
        if (members_.size() > 1) join(i);
      }
  }

 private:
  struct Member {
    std::size_t step;
    Elements elements;
  };

  bool start(std::size_t i) {
    const Step& step = program_.steps[i];
    if (!step.call) return false;
    const Elements e = step.call->elements();
    members_ = {{i, e}};
    row_ = e.row;
    return e.size > kPiece && e.row <= kPiece;
  }

  void grow(std::size_t i) {
    std::vector<std::size_t> passed;
    for (std::size_t j = i + 1; j < program_.steps.size() && members_.size() < kMostCalls; ++j) {
      const Step& step = program_.steps[j];
      if (!step.call) continue;
      if (step.call->kernel() == nullptr || passed.size() == kMostPassed) return;  // a check or a chain
      const Elements e = step.call->elements();
      const std::int64_t large = std::max(row_, e.row), small = std::min(row_, e.row);
      bool joins = e.size == members_[0].elements.size && large <= kPiece && large % small == 0 &&
                   std::all_of(passed.begin(), passed.end(),
                               [&](std::size_t p) { return independent(program_.steps[p], step); });
      for (std::size_t m = 0; joins && m < members_.size(); ++m) joins = fits(members_[m], {j, e});
      if (joins) {
        members_.push_back({j, e});
        row_ = large;
      } else {
        passed.push_back(j);
      }
    }
  }

  // Whether two calls can go piece by piece: where one writes what the other uses, both have it whole and in one place.
  bool fits(const Member& a, const Member& b) const {
    const std::vector<Use>&first = program_.steps[a.step].uses, &second = program_.steps[b.step].uses;
    for (std::size_t k = 0; k < first.size(); ++k)
      for (std::size_t l = 0; l < second.size(); ++l) {
        const Use &u = first[k], &v = second[l];
        if (!meet(u, v) || (u.access == Access::kRead && v.access == Access::kRead)) continue;
        if (!is_whole(a, k) || !is_whole(b, l) || !same_place(u, v) || u.view->dtype != v.view->dtype) return false;
      }
    return true;
  }

  static bool is_whole(const Member& m, std::size_t argument) {
    return argument < static_cast<std::size_t>(m.elements.arrays) && m.elements.whole[argument];
  }

  // The allocations that live inside the chain alone: the first call that uses one writes it.
  std::map<std::int64_t, std::size_t> inside() const {  // with the last member that uses each
    std::map<std::int64_t, std::size_t> last, count;
    std::set<std::int64_t> made;
    for (std::size_t m = 0; m < members_.size(); ++m)
      for (const Use& use : program_.steps[members_[m].step].uses) {
        if (use.allocation < 0 || read_later_.count(use.allocation) != 0) continue;
        if (count[use.allocation]++ == 0 && use.access == Access::kWrite) made.insert(use.allocation);
        last[use.allocation] = m;
      }
    std::erase_if(last, [&](const auto& entry) {
      return made.count(entry.first) == 0 || count[entry.first] != uses_.at(entry.first);
    });
    return last;
  }

  // Scratch memory: the allocation that each slot holds.
  struct Slots {
    std::vector<const Use*> held;
    std::map<std::int64_t, int> of;

    // Where member m writes: a slot that nothing reads any more, or one that m itself reads last, element by element.
    int take(const Use& use, std::size_t m, const std::map<std::int64_t, std::size_t>& last) {
      const auto place = std::find_if(held.begin(), held.end(), [&](const Use* other) {
        const std::size_t end = last.at(other->allocation);
        return end < m || (end == m && other->view->dtype == use.view->dtype);
      });
      const auto slot = static_cast<int>(place - held.begin());
      if (place == held.end())
        held.push_back(&use);
      else
        *place = &use;
      return of[use.allocation] = slot;
    }
  };

  void join(std::size_t i) {
    const std::map<std::int64_t, std::size_t> last = inside();
    Slots slots;
    std::vector<Link> links;
    std::vector<Use> beyond, shown;
    for (std::size_t m = 0; m < members_.size(); ++m) {
      Step& step = program_.steps[members_[m].step];
      Link link{nullptr, {-1, -1, -1, -1}};
      for (std::size_t k = 0; k < step.uses.size(); ++k) {
        const Use& use = step.uses[k];
        if (last.count(use.allocation) == 0) {
          beyond.push_back(use);
          show(shown, use);
        } else {
          const auto slot = slots.of.find(use.allocation);
          link.slots[k] = slot != slots.of.end() ? slot->second : slots.take(use, m, last);
        }
      }
      links.push_back(std::move(link));
    }
    for (std::size_t m = 0; m < members_.size(); ++m) links[m].call = std::move(program_.steps[members_[m].step].call);
    const std::size_t count = slots.held.size();
    for (const Member& member : members_) program_.steps[member.step] = {};
    program_.steps[i] = {
        std::make_unique<Chain>(std::move(links), std::move(shown), members_[0].elements.size, row_, count),
        std::move(beyond)};
  }

  // Each array once. Reading what the chain itself wrote is no use of its own.
  static void show(std::vector<Use>& shown, const Use& use) {
    for (Use& other : shown)
      if (same_place(other, use) && check::same_view(*other.view, *use.view)) {
        if (other.access == Access::kRead && use.access != Access::kRead) other.access = Access::kUpdate;
        return;
      }
    shown.push_back(use);
  }

  Program& program_;
  const std::set<std::int64_t>& read_later_;
  std::map<std::int64_t, std::size_t> uses_;  // of each allocation in the whole program
  std::vector<Member> members_;
  std::int64_t row_ = 1;
};

}  // namespace

void join_chains(Program& program, const std::set<std::int64_t>& read_later) { Chains(program, read_later).run(); }

}  // namespace fastdl
