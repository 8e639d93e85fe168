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

class Call {
 public:
  virtual ~Call() = default;
  virtual const char* name() const = 0;
  virtual const void* kernel() const { return nullptr; }  // identity, for passes that know a kernel
  virtual void play() const = 0;
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

template <class T>
void visit_argument(ArgumentVisitor& visitor, Number<T>& number) {
  visit_argument(visitor, number.place);
}

}  // namespace fastdl
