#include "core/elementwise.h"

#include <pybind11/stl.h>

#include "bindings/array.h"
#include "bindings/families.h"
#include "core/program.h"

namespace fastdl::bind {

namespace {

bool has_shape(const View& x, const BroadcastShape& shape) {
  bool same = x.ndim == shape.ndim;
  for (int d = 0; same && d < x.ndim; ++d) same = x.shape[d] == shape.shape[d];
  return same;
}

// A new array of the broadcast shape in the memory order of the first operand that has this shape itself.
Output empty_broadcast(DType dtype, const BroadcastShape& shape, std::initializer_list<const View*> operands) {
  for (const View* x : operands)
    if (has_shape(*x, shape)) {
      int order[kMaxDims];
      memory_order(*x, order);
      return empty_ordered(dtype, shape.shape, shape.ndim, order);
    }
  return empty(dtype, shape.shape, shape.ndim);
}

template <BinaryOp op>
void add_binary(py::module_& m, const char* name) {
  m.def(
      name,
      [name](const py::handle& a_, const py::handle& b_) {
        const Input a = strided(name, "a", a_, Floats::any), b = strided(name, "b", b_, Floats::any);
        const BroadcastShape shape = check_binary(name, a, b, takes_numbers(op));
        const DType dtype = a.view.dtype == DType::bf16 ? a.view.dtype : b.view.dtype;  // one may be a number
        Output y = empty_broadcast(op >= BinaryOp::kEqual ? DType::b8 : dtype, shape, {&a.view, &b.view});
        if (const std::int64_t size = y.view.size(); size > 0)
          run(size, [&] { device::binary(op, plan_nest(y.view, {&a.view, &b.view}), y.view, a, b); });
        return y.array;
      },
      py::arg("a"), py::arg("b"));
}

template <UnaryOp op>
void add_unary(py::module_& m, const char* name) {
  m.def(
      name,
      [name](const py::handle& x_) {
        const Input x = strided(name, "x", x_, Floats::any);
        int order[kMaxDims];
        memory_order(x, order);
        Output y = empty_ordered(x.view.dtype, x.view.shape, x.view.ndim, order);
        if (const std::int64_t size = y.view.size(); size > 0)
          run(size, [&] { device::unary(op, plan_nest(y.view, {&x.view}), y.view, x); });
        return y.array;
      },
      py::arg("x"));
}

Array clip(const py::handle& x_, std::optional<double> low, std::optional<double> high) {
  const Input x = strided("clip", "x", x_, Floats::any);
  const ClipBounds bounds{low.has_value(), high.has_value(), low.value_or(0), high.value_or(0)};
  check_clip(bounds);
  int order[kMaxDims];
  memory_order(x, order);
  Output y = empty_ordered(x.view.dtype, x.view.shape, x.view.ndim, order);
  if (const std::int64_t size = y.view.size(); size > 0)
    run(size, [&] { device::clip(bounds, plan_nest(y.view, {&x.view}), y.view, x); });
  return y.array;
}

Array where(const py::handle& condition_, const py::handle& a_, const py::handle& b_) {
  const Input condition = one_of("where", "condition", condition_, {DType::b8}, "bool"),
              a = strided("where", "a", a_, Floats::any), b = strided("where", "b", b_, Floats::any);
  const BroadcastShape shape = check_where(condition, a, b);
  Output y = empty_broadcast(a.view.dtype, shape, {&condition.view, &a.view, &b.view});
  if (const std::int64_t size = y.view.size(); size > 0)
    run(size, [&] { device::where(plan_nest(y.view, {&condition.view, &a.view, &b.view}), y.view, condition, a, b); });
  return y.array;
}

// Ends a call that changes an array in place: `strided` copies one that is not aligned to its items, and what the
// kernel did to the copy goes back.
void write_back(const py::handle& array, const Input& input) {
  if (!input.owner.is(array)) array.attr("__setitem__")(py::ellipsis(), input.owner);
}

bool same_memory(const View& a, const View& b) {
  bool same = a.data == b.data;
  for (int d = 0; same && d < a.ndim; ++d) same = a.strides[d] == b.strides[d] || a.shape[d] == 1;
  return same;
}

void accumulate(const py::handle& out_, const py::handle& x_) {
  const Input out = strided("accumulate", "out", out_, Floats::any);
  Input x = strided("accumulate", "x", x_, Floats::any);
  check_accumulate(out, x);
  expect_writeable("accumulate", "out", out_);
  if (out.view.size() == 0) return;
  if (check::overlap(out, x) && !same_memory(out, x)) {
    if (is_recording()) t_recorder->refuse("accumulate of arrays that overlap");
    const py::object copy = x.owner.attr("copy")();
    x = strided("accumulate", "x", copy, Floats::any);
  }
  run(out.view.size(), [&] { device::binary(BinaryOp::kAdd, plan_nest(out, {&out.view, &x.view}), out, out, x); });
  write_back(out_, out);
}

void scale(const py::handle& x_, const py::handle& factor_) {
  const Input x = strided("scale", "x", x_, Floats::any);
  const Number<double> factor = number<double>("scale", "factor", factor_);
  expect_writeable("scale", "x", x_);
  if (x.view.size() == 0) return;
  run(x.view.size(), [&] { device::scale(plan_nest(x, {&x.view}), x, factor); });
  write_back(x_, x);
}

}  // namespace

void add_elementwise(py::module_& m) {
  add_binary<BinaryOp::kAdd>(m, "add");
  add_binary<BinaryOp::kSubtract>(m, "subtract");
  add_binary<BinaryOp::kMultiply>(m, "multiply");
  add_binary<BinaryOp::kDivide>(m, "divide");
  add_binary<BinaryOp::kPower>(m, "power");
  add_binary<BinaryOp::kMaximum>(m, "maximum");
  add_binary<BinaryOp::kMinimum>(m, "minimum");
  add_binary<BinaryOp::kEqual>(m, "equal");
  add_binary<BinaryOp::kNotEqual>(m, "not_equal");
  add_binary<BinaryOp::kLess>(m, "less");
  add_binary<BinaryOp::kLessEqual>(m, "less_equal");
  add_binary<BinaryOp::kGreater>(m, "greater");
  add_binary<BinaryOp::kGreaterEqual>(m, "greater_equal");
  add_unary<UnaryOp::kNegative>(m, "negative");
  add_unary<UnaryOp::kExp>(m, "exp");
  add_unary<UnaryOp::kLog>(m, "log");
  add_unary<UnaryOp::kSqrt>(m, "sqrt");
  add_unary<UnaryOp::kAbsolute>(m, "absolute");
  add_unary<UnaryOp::kSign>(m, "sign");
  m.def("clip", &clip, py::arg("x"), py::arg("low").none(true), py::arg("high").none(true));
  m.def("where", &where, py::arg("condition"), py::arg("a"), py::arg("b"));
  m.def("accumulate", &accumulate, py::arg("out"), py::arg("x"));
  m.def("scale", &scale, py::arg("x"), py::arg("factor"));
}

}  // namespace fastdl::bind
