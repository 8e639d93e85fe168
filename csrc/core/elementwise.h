// Element-wise arithmetic with broadcasting.  Overwrites y (out, x where in place); saves nothing.
// a, b, x, condition: any strides   y: the broadcast shape, any strides, may be one of the inputs but not overlap
// otherwise
#pragma once
#include "core/check.h"
#include "core/kernel.h"

namespace fastdl {

enum class BinaryOp {
  kAdd,
  kSubtract,
  kMultiply,
  kDivide,
  kPower,
  kMaximum,
  kMinimum,
  kAddRelu,  // relu(a + b), which fusion makes of two calls
  kEqual,    // from here on y is bool
  kNotEqual,
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
};

enum class UnaryOp { kNegative, kExp, kLog, kSqrt, kAbsolute, kSign };

struct ClipBounds {
  bool has_low, has_high;
  double low, high;
};

// A shape that operands broadcast to.
struct BroadcastShape {
  int ndim = 0;
  std::int64_t shape[kMaxDims] = {};
};

// numbers: one operand may be a number in float32 (0-d) beside the other of bfloat16.
BroadcastShape check_binary(const char* kernel, const View& a, const View& b, bool numbers = false);
constexpr bool takes_numbers(BinaryOp op) { return op <= BinaryOp::kDivide; }
BroadcastShape check_where(const View& condition, const View& a, const View& b);
void check_clip(const ClipBounds& bounds);
void check_accumulate(const View& out, const View& x);

// The loops of one call: dimensions outermost first in y's order of memory, those that every operand walks through
// evenly merged into one. strides[0] is y's, then the operands'; 0 where an operand is broadcast.
constexpr int kMaxOperands = kMaxElementwise;
struct Nest {
  int ndim = 0;  // at least 1
  std::int64_t shape[kMaxDims] = {};
  std::int64_t strides[kMaxOperands][kMaxDims] = {};
};
Nest plan_nest(const View& y, std::initializer_list<const View*> operands);

// The dimensions of an array of this shape, outermost first, in the memory order of `model` (of the same shape);
// where strides don't tell (size 1, broadcast) in C order.
void memory_order(const View& model, int* order);

template <>
inline constexpr bool kAttributes<Nest> = true;
void describe(Elements& elements, const Nest& nest);
void describe(Elements& elements, const BinaryOp& op);
void cut(Cut& cut, Nest& nest);
const char* op_name(BinaryOp op);
const char* op_name(UnaryOp op);
template <>
inline constexpr bool kAttributes<ClipBounds> = true;

namespace FASTDL_DEVICE {
inline Elementwise<void(BinaryOp op, const Nest& nest, Out y, View a, View b)> binary;
inline Elementwise<void(UnaryOp op, const Nest& nest, Out y, View x)> unary;
inline Elementwise<void(const ClipBounds& bounds, const Nest& nest, Out y, View x)> clip;
inline Elementwise<void(const Nest& nest, Out y, View condition, View a, View b)> where;
inline Elementwise<void(const Nest& nest, InOut x, Number<double> factor)> scale;
}  // namespace FASTDL_DEVICE

}  // namespace fastdl
