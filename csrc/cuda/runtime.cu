#include "cuda/runtime.h"

#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "cuda/launch.h"

namespace fastdl::cuda::gpu {

namespace {

// A word or a unit of a piece for each index.
struct Write {
  static constexpr int kWords = 64, kPieces = 8;
  std::int64_t words[kWords], *to;
  std::int64_t word_count;
  Piece pieces[kPieces];
  std::int64_t ends[kPieces];  // of a piece's units, counted from the first piece on
  int units[kPieces];          // bytes that both its addresses and its size are multiples of

  FASTDL_DEVICE_ONLY void operator()(std::int64_t i) const {
    if (i < word_count) {
      to[i] = words[i];
      return;
    }
    i -= word_count;
    int p = 0;
    while (i >= ends[p]) ++p;
    if (p > 0) i -= ends[p - 1];
    switch (units[p]) {
      case 16:
        return copy<Wide16>(pieces[p], i);
      case 8:
        return copy<std::uint64_t>(pieces[p], i);
      case 4:
        return copy<std::uint32_t>(pieces[p], i);
      default:
        return copy<std::uint8_t>(pieces[p], i);
    }
  }

 private:
  struct alignas(16) Wide16 {
    std::uint64_t halves[2];
  };
  template <class Unit>
  FASTDL_DEVICE_ONLY static void copy(const Piece& piece, std::int64_t i) {
    static_cast<Unit*>(piece.to)[i] = static_cast<const Unit*>(piece.from)[i];
  }
};

int unit_of(const Piece& piece) {
  const auto places = reinterpret_cast<std::uintptr_t>(piece.from) | reinterpret_cast<std::uintptr_t>(piece.to) |
                      static_cast<std::uintptr_t>(piece.bytes);
  return places % 16 == 0 ? 16 : places % 8 == 0 ? 8 : places % 4 == 0 ? 4 : 1;
}

}  // namespace

void write(std::int64_t* words, const std::int64_t* values, std::int64_t count, const Piece* pieces,
           std::int64_t piece_count) {
  do {
    Write kernel{};
    kernel.to = words;
    kernel.word_count = min_of<std::int64_t>(Write::kWords, count);
    if (count > 0) std::memcpy(kernel.words, values, static_cast<std::size_t>(kernel.word_count) * sizeof *values);
    std::int64_t units = 0;
    const std::int64_t taken = min_of<std::int64_t>(Write::kPieces, piece_count);
    for (std::int64_t p = 0; p < taken; ++p) {
      kernel.pieces[p] = pieces[p];
      kernel.units[p] = unit_of(pieces[p]);
      kernel.ends[p] = units += pieces[p].bytes / kernel.units[p];
    }
    for_each(kernel.word_count + units, kernel);
    words += kernel.word_count;
    values += kernel.word_count;
    count -= kernel.word_count;
    pieces += taken;
    piece_count -= taken;
  } while (count > 0 || piece_count > 0);
}

void refuse_capture(const char* what) {
  throw std::runtime_error(std::string("a CUDA graph is being captured and needs ") + what +
                           ", which can't be made now: run the step once without capture first");
}

#if defined(__CUDACC__)

namespace {

thread_local cudaStream_t t_stream = nullptr;

void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  (void)cudaGetLastError();  // or the next launch would report it
  throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(error));
}

// Memory of the device for as long as the process lives.
void* device_memory(std::size_t bytes) {
  void* memory = nullptr;
  check(cudaMalloc(&memory, bytes), "cudaMalloc");
  return memory;
}

// Of the current device.
template <cudaDeviceAttr what>
int attribute() {
  thread_local int device = -1, value = 0;
  if (const int now = current_device(); now != device) {
    check(cudaDeviceGetAttribute(&value, what, now), "cudaDeviceGetAttribute");
    device = now;
  }
  return value;
}

std::mutex g_mutex;

}  // namespace

cudaStream_t stream() { return t_stream; }
void set_stream(void* stream) { t_stream = static_cast<cudaStream_t>(stream); }

int current_device() {
  int device = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  return device;
}

bool is_capturing() {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(stream(), &status), "cudaStreamIsCapturing");
  return status != cudaStreamCaptureStatusNone;
}

