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
#if defined(FASTDL_CUPY)  // views know no unsigned words
  const Output words = empty(DType::i32, {n});
  run(n, [&] { device::random_words(words_of, n, words.view.as<std::uint32_t>()); });
  return words.array.attr("view")("uint32");
#else
  py::array_t<std::uint32_t> words(n);
  std::uint32_t* data = words.mutable_data();
  run(n, [&] { device::random_words(words_of, n, data); });
  return words;
#endif
}

}  // namespace

void add_philox(py::module_& m) {
  m.def("random_words", &random_words, py::arg("seed"), py::arg("counter"), py::arg("n"));
}

}  // namespace fastdl::bind
