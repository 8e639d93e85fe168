#include "core/philox.h"

#include "bindings/array.h"
#include "bindings/families.h"
#include "bindings/numbers.h"

namespace fastdl::bind {

namespace {

py::array random_words(const py::handle& seed, const py::handle& counter, const py::handle& n_) {
  const char* kernel = "random_words";
  const PhiloxStream stream = {word64(kernel, "seed", seed), word64(kernel, "counter", counter)};
  const std::int64_t n = integer_up_to(kernel, "n", n_, 0, INT64_MAX);
  py::array_t<std::uint32_t> words(n);
  std::uint32_t* data = words.mutable_data();
  run(n, [&] { cpu::random_words(stream, n, data); });
  return words;
}

}  // namespace

void add_philox(py::module_& m) {
  m.def("random_words", &random_words, py::arg("seed"), py::arg("counter"), py::arg("n"));
}

}  // namespace fastdl::bind
