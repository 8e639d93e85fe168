// Memory of a recorded program's intermediates.
#pragma once
#include "core/program.h"

namespace fastdl {

// Intermediates move into one block, where those that don't live at the same time share memory.
// results: memory of the arena that is read after the program has run; it stays where it is.
void plan_memory(Program& program, const std::vector<View>& results);

}  // namespace fastdl
