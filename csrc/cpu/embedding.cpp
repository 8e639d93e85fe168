// Embedding: forward copies rows; backward gives each task a strip of columns, which it walks in the order of index, so
// that rows named twice are added up in one order whatever the number of threads.
#include "core/embedding.h"

#include "cpu/rows.h"

namespace fastdl::cpu::FASTDL_ISA {

void embedding_forward(View weight, View index, Out y) {
  const int64_t count = index.size(), d = weight.shape[1], group = rows_per_task(d);
  with_float(weight.dtype, [&](auto type) {
    with_index(index.dtype, [&](auto index_type) {
      using T = decltype(type);
      const auto* row = index.as<decltype(index_type)>();
      const T* from = weight.as<T>();
      T* to = y.as<T>();
      parallel_for(ceil_div(count, group), 0.3 * static_cast<double>(group * d), [&](int64_t task) {
        for (int64_t k = task * group; k < min_of(count, (task + 1) * group); ++k)
          __builtin_memcpy(to + k * d, from + row[k] * d, static_cast<std::size_t>(d) * sizeof(T));
      });
    });
  });
}

void embedding_backward(View dy, View index, int64_t padding_idx, Out dweight) {
  const int64_t count = index.size(), d = dweight.shape[1], size = dweight.size();
  with_float(dy.dtype, [&](auto type) {
    with_index(index.dtype, [&](auto index_type) {
      using T = decltype(type);
      constexpr int64_t kZeroBlock = 1 << 16, kStrip = 128;
      const auto* row = index.as<decltype(index_type)>();
      const T* from = dy.as<T>();
      T* to = dweight.as<T>();
      parallel_for(ceil_div(size, kZeroBlock), 0.2 * kZeroBlock, [&](int64_t task) {
        const int64_t begin = task * kZeroBlock, length = min_of(kZeroBlock, size - begin);
        __builtin_memset(to + begin, 0, static_cast<std::size_t>(length) * sizeof(T));
      });
      parallel_for(ceil_div(d, kStrip), 0.3 * static_cast<double>(count * min_of(d, kStrip)), [&](int64_t task) {
        const int64_t begin = task * kStrip, end = min_of(d, begin + kStrip);
        for (int64_t k = 0; k < count; ++k) {
          if (row[k] == padding_idx) continue;
          const T* source = from + k * d;
          T* sum = to + row[k] * d;
          for_vectors<T>(begin, end, [&](int64_t j, int64_t lanes) __attribute__((always_inline)) {
            store_up_to(sum + j, load_up_to(sum + j, lanes) + load_up_to(source + j, lanes), lanes);
          });
        }
      });
    });
  });
}

FASTDL_REGISTER(embedding_forward)
FASTDL_REGISTER(embedding_backward)

}  // namespace fastdl::cpu::FASTDL_ISA
