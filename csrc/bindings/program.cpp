#include "bindings/program.h"

#include <pybind11/stl.h>

#include "bindings/array.h"
#include "bindings/families.h"
#include "core/copy.h"
#include "core/philox.h"
#include "core/program.h"
#include "cpu/memory.h"

namespace fastdl::bind {

namespace {

const char* const kOwner = "Program";

struct PyRecorder : Recorder {
  PyRecorder(Program& program, std::vector<View> inputs, std::vector<py::object>& o)
      : Recorder(program, std::move(inputs)), owners(o) {}
  std::vector<py::object>& owners;
};

// A copy of what a program changes outside its arena.
struct State {
  std::vector<std::vector<char>> saved;
};

class RecordedStep {
 public:
  explicit RecordedStep(const std::vector<py::object>& inputs) {
    for (const py::object& array : inputs) inputs_.push_back(any_dtype(kOwner, "inputs", array).view);
    recorder_ = std::make_unique<PyRecorder>(program_, inputs_, owners_);
  }

  void start() {
    if (is_recording()) throw ValueError("Program.start: this thread records already");
    t_recorder = recorder_.get();
  }
  void stop() { t_recorder = nullptr; }
  std::string refused() const { return recorder_->refused; }
  bool varies(const py::array& a) const { return recorder_->varies(a.data()); }

  std::size_t add_generator(std::uint64_t seed, std::uint64_t counter) {
    program_.generators.push_back({seed, counter});
    return program_.generators.size() - 1;
  }
  void seed(std::size_t generator, std::uint64_t seed, std::uint64_t counter) {
    program_.seed(generator, seed, counter);
  }

  // The arrays that a replay returns: copies of those in the arena, the others themselves.
  void set_outputs(const std::vector<py::object>& outputs) {
    for (const py::object& array : outputs) {
      const Input output = any_dtype(kOwner, "outputs", array);
      const int input = recorder_->input_of(output.view.data);
      outputs_.push_back({output.view, input, program_.arena->holds(output.view.data) ? py::object() : output.owner});
    }
  }

  // Whether these arrays look like those of the recording.
  bool accepts(const std::vector<py::object>& arrays) const {
    if (arrays.size() != inputs_.size()) return false;
    for (std::size_t i = 0; i < arrays.size(); ++i) {
      const View view = any_dtype(kOwner, "inputs", arrays[i]).view;
      const View& want = inputs_[i];
      if (view.dtype != want.dtype || view.ndim != want.ndim) return false;
      for (int d = 0; d < want.ndim; ++d)
        if (view.shape[d] != want.shape[d] || (want.shape[d] > 1 && view.strides[d] != want.strides[d])) return false;
    }
    return true;
  }

  py::list run(const std::vector<py::object>& arrays) {
    for (std::size_t i = 0; i < arrays.size(); ++i) program_.bind(i, any_dtype(kOwner, "inputs", arrays[i]).view.data);
    {
      py::gil_scoped_release release;
      program_.play();
    }
    return results(arrays);
  }

  py::list results(const std::vector<py::object>& arrays) const {
    py::list list;
    for (const Result& r : outputs_) {
      if (r.owner) {
        list.append(r.input >= 0 ? arrays[static_cast<std::size_t>(r.input)] : r.owner);
        continue;
      }
      Output copy = empty_like(r.view);
      bind::run(r.view.size(), [&] { cpu::copy(r.view, copy.view); });
      list.append(copy.array);
    }
    return list;
  }

  std::string verify() {
    std::vector<View> inside;
    for (const Result& r : outputs_)
      if (!r.owner) inside.push_back(r.view);
    py::gil_scoped_release release;
    return program_.verify(inside);
  }

  State save() const { return {program_.save_outside()}; }
  void restore(const State& state) const { program_.restore_outside(state.saved); }
  // The kernel that first changed memory which is not as in `state`, or an empty string.
  std::string differs(const State& state) const {
    for (std::size_t i = 0; i < program_.outside.size(); ++i)
      if (std::memcmp(program_.outside[i].begin, state.saved[i].data(), program_.outside[i].bytes) != 0)
        return program_.outside[i].writer;
    return "";
  }

  py::list calls() {
    struct Lister final : ArgumentVisitor {
      void array(View& view, Access access) override {
        py::tuple shape(view.ndim);
        for (int d = 0; d < view.ndim; ++d) shape[static_cast<std::size_t>(d)] = view.shape[d];
        const char* roles[] = {"read", "write", "update"};
        arrays.append(py::make_tuple(roles[static_cast<int>(access)], shape, item_size(view.dtype)));
      }
      py::list arrays;
    };
    py::list list;
    for (const auto& call : program_.calls) {
      Lister lister;
      call->visit(lister);
      list.append(py::make_tuple(call->name(), lister.arrays));
    }
    return list;
  }
  std::vector<double> time(int rounds) {
    py::gil_scoped_release release;
    return program_.time(rounds);
  }
  std::size_t arena_bytes() const { return program_.arena->bytes(); }

 private:
  struct Result {
    View view;
    int input;         // the input that it lies in, or -1
    py::object owner;  // none: it lies in the arena
  };
  std::vector<py::object> owners_;
  std::vector<View> inputs_;
  std::vector<Result> outputs_;
  Program program_;
  std::unique_ptr<PyRecorder> recorder_;
};

}  // namespace

void retain(const py::array& a) {
  auto* recorder = static_cast<PyRecorder*>(t_recorder);
  if (recorder->input_of(a.data()) < 0 && !recorder->program.arena->holds(a.data())) recorder->owners.push_back(a);
}

void add_program(py::module_& m) {
  py::class_<State>(m, "ProgramState");
  py::class_<RecordedStep>(m, "Program")
      .def(py::init<const std::vector<py::object>&>(), py::arg("inputs"))
      .def("start", &RecordedStep::start)
      .def("stop", &RecordedStep::stop)
      .def_property_readonly("refused", &RecordedStep::refused)
      .def("varies", &RecordedStep::varies)
      .def("add_generator", &RecordedStep::add_generator)
      .def("seed", &RecordedStep::seed)
      .def("set_outputs", &RecordedStep::set_outputs)
      .def("accepts", &RecordedStep::accepts)
      .def("run", &RecordedStep::run)
      .def("results", &RecordedStep::results)
      .def("verify", &RecordedStep::verify)
      .def("save", &RecordedStep::save)
      .def("restore", &RecordedStep::restore)
      .def("differs", &RecordedStep::differs)
      .def("calls", &RecordedStep::calls)
      .def("time", &RecordedStep::time, py::arg("rounds"))
      .def_property_readonly("arena_bytes", &RecordedStep::arena_bytes);
}

}  // namespace fastdl::bind
