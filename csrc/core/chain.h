// Chains: calls that work element by element on the same elements, made piece by piece instead of array by array.
//
// A piece is small enough for L1, so that what one call of the chain writes is still there when the next reads it, and
// arrays that only the chain uses need no memory beyond a piece of each. Every call stays the kernel that it was: the
// bits are those of separate calls. Short arrays are left alone, as they stay in L1 anyway.
#pragma once
#include <set>

#include "core/program.h"

namespace fastdl {

// read_later: allocations of the arena that are read after the program has run. Steps that are gone have no call.
void join_chains(Program& program, const std::set<std::int64_t>& read_later);

}  // namespace fastdl