std::int64_t processors() { return attribute<cudaDevAttrMultiProcessorCount>(); }
int compute_capability_major() { return attribute<cudaDevAttrComputeCapabilityMajor>(); }
std::int64_t block_memory() { return attribute<cudaDevAttrMaxSharedMemoryPerBlockOptin>(); }
std::int64_t waiting_blocks() { return attribute<cudaDevAttrCooperativeLaunch>() != 0 ? processors() : 0; }

void probe() {
  for_each(1, FASTDL_LAMBDA(std::int64_t){});
  check(cudaStreamSynchronize(stream()), "cudaStreamSynchronize");
}

void check_launch() { check(cudaGetLastError(), "a kernel could not be launched"); }

const void* resident(const void* host, std::size_t bytes) {
  static std::map<std::pair<int, std::string>, void*> tables;
  const std::lock_guard<std::mutex> lock(g_mutex);
  void*& memory = tables[{current_device(), std::string(static_cast<const char*>(host), bytes)}];
  if (memory == nullptr) {
    if (is_capturing()) refuse_capture("a new table on the device");
    void* const made = device_memory(bytes > 0 ? bytes : 1);
    // On the stream of the kernel that reads it: a plain copy may still be under way when it returns.
    check(cudaMemcpyAsync(made, host, bytes, cudaMemcpyHostToDevice, stream()), "cudaMemcpyAsync");
    check(cudaStreamSynchronize(stream()), "cudaStreamSynchronize");
    memory = made;
  }
  return memory;
}

unsigned* counter() {
  constexpr std::size_t kCounters = 4096;
  struct Counters {
    unsigned* first = nullptr;
    std::size_t calls = 0;
  };
  static std::map<std::pair<int, cudaStream_t>, Counters> counters;
  const std::lock_guard<std::mutex> lock(g_mutex);
  Counters& here = counters[{current_device(), stream()}];
  if (here.first == nullptr) {
    if (is_capturing()) refuse_capture("counters on the device");
    auto* const fresh = static_cast<unsigned*>(device_memory(kCounters * sizeof(unsigned)));
    check(cudaMemsetAsync(fresh, 0, kCounters * sizeof(unsigned), stream()), "cudaMemsetAsync");
    here.first = fresh;
  }
  return here.first + here.calls++ % kCounters;
}

// One block per device and stream, replaced by a larger one when needed; the old ones stay, as graphs may use them.
void* workspace(std::size_t bytes) {
  static std::map<std::pair<int, cudaStream_t>, std::pair<void*, std::size_t>> blocks;
  const std::lock_guard<std::mutex> lock(g_mutex);
  auto& [memory, size] = blocks[{current_device(), stream()}];
  if (size < bytes) {
    if (is_capturing()) refuse_capture("a larger workspace");
    memory = device_memory(bytes);
    size = bytes;
  }
  return memory;
}

#else

namespace {

thread_local bool t_capturing = false;
thread_local float t_time = 0;

}  // namespace

int current_device() { return 0; }
std::int64_t processors() { return 4; }
int compute_capability_major() { return 9; }
std::int64_t block_memory() { return 24 << 10; }
std::int64_t waiting_blocks() { return processors(); }
unsigned* counter() {
  thread_local unsigned count;
  count = 0;  // a kernel that threw has left something
  return &count;
}
bool is_capturing() { return t_capturing; }
void emulate_capture(bool on) { t_capturing = on; }
void emulate_clock(bool on) { t_time = on ? -1.0f : 0.0f; }
float emulated_time() { return t_time < 0 ? t_time-- : 0; }

const void* resident(const void* host, std::size_t) { return host; }

void* workspace(std::size_t bytes) {
  constexpr std::size_t kBorder = 256;
  thread_local std::vector<char> memory;
  if (memory.size() < bytes + kBorder) memory.resize(bytes + kBorder);
  std::memset(memory.data(), 0xff, bytes + kBorder);  // NaN: nothing may count on what is there
  return memory.data() + (kBorder - reinterpret_cast<std::uintptr_t>(memory.data()) % kBorder) % kBorder;
}

#endif

}  // namespace fastdl::cuda::gpu
