#include "core/probe.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <new>
#include <string>

#include "bindings/families.h"
#include "core/check.h"
#include "core/parallel.h"

namespace fastdl::bind {

namespace {

namespace py = pybind11;

constexpr std::int64_t kMoved = std::int64_t{128} << 20;  // bytes to move in one trial: a millisecond or more

template <class F>
double seconds(const F& f) {
  const auto start = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

View vector(void* data, DType dtype, std::int64_t n) {
  View view;
  view.data = data;
  view.dtype = dtype;
  view.ndim = 1;
  view.shape[0] = n;
  view.strides[0] = 1;
  return view;
}

struct Floats {
  explicit Floats(std::int64_t n)
      : data(static_cast<float*>(::operator new(static_cast<std::size_t>(n) * sizeof(float), std::align_val_t{64}))) {
    std::fill(data, data + n, 1.0f);
  }
  ~Floats() { ::operator delete(data, std::align_val_t{64}); }
  Floats(const Floats&) = delete;
  Floats& operator=(const Floats&) = delete;
  float* data;
};

double measure_fma(const std::string& dtype, std::int64_t steps, int trials) {
  check::choice("measure_fma", "dtype", dtype, {"float32", "float64"});
  check::number("measure_fma", "steps", static_cast<double>(steps), 1);
  check::number("measure_fma", "trials", trials, 1);
  py::gil_scoped_release release;
  double best = 0;
  for (int trial = 0; trial < trials; ++trial) {
    double flops = 0;
    const Out out = vector(&flops, DType::f64, 1);
    const double taken = seconds([&] { cpu::probe_fma(dtype == "float32" ? DType::f32 : DType::f64, steps, out); });
    best = std::max(best, flops / taken);
  }
  return best;
}

double measure_memory(const std::string& loop_, std::int64_t bytes, int trials) {
  check::choice("measure_memory", "loop", loop_, {"copy", "stream", "read"});
  const MemoryLoop loop = loop_ == "copy"     ? MemoryLoop::kCopy
                          : loop_ == "stream" ? MemoryLoop::kStream
                                              : MemoryLoop::kRead;
  check::number("measure_memory", "bytes", static_cast<double>(bytes), 1);
  check::number("measure_memory", "trials", trials, 1);
  py::gil_scoped_release release;
  const std::int64_t arrays = loop == MemoryLoop::kRead ? 1 : 2, block = 64 * num_threads();
  const std::int64_t n = std::max<std::int64_t>(bytes / 4 / arrays / block, 1) * block;
  const std::int64_t repeats = std::max<std::int64_t>(kMoved / (n * arrays * 4), 1);
  const Floats x_(n), y_(arrays > 1 ? n : 1);
  const View x = vector(x_.data, DType::f32, n), y = vector(y_.data, DType::f32, n);
  double best = 0;
  for (int trial = 0; trial <= trials; ++trial) {  // one more to warm up
    const double taken = seconds([&] { cpu::probe_memory(loop, x, y, repeats); });
    best = std::max(best, static_cast<double>(n * arrays * 4 * repeats) / taken);
  }
  return best;
}

}  // namespace

void add_probe(py::module_& m) {
  m.def("measure_fma", &measure_fma, py::arg("dtype"), py::arg("steps") = 100000, py::arg("trials") = 5,
        "Multiply-adds in registers on all threads: the best FLOP/s of some trials; a multiply-add counts 2.");
  m.def("measure_memory", &measure_memory, py::arg("loop"), py::arg("bytes"), py::arg("trials") = 5,
        "Bytes/s, read and written, of loop 'copy', 'stream' (stores past the caches) or 'read' over a working set of\n"
        "so many bytes on all threads: the best of some trials.");
}

}  // namespace fastdl::bind
