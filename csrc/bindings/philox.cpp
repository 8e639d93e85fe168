#include "core/philox.h"

#include "bindings/array.h"
#include "bindings/families.h"
#include "bindings/stream.h"

namespace fastdl::bind {

namespace {

Array random_words(const py::handle& seed, const py::handle& counter, const py::handle& n_) {
  const char* kernel = "random_words";
  const PhiloxStream words_of = stream(kernel, seed, counter);
  const std::int64_t n = integer(kernel, "n", n_, 0, std::int64_t{1} << 62);
  py::array_t<std::uint32_t> words(n);
  std::uint32_t* data = words.mutable_data();
  run(n, [&] { device::random_words(words_of, n, data); });
  return words;
}

}  // namespace

void add_philox(py::module_& m) {
  m.def("random_words", &random_words, py::arg("seed"), py::arg("counter"), py::arg("n"));
}

}  // namespace fastdl::bind
