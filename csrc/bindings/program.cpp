#include "bindings/program.h"

#include <pybind11/stl.h>

#include "bindings/array.h"
#include "bindings/errors.h"
#include "bindings/families.h"
#include "bindings/python_state.h"
#include "core/copy.h"
#include "core/fusion.h"
#include "core/philox.h"
#include "core/program.h"
#include "cpu/memory.h"

namespace fastdl::bind {

namespace {

const char* const kOwner = "Program";

constexpr std::size_t kMostPlain = 8;         // inputs that `replay` takes
constexpr std::int64_t kSmallResult = 65536;  // bytes; a larger one is copied by several threads

struct PyRecorder : Recorder {
  PyRecorder(Program& program, std::vector<View> inputs, std::vector<bool> fixed, std::vector<py::object>& o)
      : Recorder(program, std::move(inputs), std::move(fixed)), owners(o) {}
  std::vector<py::object>& owners;
};

// A copy of what a program changes outside its arena.
struct State {
  Program::Snapshot saved;
};

class RecordedStep : public PythonState {
 public:
  // fixed: which inputs are the same in every call.
  RecordedStep(const std::vector<py::object>& inputs, const std::vector<bool>& fixed) {
    for (const py::object& array : inputs) {
      inputs_.push_back(any_dtype(kOwner, "inputs", array).view);
      dtypes_.push_back(py::reinterpret_borrow<py::array>(array).dtype());
    }
    for (std::size_t j = 0; j < inputs_.size(); ++j)
      for (std::size_t i = 0; i < j; ++i)
        if (check::overlap(inputs_[i], inputs_[j]))
          shared_.emplace_back(i, j, inputs_[j].as<char>() - inputs_[i].as<char>());
    recorder_ = std::make_unique<PyRecorder>(program_, inputs_, fixed, owners_);
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

  // Ends the recording: fuses calls. outputs: the arrays that a replay returns, copies of those in the arena, the
  // others themselves; gradients: others that are read after it.
  void finish(const std::vector<py::object>& outputs, const std::vector<py::object>& gradients) {
    std::vector<View> read_later;
    const auto add = [&](const View& view) {
      const bool inside = program_.arena->holds(view.data);
      if (inside) read_later.push_back(view);
      return inside;
    };
    for (const py::object& array : outputs) {
      const Input output = any_dtype(kOwner, "outputs", array);
      const int input = recorder_->input_of(output.view.data);
      outputs_.push_back({output.view, input, add(output.view) ? py::object() : output.owner});
    }
    for (const py::object& array : gradients) add(any_dtype(kOwner, "gradients", array).view);
    program_.merge_outside();
    fuse(program_, read_later);
    for (const Step& step : program_.steps)
      for (const Use& use : step.uses) work_ += use.view->size();
  }

  // The structure of arguments and result when every argument is a Tensor or a constant and the result None, one Tensor
  // or (many) a tuple of them: what `replay` serves. constants: anything in the place of a Tensor.
  void set_signature(py::tuple constants, py::tuple is_tensor, bool many, py::object wrap, py::type tensor) {
    constants_ = std::move(constants);
    is_tensor_.clear();
    for (const auto& flag : is_tensor) is_tensor_.push_back(flag.cast<bool>());
    wrap_ = std::move(wrap);
    tensor_ = std::move(tensor);
    many_ = many;
    simple_ = inputs_.size() <= kMostPlain;
  }

  // Whether these arrays look like those of the recording and the Python side is as it was.
  bool accepts(const std::vector<py::object>& arrays) const {
    return arrays.size() == inputs_.size() && accepts(arrays.data());
  }

  // Whether replays with inputs at these places were compared with the function. One that is where it was in the
  // recording proves nothing about others: the function may reach that memory by another name.
  bool trusts(const std::vector<py::object>& arrays) const { return trusts(arrays.data()); }
  // They were.
  void trust(const std::vector<py::object>& arrays) {
    trusted_.resize(inputs_.size(), false);
    for (std::size_t i = 0; i < inputs_.size(); ++i) trusted_[i] = trusted_[i] || moved(i, arrays[i]);
    compared_ = true;
  }

  // One call of the step: its results as a list of arrays.
  py::list run(const std::vector<py::object>& arrays) {
    play(arrays.data());
    after();
    return results(arrays);
  }
  // The same without touching Python objects.
  py::list rehearse(const std::vector<py::object>& arrays) {
    play(arrays.data());
    return results(arrays);
  }
  py::list results(const std::vector<py::object>& arrays) const {
    py::list list;
    for (const Result& r : outputs_) list.append(result(r, arrays.data()));
    return list;
  }

  // The step called with these arguments, or NotImplemented where another program is needed.
  py::object replay(PyObject* args) {
    const py::object no = py::reinterpret_borrow<py::object>(Py_NotImplemented);
    if (!simple_ || is_recording() || PyTuple_GET_SIZE(args) != static_cast<Py_ssize_t>(is_tensor_.size())) return no;
    py::object arrays[kMostPlain];
    std::size_t next = 0;
    for (std::size_t i = 0; i < is_tensor_.size(); ++i) {
      PyObject* const arg = PyTuple_GET_ITEM(args, i);
      if (!is_tensor_[i]) {
        PyObject* const constant = PyTuple_GET_ITEM(constants_.ptr(), i);
        if (arg == constant) continue;
        if (Py_TYPE(arg) != Py_TYPE(constant)) return no;
        const int same = PyObject_RichCompareBool(arg, constant, Py_EQ);
        if (same < 0) throw py::error_already_set();
        if (same == 0) return no;
        continue;
      }
      if (Py_TYPE(arg) != reinterpret_cast<PyTypeObject*>(tensor_.ptr())) return no;
      arrays[next] = py::reinterpret_steal<py::object>(PyObject_GetAttr(arg, data_.ptr()));
      if (!arrays[next++]) throw py::error_already_set();
      const auto requires_grad = py::reinterpret_steal<py::object>(PyObject_GetAttr(arg, requires_.ptr()));
      if (!requires_grad) throw py::error_already_set();
      if (requires_grad.ptr() != Py_False) return no;  // a program of its own, which writes its gradient
    }
    if (!accepts(arrays) || !trusts(arrays)) return no;
    play(arrays);
    after();
    if (!many_) return outputs_.empty() ? py::object(py::none()) : wrapped(result(outputs_[0], arrays));
    py::tuple tensors(outputs_.size());
    for (std::size_t i = 0; i < outputs_.size(); ++i) tensors[i] = wrapped(result(outputs_[i], arrays));
    return tensors;
  }

  State save() const { return {program_.save_outside()}; }
  void exchange(State& state) const { program_.exchange_outside(state.saved); }
  // The kernel that first changed memory which is not as in `state`, or an empty string.
  std::string differs(const State& state) const { return program_.changed_outside(state.saved); }

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
    for (const Step& step : program_.steps) {
      Lister lister;
      step.call->visit(lister);
      list.append(py::make_tuple(step.call->name(), lister.arrays));
    }
    return list;
  }
  // Seconds of each call, on made-up inputs: those of the last call may be gone.
  std::vector<double> time(int rounds) {
    std::vector<std::vector<double>> memory;  // aligned for every dtype
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      const View& input = inputs_[i];
      const check::Extent e = check::extent(input);
      std::vector<double>& values = memory.emplace_back((e.end - e.begin) / sizeof(double) + 1);
      for (std::size_t k = 0; k < values.size(); ++k) {
        const double value = static_cast<double>(k % 17) / 8 - 1;
        if (input.dtype == DType::f64) values[k] = value;
        if (input.dtype == DType::f32)
          for (int half = 0; half < 2; ++half) reinterpret_cast<float*>(&values[k])[half] = static_cast<float>(value);
      }
      const auto offset = reinterpret_cast<std::uintptr_t>(input.data) - e.begin;
      program_.bind(i, reinterpret_cast<char*>(values.data()) + offset);
    }
    py::gil_scoped_release release;
    return program_.time(rounds);
  }
  std::size_t arena_bytes() const { return program_.arena->bytes(); }
  std::int64_t replays() const { return replays_; }

