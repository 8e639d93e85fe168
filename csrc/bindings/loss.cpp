#include "core/loss.h"

#include "bindings/array.h"
#include "bindings/families.h"

namespace fastdl::bind {

namespace {

// x and what goes with it in x's memory order, checked.
struct Operands {
  Input x, target;
  Reduction reduction;
};

Operands operands(const char* kernel, const py::handle& x_, const py::handle& target_, const std::string& reduction) {
  Input x = dense(kernel, "x", x_);
  const Input target = strided(kernel, "target", target_);
  check_loss(kernel, x, target);
  const Reduction how = check_reduction(kernel, reduction);
  Input aligned = reordered(target, x);
  return {std::move(x), std::move(aligned), how};
}

Input gradient_of(const char* kernel, const py::handle& dloss_, const Operands& o) {
  const Input dloss = strided(kernel, "dloss", dloss_);
  check_loss_gradient(kernel, dloss, o.x, o.reduction);
  return o.reduction == Reduction::none ? reordered(dloss, o.x) : dloss;
}

Output empty_loss(const Operands& o) {
  return o.reduction == Reduction::none ? empty_like(o.x.view) : empty(o.x.view.dtype, {});
}

struct Weights {
  Input weight, pos_weight;
};

Weights weights(const char* kernel, const Input& x, const py::handle& weight_, const py::handle& pos_weight_) {
  const Input weight = weight_.is_none() ? Input{} : strided(kernel, "weight", weight_);
  Input pos_weight = pos_weight_.is_none() ? Input{} : strided(kernel, "pos_weight", pos_weight_);
  check_bce_weights(kernel, x, weight, pos_weight);
  if (pos_weight && x.view.ndim > 0) {  // broadcast over the leading dimensions: strides of 0
    View spread = x.view;
    spread.data = pos_weight.view.data;
    const bool whole = pos_weight.view.ndim == x.view.ndim && pos_weight.view.ndim > 1;
    for (int d = 0; d < spread.ndim; ++d)
      spread.strides[d] = whole                                                  ? pos_weight.view.strides[d]
                          : d == spread.ndim - 1 && pos_weight.view.shape[0] > 1 ? pos_weight.view.strides[0]
                                                                                 : 0;
    pos_weight.view = spread;
  } else if (pos_weight) {
    pos_weight.view.ndim = 0;
  }
  return {weight ? reordered(weight, x) : Input{}, pos_weight ? reordered(pos_weight, x) : Input{}};
}

template <class Call>
void add_forward(py::module_& m, const char* kernel, const Call& call) {
  m.def(
      kernel,
      [kernel, &call](const py::handle& x, const py::handle& target, const std::string& reduction) {
        const Operands o = operands(kernel, x, target, reduction);
        Output loss = empty_loss(o);
        run(o.x.view.size(), [&] { call(o.x, o.target, o.reduction, loss.view); });
        return loss.array;
      },
      py::arg("x"), py::arg("target"), py::arg("reduction"));
}

template <class Call>
void add_backward(py::module_& m, const char* kernel, const Call& call) {
  m.def(
      kernel,
      [kernel, &call](const py::handle& dloss_, const py::handle& x, const py::handle& target,
                      const std::string& reduction) {
        const Operands o = operands(kernel, x, target, reduction);
        const Input dloss = gradient_of(kernel, dloss_, o);
        Output dx = empty_like(o.x.view);
        run(o.x.view.size(), [&] { call(dloss, o.x, o.target, o.reduction, dx.view); });
        return dx.array;
      },
      py::arg("dloss"), py::arg("x"), py::arg("target"), py::arg("reduction"));
}

Array bce_with_logits_forward(const py::handle& x, const py::handle& target, const py::handle& weight,
                              const py::handle& pos_weight, const std::string& reduction) {
  const char* kernel = "bce_with_logits_forward";
  const Operands o = operands(kernel, x, target, reduction);
  const Weights w = weights(kernel, o.x, weight, pos_weight);
  Output loss = empty_loss(o);
  run(o.x.view.size(),
      [&] { device::bce_with_logits_forward(o.x, o.target, w.weight, w.pos_weight, o.reduction, loss.view); });
  return loss.array;
}

Array bce_with_logits_backward(const py::handle& dloss_, const py::handle& x, const py::handle& target,
                               const py::handle& weight, const py::handle& pos_weight, const std::string& reduction) {
  const char* kernel = "bce_with_logits_backward";
  const Operands o = operands(kernel, x, target, reduction);
  const Input dloss = gradient_of(kernel, dloss_, o);
  const Weights w = weights(kernel, o.x, weight, pos_weight);
  Output dx = empty_like(o.x.view);
  run(o.x.view.size(),
      [&] { device::bce_with_logits_backward(dloss, o.x, o.target, w.weight, w.pos_weight, o.reduction, dx.view); });
  return dx.array;
}

}  // namespace

void add_loss(py::module_& m) {
  add_forward(m, "mse_forward", device::mse_forward);
  add_backward(m, "mse_backward", device::mse_backward);
  add_forward(m, "l1_forward", device::l1_forward);
  add_backward(m, "l1_backward", device::l1_backward);
  m.def("bce_with_logits_forward", &bce_with_logits_forward, py::arg("x"), py::arg("target"), py::arg("weight"),
        py::arg("pos_weight"), py::arg("reduction"));
  m.def("bce_with_logits_backward", &bce_with_logits_backward, py::arg("dloss"), py::arg("x"), py::arg("target"),
        py::arg("weight"), py::arg("pos_weight"), py::arg("reduction"));
}

}  // namespace fastdl::bind
