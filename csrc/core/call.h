// Calls as data: what a recorded program is made of.
//
// While a thread records, every kernel call is also appended to its program: the kernel and copies of its arguments.
// Passes over the program see the arrays and random streams among the arguments through visit_argument. A struct of
// attributes that holds neither an array nor a pointer says so with kAttributes; one that does brings its own
// visit_argument.
#pragma once
#include <cstdint>
#include <memory>
#include <tuple>
#include <type_traits>

#include "core/view.h"

namespace fastdl {

struct PhiloxStream;

enum class Access { kRead, kWrite, kUpdate };

class ArgumentVisitor {
 public:
  virtual ~ArgumentVisitor() = default;
  virtual void array(View& view, Access access) = 0;
  virtual void stream(PhiloxStream&) {}
  // Memory that an argument points to and that must live as long as the call; the recorder keeps it.
  virtual void keep(std::shared_ptr<void>) {}
  // The call can't be recorded; `why` completes "a captured step can't hold ...".
  virtual void refuse(const char*) {}
};

// What a call that works element by element goes over: `size` elements, numbered in the memory order of its result; 0
// for other calls, and for results with gaps. A run of whole rows of `row` elements can be made by itself.
constexpr int kMaxElementwise = 4;  // array arguments
struct Elements {
  std::int64_t size = 0, row = 1;
  int arrays = 0;
  bool whole[kMaxElementwise] = {};  // this array has one element for each, in the same order, without gaps
  bool nested = false;               // arguments so far: a Nest
  bool one_last = false;             // element-wise only if the last operand is one number
};

// A run of the elements of such a call. inside: for each array argument, where its elements of this run are if they
// exist for the run alone, or nullptr.
struct Cut {
  std::int64_t begin, count;
  void* inside[kMaxElementwise] = {};
  std::int64_t offset[kMaxElementwise] = {};  // elements from the array's first, if the call has a Nest
  bool nested = false;
  int array = 0;
};

class Call {
 public:
  virtual ~Call() = default;
  virtual const char* name() const = 0;
  virtual const void* kernel() const { return nullptr; }  // identity, for passes that know a kernel
  virtual void play() const = 0;
  virtual Elements elements() const { return {}; }
  virtual void play_cut(Cut) const {}
  virtual bool repeats(const Call&) const { return false; }  // a check of what that one has checked
  virtual void visit(ArgumentVisitor& visitor) = 0;
};

class Recorder;
extern thread_local Recorder* t_recorder;
inline bool is_recording() { return t_recorder != nullptr; }
void record(std::unique_ptr<Call> call);  // appends to this thread's program; before the kernel runs

template <class T>
inline constexpr bool kAttributes = std::is_arithmetic_v<T> || std::is_enum_v<T>;

template <class T>
void visit_argument(ArgumentVisitor&, T&) {
  static_assert(kAttributes<T>, "say what this argument holds: kAttributes or visit_argument");
}
template <class T>
void visit_argument(ArgumentVisitor& visitor, T*&) {
  visitor.refuse("calls on bare pointers");
}
inline void visit_argument(ArgumentVisitor& visitor, View& view) {
  if (view) visitor.array(view, Access::kRead);
}
inline void visit_argument(ArgumentVisitor& visitor, Out& view) {
  if (view) visitor.array(view, Access::kWrite);
}
inline void visit_argument(ArgumentVisitor& visitor, InOut& view) {
  if (view) visitor.array(view, Access::kUpdate);
}

// What an argument says about the elements of its call, and how it becomes the argument of a cut of it; arguments that
// matter besides arrays bring their own.
template <class T>
void describe(Elements& elements, const T& argument) {
  if constexpr (std::is_base_of_v<View, T>) {
    if (!argument) return;
    if (!elements.nested) {
      elements.size = argument.size();
      elements.whole[elements.arrays] = true;
    }
    ++elements.arrays;
  }
}
template <class T>
void cut(Cut& cut, T& argument) {
  if constexpr (std::is_base_of_v<View, T>) {
    if (!argument) return;
    const int k = cut.array++;
    const std::int64_t from = cut.nested ? cut.offset[k] : cut.begin;
    argument.data =
        cut.inside[k] != nullptr ? cut.inside[k] : static_cast<char*>(argument.data) + from * item_size(argument.dtype);
    if (cut.nested) return;
    argument.ndim = 1;
    argument.shape[0] = cut.count;
    argument.strides[0] = 1;
  }
}

template <class T>
void visit_argument(ArgumentVisitor& visitor, Number<T>& number) {
  visit_argument(visitor, number.place);
}

}  // namespace fastdl