 private:
  static bool looks_like(PyObject* object, const View& want, const py::object& dtype) {
    if (!py::isinstance<py::array>(object)) return false;
    const auto* a = py::detail::array_proxy(object);
    if (a->descr != dtype.ptr() && !dtype.equal(py::reinterpret_borrow<py::object>(a->descr))) return false;
    if (a->nd != want.ndim || (a->flags & py::detail::npy_api::NPY_ARRAY_ALIGNED_) == 0) return false;
    const std::int64_t item = item_size(want.dtype);
    for (int d = 0; d < want.ndim; ++d)
      if (a->dimensions[d] != want.shape[d] || (want.shape[d] > 1 && a->strides[d] != want.strides[d] * item))
        return false;
    return true;
  }

  bool accepts(const py::object* arrays) const {
    for (std::size_t i = 0; i < inputs_.size(); ++i)
      if (!looks_like(arrays[i].ptr(), inputs_[i], dtypes_[i])) return false;
    for (const auto& [first, second, distance] : shared_)
      if (data_of(arrays[second]) - data_of(arrays[first]) != distance) return false;
    return holds();
  }

  bool trusts(const py::object* arrays) const {
    if (!compared_) return false;
    for (std::size_t i = 0; i < inputs_.size(); ++i)
      if (!trusted_[i] && moved(i, arrays[i])) return false;
    return true;
  }
  bool moved(std::size_t i, const py::object& array) const {
    return data_of(array) != inputs_[i].data && inputs_[i].size() > 0;
  }
  static char* data_of(const py::object& array) { return py::detail::array_proxy(array.ptr())->data; }

  void play(const py::object* arrays) {
    for (std::size_t i = 0; i < inputs_.size(); ++i) program_.bind(i, data_of(arrays[i]));
    before(program_);
    ++replays_;
    bind::run(work_, [&] { program_.play(); });
  }

  struct Result {
    View view;
    int input;         // the input that it lies in, or -1
    py::object owner;  // none: it lies in the arena
  };

