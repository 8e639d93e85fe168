#include "core/elementwise.h"

namespace fastdl {

using namespace check;

namespace {

// Widens `shape` to what x broadcasts it to; false if they don't fit together.
bool widen(BroadcastShape& shape, const View& x) {
  BroadcastShape wide;
  wide.ndim = shape.ndim > x.ndim ? shape.ndim : x.ndim;
  for (int d = 1; d <= wide.ndim; ++d) {
    const std::int64_t a = d <= shape.ndim ? shape.shape[shape.ndim - d] : 1, b = d <= x.ndim ? x.shape[x.ndim - d] : 1;
    if (a != b && a != 1 && b != 1) return false;
    wide.shape[wide.ndim - d] = a == 1 ? b : a;
  }
  shape = wide;
  return true;
}

std::int64_t magnitude(std::int64_t x) { return x < 0 ? -x : x; }

}  // namespace

BroadcastShape check_binary(const char* kernel, const View& a, const View& b, bool numbers) {
  const auto beside = [](const View& number, const View& x) {
    return number.ndim == 0 && number.dtype == DType::f32 && x.dtype == DType::bf16;
  };
  if (!numbers || (!beside(a, b) && !beside(b, a))) like(kernel, "b", b, "a", a);
  BroadcastShape shape;
  widen(shape, a);
  if (!widen(shape, b))
    fail_value(kernel, "b must broadcast with a, got shape " + shape_string(b) + ", a " + shape_string(a));
  return shape;
}

BroadcastShape check_where(const View& condition, const View& a, const View& b) {
  BroadcastShape shape = check_binary("where", a, b);
  if (!widen(shape, condition))
    fail_value("where", "condition must broadcast with a and b, got shape " + shape_string(condition) + ", a " +
                            shape_string(a) + ", b " + shape_string(b));
  return shape;
}

void check_clip(const ClipBounds& bounds) {
  if (!bounds.has_low && !bounds.has_high) fail_value("clip", "low must be a number when high is None, got None");
  if (bounds.has_low && std::isnan(bounds.low)) fail_value("clip", "low must be a number, got nan");
  if (bounds.has_high && std::isnan(bounds.high)) fail_value("clip", "high must be a number, got nan");
}

void check_accumulate(const View& out, const View& x) {
  like("accumulate", "x", x, "out", out);
  shape("accumulate", "x", x, out.shape, out.ndim);
}

void memory_order(const View& model, int* order) {
  for (int d = 0; d < model.ndim; ++d) {
    int place = d;
    for (int i = d; i > 0; --i) {
      const int outer = order[i - 1];
      const std::int64_t mine = magnitude(model.strides[d]), other = magnitude(model.strides[outer]);
      if (model.shape[d] == 1 || model.shape[outer] == 1 || mine == 0 || other == 0) continue;
      if (other >= mine) break;
      place = i - 1;
    }
    for (int i = d; i > place; --i) order[i] = order[i - 1];
    order[place] = d;
  }
}

Nest plan_nest(const View& y, std::initializer_list<const View*> operands) {
  int order[kMaxDims];
  memory_order(y, order);
  const int count = 1 + static_cast<int>(operands.size());
  Nest nest;
  for (int i = 0; i < y.ndim; ++i) {
    const int d = order[i];
    if (y.shape[d] == 1) continue;
    std::int64_t stride[kMaxOperands] = {y.strides[d]};
    int k = 1;
    for (const View* x : operands) {
      const int own = d - (y.ndim - x->ndim);  // shapes are aligned at their ends
      stride[k++] = own < 0 || x->shape[own] == 1 ? 0 : x->strides[own];
    }
    bool merge = nest.ndim > 0;
    for (int j = 0; merge && j < count; ++j) merge = nest.strides[j][nest.ndim - 1] == stride[j] * y.shape[d];
    const int at = merge ? nest.ndim - 1 : nest.ndim++;
    nest.shape[at] = merge ? nest.shape[at] * y.shape[d] : y.shape[d];
    for (int j = 0; j < count; ++j) nest.strides[j][at] = stride[j];
  }
  if (nest.ndim == 0) {  // a single element
    nest.ndim = 1;
    nest.shape[0] = 1;
    for (int j = 0; j < count; ++j) nest.strides[j][0] = 1;
  }
  return nest;
}

// The kernel for powers looks at all exponents before it chooses a formula: only one exponent makes it element-wise.
void describe(Elements& elements, const BinaryOp& op) { elements.one_last = op == BinaryOp::kPower; }

void describe(Elements& elements, const Nest& nest) {
  elements.nested = true;
  std::int64_t size = 1;
  for (int j = 0; j < kMaxOperands; ++j) elements.whole[j] = true;
  for (int d = nest.ndim - 1; d >= 0; --d) {
    for (int j = 0; j < kMaxOperands; ++j) elements.whole[j] = elements.whole[j] && nest.strides[j][d] == size;
    if (elements.one_last && nest.strides[2][d] != 0) return;
    elements.row = size;
    size *= nest.shape[d];
  }
  if (elements.whole[0]) elements.size = size;
}

void cut(Cut& cut, Nest& nest) {
  std::int64_t row = 1;
  for (int d = 1; d < nest.ndim; ++d) row *= nest.shape[d];
  nest.shape[0] = cut.count / row;
  cut.nested = true;
  for (int j = 0; j < kMaxOperands; ++j) cut.offset[j] = cut.begin / row * nest.strides[j][0];
}

const char* op_name(BinaryOp op) {
  switch (op) {
    case BinaryOp::kAdd:
      return "add";
    case BinaryOp::kSubtract:
      return "subtract";
    case BinaryOp::kMultiply:
      return "multiply";
    case BinaryOp::kDivide:
      return "divide";
    case BinaryOp::kPower:
      return "power";
    case BinaryOp::kMaximum:
      return "maximum";
    case BinaryOp::kMinimum:
      return "minimum";
    case BinaryOp::kAddRelu:
      return "add_relu";
    case BinaryOp::kEqual:
      return "equal";
    case BinaryOp::kNotEqual:
      return "not_equal";
    case BinaryOp::kLess:
      return "less";
    case BinaryOp::kLessEqual:
      return "less_equal";
    case BinaryOp::kGreater:
      return "greater";
    case BinaryOp::kGreaterEqual:
      return "greater_equal";
  }
  return "binary";
}

const char* op_name(UnaryOp op) {
  switch (op) {
    case UnaryOp::kNegative:
      return "negative";
    case UnaryOp::kExp:
      return "exp";
    case UnaryOp::kLog:
      return "log";
    case UnaryOp::kSqrt:
      return "sqrt";
    case UnaryOp::kAbsolute:
      return "absolute";
    case UnaryOp::kSign:
      return "sign";
  }
  return "unary";
}

}  // namespace fastdl
