// Passes over a recorded program that do the same work in fewer calls, bit for bit.
#pragma once
#include "core/program.h"

namespace fastdl {

// results: memory of the arena that is read after the program has run.
//   relu_forward joins the linear_forward, conv2d_forward or sum of two arrays that makes its input.
//   relu_forward joins a batch_norm_forward too, and relu_backward then the batch_norm_backward after it.
//   relu_backward joins the max_pool2d_backward before it, if that pooled what the ReLU made.
//   A sum of two gradients joins the conv2d_backward that makes one of them, relu_backward the linear_backward or
//   conv2d_backward before it.
//   A residual sum, with its ReLU, joins the batch_norm_forward before it.
//   The moments that batch_norm_forward begins with are taken by the conv2d_forward that makes its input.
//   A copy of an array that one call makes for it alone (a gradient on its way to the optimizer's buffer) is left out:
//   the call writes to the copy's place.
//   Calls that work element by element on the same elements become a chain, made piece by piece (core/chain.h).
//   A check of values that were checked before and are as they were is left out.
// Afterwards the intermediates move into one block in which those that don't live at the same time share memory.
void fuse(Program& program, const std::vector<View>& results);

}  // namespace fastdl