  py::object result(const Result& r, const py::object* arrays) const {
    View from = r.view;
    if (r.input >= 0) {
      const View& whole = inputs_[static_cast<std::size_t>(r.input)];
      if (check::same_view(from, whole)) return arrays[r.input];
      from.data = data_of(arrays[r.input]) + (static_cast<char*>(from.data) - static_cast<char*>(whole.data));
    } else if (r.owner) {
      return r.owner;
    }
    Output copy = empty_like(from);
    const std::int64_t bytes = from.size() * item_size(from.dtype);
    if (bytes <= kSmallResult && check::same_layout(from, copy.view))
      std::memcpy(copy.view.data, from.data, static_cast<std::size_t>(bytes));
    else
      bind::run(from.size(), [&] { device::copy(from, copy.view); });
    return std::move(copy.array);
  }

  py::object wrapped(const py::object& array) const {
    PyObject* const tensor = PyObject_CallOneArg(wrap_.ptr(), array.ptr());
    if (tensor == nullptr) throw py::error_already_set();
    return py::reinterpret_steal<py::object>(tensor);
  }

  std::vector<py::object> owners_;
  std::vector<View> inputs_;
  std::vector<std::tuple<std::size_t, std::size_t, std::ptrdiff_t>> shared_;  // inputs in one memory, their distance
  bool compared_ = false;
  std::vector<bool> trusted_;  // each input, wherever it lies
  std::int64_t work_ = 0;      // elements that all calls read and write
  std::int64_t replays_ = 0;
  std::vector<py::object> dtypes_;  // of the inputs
  std::vector<Result> outputs_;
  bool simple_ = false, many_ = false;
  std::vector<bool> is_tensor_;
  py::tuple constants_;
  py::object wrap_, tensor_;
  py::str data_ = "data", requires_ = "_requires";
  Program program_;
  std::unique_ptr<PyRecorder> recorder_;
};

// A RecordedStep's replay as a plain C function of a tuple: through pybind11 a call takes 0.1 us longer.
PyObject* call_replay(PyObject* step, PyObject* args) {
  try {
    return static_cast<RecordedStep*>(PyCapsule_GetPointer(step, nullptr))->replay(args).release().ptr();
  } catch (...) {
    set_error(std::current_exception());
    return nullptr;
  }
}

py::object replay_of(py::object step) {
  static PyMethodDef method = {"replay", call_replay, METH_O, nullptr};
  const auto self =
      py::reinterpret_steal<py::object>(PyCapsule_New(py::cast<RecordedStep*>(step), nullptr, [](PyObject* capsule) {
        Py_DECREF(static_cast<PyObject*>(PyCapsule_GetContext(capsule)));
      }));
  if (!self) throw py::error_already_set();
  PyCapsule_SetContext(self.ptr(), step.release().ptr());
  PyObject* const function = PyCFunction_New(&method, self.ptr());
  if (function == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(function);
}

}  // namespace

void retain(const py::array& a) {
  auto* recorder = static_cast<PyRecorder*>(t_recorder);
  if (recorder->input_of(a.data()) < 0 && !recorder->program.arena->holds(a.data())) recorder->owners.push_back(a);
}

void add_program(py::module_& m) {
  py::class_<State>(m, "ProgramState");
  py::class_<RecordedStep>(m, "Program")
      .def(py::init<const std::vector<py::object>&, const std::vector<bool>&>(), py::arg("inputs"), py::arg("fixed"))
      .def("start", &RecordedStep::start)
      .def("stop", &RecordedStep::stop)
      .def_property_readonly("refused", &RecordedStep::refused)
      .def("varies", &RecordedStep::varies)
      .def("add_generator", &RecordedStep::add_generator)
      .def("watch", &RecordedStep::watch)
      .def("watch_attribute", &RecordedStep::watch_attribute)
      .def("watch_settings", &RecordedStep::watch_settings)
      .def("add_update", &RecordedStep::add_update)
      .def("add_draws", &RecordedStep::add_draws)
      .def("add_changes", &RecordedStep::add_changes)
      .def("add_gradient", &RecordedStep::add_gradient)
      .def("set_gradients", &RecordedStep::set_gradients)
      .def("set_signature", &RecordedStep::set_signature)
      .def_property_readonly("replay", &replay_of)
      .def("rehearse", &RecordedStep::rehearse)
      .def("finish", &RecordedStep::finish)
      .def("accepts", py::overload_cast<const std::vector<py::object>&>(&RecordedStep::accepts, py::const_))
      .def("trusts", py::overload_cast<const std::vector<py::object>&>(&RecordedStep::trusts, py::const_))
      .def("trust", &RecordedStep::trust)
      .def("run", &RecordedStep::run)
      .def("results", &RecordedStep::results)
      .def("save", &RecordedStep::save)
      .def("exchange", &RecordedStep::exchange)
      .def("differs", &RecordedStep::differs)
      .def("calls", &RecordedStep::calls)
      .def("time", &RecordedStep::time, py::arg("rounds"))
      .def_property_readonly("arena_bytes", &RecordedStep::arena_bytes)
      .def_property_readonly("replays", &RecordedStep::replays);
}

}  // namespace fastdl::bind
