// What goes into the memory of a CUDA graph before it is launched, and comes out of it afterwards: a launch each.
#include <vector>

#include "bindings/array.h"
#include "bindings/families.h"
#include "bindings/layout.h"
#include "core/copy.h"
#include "cuda/runtime.h"

namespace fastdl::bind {

namespace {

using cuda::gpu::Piece;
using Numbers = py::array_t<std::int64_t, py::array::c_style>;

std::int64_t bytes_of(const View& x) { return x.size() * item_size(x.dtype); }

// words: int64, contiguous; numbers of the host go to its front. staged: the graph's copies of the inputs, dense; or
// the inputs themselves, which stay as they are. given: the inputs as they were recorded: later ones have their shapes,
// dtypes and strides, which is for the caller to check. results: what the graph makes.
class Staging {
 public:
  Staging(const py::object& words, const py::list& staged, const py::list& given, const py::list& results)
      : words_(one_of("Staging", "words", words, {DType::i64}, "int64")), device_(cuda::gpu::current_device()) {
    if (words_.view.ndim != 1 || words_.view.strides[0] != 1)
      check::fail_value("Staging", "words must be contiguous, got shape " + check::shape_string(words_));
    for (std::size_t i = 0; i < staged.size(); ++i) {
      Input to = any_dtype("Staging", "staged", staged[i]);
      const Input from = any_dtype("Staging", "given", given[i]);
      bool alike = dense_in_some_order(to);
      for (int d = 0; d < to.view.ndim; ++d) alike = alike && to.view.strides[d] == from.view.strides[d];
      staged_.push_back({std::move(to), alike});
    }
    for (const auto& result : results) results_.push_back(any_dtype("Staging", "results", result));
  }

  void enter(const Numbers& values, const py::list& inputs) const {
    if (values.ndim() != 1 || values.size() > words_.view.size() || inputs.size() != staged_.size())
      check::fail_value("Staging", "enter takes as many numbers as there are words at most, and every input");
    begin();
    std::vector<Piece> pieces;
    std::vector<std::pair<View, View>> others;
    for (std::size_t i = 0; i < staged_.size(); ++i) {
      const auto& [to, alike] = staged_[i];
      const py::object from = inputs[i];
      if (from.is(to.owner)) continue;
      if (alike)
        pieces.push_back({pointer(from), to.view.data, bytes_of(to)});
      else
        others.emplace_back(any_dtype("Staging", "inputs", from), to);
    }
    cuda::gpu::write(words_.view.as<std::int64_t>(), values.data(), values.size(), pieces.data(),
                     static_cast<std::int64_t>(pieces.size()));
    for (const auto& [from, to] : others) device::copy(from, to);
  }

  // Copies, in the same memory order.
  py::list results() const {
    begin();
    py::list made;
    std::vector<Piece> pieces;
    for (const Input& result : results_) {
      const Output copy = empty_like(result);
      if (dense_in_some_order(result))
        pieces.push_back({result.view.data, copy.view.data, bytes_of(result)});
      else
        device::copy(result, copy.view);
      made.append(copy.array);
    }
    cuda::gpu::write(nullptr, nullptr, 0, pieces.data(), static_cast<std::int64_t>(pieces.size()));
    return made;
  }

 private:
  struct Staged {
    Input to;
    bool alike;  // does an input lie in memory as its copy does?
  };
  void begin() const {
    expect_device(cuda::gpu::current_device(), "it is launched");
    use_current_stream();
  }
  void expect_device(int device, const char* what) const {
    if (device != device_)
      check::fail_value("Staging", "the step was recorded on GPU " + std::to_string(device_) + ", and " + what +
                                       " on GPU " + std::to_string(device));
  }
  const void* pointer(const py::object& array) const {
    const py::object memory = array.attr("data");
#if defined(FASTDL_CUDA)
    expect_device(memory.attr("device_id").cast<int>(), "an input lies");
#endif
    return reinterpret_cast<const void*>(memory.attr("ptr").cast<std::uintptr_t>());
  }

  Input words_;
  int device_;  // of all memory here
  std::vector<Staged> staged_;
  std::vector<Input> results_;
};

}  // namespace

void add_staging(py::module_& m) {
  py::class_<Staging>(m, "Staging")
      .def(py::init<const py::object&, const py::list&, const py::list&, const py::list&>(), py::arg("words"),
           py::arg("staged"), py::arg("given"), py::arg("results"))
      .def("enter", &Staging::enter, py::arg("values"), py::arg("inputs"))
      .def("results", &Staging::results);
}

}  // namespace fastdl::bind
