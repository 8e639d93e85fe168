// The Python side of a recorded step: what must hold for a replay to do what the Python code would do, what changes
// between steps, and what the step does to Python objects. Plain C API throughout: this is the overhead of a small
// step.
#pragma once
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>
#include <vector>

#include "core/program.h"

namespace fastdl::bind {

namespace py = pybind11;

class PythonState {
 public:
  // dict[key] must be `expected`; a missing entry counts as None.
  void watch(py::dict dict, py::str key, py::object expected);
  // object.name must be `expected`.
  void watch_attribute(py::object object, py::str name, py::object expected);
  // As long as counter[0] is the object that it was, or else if hold() is true, a replay does what the code would do.
  void watch_settings(py::list counter, py::function hold);
  // One call of an optimizer on parameters [first, last): before a replay group["lr"] goes to `lr` and the common entry
  // of steps[first:last], plus 1, to `step`; afterwards that is the entry, where the optimizer counts. The other
  // options must stay equal.
  void add_update(py::dict group, py::dict options, py::list steps, std::size_t first, std::size_t last, bool counts,
                  py::array lr, py::array step);
  // A generator's __dict__ with "seed" and "counter", which a step advances by `draws`.
  void add_draws(py::dict generator, std::uint64_t draws);
  // A tensor's counter of changes in place, a list of one int, which a step advances.
  void add_changes(py::list counter, std::int64_t changes);
  // After a replay, leaf (a tensor's __dict__) gets this gradient.
  void add_gradient(py::dict leaf, py::object gradient);

  bool holds() const;
  void before(Program& program) const;
  void after() const;
  void set_gradients() const;

 private:
  void count_changes() const;

  struct Watch {
    py::object where, key, expected;
    bool attribute;
  };
  struct Update {
    py::dict group, options;
    py::list steps;
    std::size_t first, last;
    bool counts;
    py::array lr, step;
    double* lr_place;
    std::int64_t* step_place;
  };
  struct Draws {
    py::dict generator;
    std::uint64_t count;
  };
  struct Changes {
    py::list counter;
    std::int64_t count;
  };
  struct Gradient {
    py::dict leaf;
    py::object gradient;
  };
  bool settings_hold() const;

  std::vector<Watch> watches_;
  py::list counter_of_settings_;
  py::function hold_;  // null: nothing to ask
  mutable py::object seen_;
  std::vector<Update> updates_;
  std::vector<Draws> draws_;
  std::vector<Changes> changes_;
  std::vector<Gradient> gradients_;
  py::str lr_ = "lr", seed_ = "seed", counter_ = "counter", grad_ = "_grad";
};

}  // namespace fastdl::bind
