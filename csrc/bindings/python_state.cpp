#include "bindings/python_state.h"

#include "core/check.h"

namespace fastdl::bind {

namespace {

// A borrowed entry of a dict; None where there is none.
PyObject* entry(const py::handle& dict, const py::handle& key) {
  PyObject* found = PyDict_GetItemWithError(dict.ptr(), key.ptr());
  if (found == nullptr && PyErr_Occurred() != nullptr) throw py::error_already_set();
  return found != nullptr ? found : Py_None;
}

bool equal(PyObject* a, PyObject* b) {
  if (a == b) return true;
  const int same = PyObject_RichCompareBool(a, b, Py_EQ);
  if (same < 0) throw py::error_already_set();
  return same == 1;
}

void set(const py::dict& dict, const py::str& key, PyObject* value) {
  if (PyDict_SetItem(dict.ptr(), key.ptr(), value) != 0) throw py::error_already_set();
}

std::uint64_t word(PyObject* value) {
  const std::uint64_t result = PyLong_AsUnsignedLongLong(value);
  if (PyErr_Occurred() != nullptr) throw py::error_already_set();
  return result;
}

}  // namespace

void PythonState::watch(py::dict dict, py::str key, py::object expected) {
  watches_.push_back({std::move(dict), std::move(key), std::move(expected), false});
}

void PythonState::watch_attribute(py::object object, py::str name, py::object expected) {
  watches_.push_back({std::move(object), std::move(name), std::move(expected), true});
}

void PythonState::watch_settings(py::list counter, py::function hold) {
  seen_ = counter[0];
  counter_of_settings_ = std::move(counter);
  hold_ = std::move(hold);
}

bool PythonState::settings_hold() const {
  if (!hold_ || PyList_GET_ITEM(counter_of_settings_.ptr(), 0) == seen_.ptr()) return true;
  const py::object now = counter_of_settings_[0];
  if (!py::cast<bool>(hold_())) return false;
  seen_ = now;
  return true;
}

void PythonState::add_update(py::dict group, py::dict options, py::list steps, std::size_t first, std::size_t last,
                             bool counts, py::array lr, py::array step) {
  auto* const lr_place = static_cast<double*>(lr.mutable_data());
  auto* const step_place = static_cast<std::int64_t*>(step.mutable_data());
  updates_.push_back({std::move(group), std::move(options), std::move(steps), first, last, counts, std::move(lr),
                      std::move(step), lr_place, step_place});
}

void PythonState::add_draws(py::dict generator, std::uint64_t draws) {
  draws_.push_back({std::move(generator), draws});
}

void PythonState::add_changes(py::list counter, std::int64_t changes) {
  changes_.push_back({std::move(counter), changes});
}

void PythonState::add_gradient(py::dict leaf, py::object gradient) {
  gradients_.push_back({std::move(leaf), std::move(gradient)});
}

bool PythonState::holds() const {
  for (const Watch& w : watches_) {
    if (w.attribute) {
      const auto found = py::reinterpret_steal<py::object>(PyObject_GetAttr(w.where.ptr(), w.key.ptr()));
      if (!found) throw py::error_already_set();
      if (!found.is(w.expected)) return false;
    } else if (entry(w.where, w.key) != w.expected.ptr()) {
      return false;
    }
  }
  if (!settings_hold()) return false;
  for (const Update& u : updates_) {
    PyObject *key, *value;
    for (Py_ssize_t at = 0; PyDict_Next(u.options.ptr(), &at, &key, &value) != 0;)
      if (!equal(entry(u.group, key), value)) return false;
    if (PyDict_GET_SIZE(u.group.ptr()) != PyDict_GET_SIZE(u.options.ptr()) + 2) return false;  // and lr and params
    if (PyList_GET_SIZE(u.steps.ptr()) < static_cast<Py_ssize_t>(u.last)) return false;
    PyObject* const common = PyList_GET_ITEM(u.steps.ptr(), u.first);
    for (std::size_t i = u.first + 1; i < u.last; ++i)
      if (!equal(PyList_GET_ITEM(u.steps.ptr(), i), common)) return false;
  }
  return true;
}

void PythonState::before(Program& program) const {
  for (const Update& u : updates_) {
    const double lr = PyFloat_AsDouble(entry(u.group, lr_));
    if (lr == -1 && PyErr_Occurred() != nullptr) throw py::error_already_set();
    check::number("optimizer", "lr", lr);
    *u.lr_place = lr;
    *u.step_place = PyLong_AsLongLong(PyList_GET_ITEM(u.steps.ptr(), u.first)) + 1;
  }
  for (std::size_t i = 0; i < draws_.size(); ++i)
    program.seed(i, word(entry(draws_[i].generator, seed_)), word(entry(draws_[i].generator, counter_)));
}

void PythonState::after() const {
  set_gradients();
  count_changes();
  for (const Update& u : updates_) {
    if (!u.counts) continue;
    const py::int_ step(*u.step_place);
    for (std::size_t i = u.first; i < u.last; ++i) {
      Py_INCREF(step.ptr());
      PyList_SetItem(u.steps.ptr(), static_cast<Py_ssize_t>(i), step.ptr());
    }
  }
  for (const Draws& d : draws_) {
    const py::int_ counter(word(entry(d.generator, counter_)) + d.count);
    set(d.generator, counter_, counter.ptr());
  }
}

// Parameters are mostly as old as each other: the next one then shares the number.
void PythonState::count_changes() const {
  py::object before, after;
  std::int64_t changes = 0;
  for (const Changes& c : changes_) {
    PyObject* const now = PyList_GET_ITEM(c.counter.ptr(), 0);
    if (before.ptr() != now || changes != c.count) {
      after = py::int_(static_cast<std::int64_t>(PyLong_AsLongLong(now)) + c.count);
      before = py::reinterpret_borrow<py::object>(now);
      changes = c.count;
    }
    PyList_SetItem(c.counter.ptr(), 0, after.inc_ref().ptr());
  }
}

void PythonState::set_gradients() const {
  for (const Gradient& g : gradients_)
    if (entry(g.leaf, grad_) != g.gradient.ptr()) set(g.leaf, grad_, g.gradient.ptr());
}

}  // namespace fastdl::bind
