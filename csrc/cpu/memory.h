// Reusable memory, 64-byte aligned; see memory.cpp.
#pragma once
#include <cstddef>

namespace fastdl {

void* cached_alloc(std::size_t bytes);  // throws std::bad_alloc
void cached_free(void* memory) noexcept;

}  // namespace fastdl
