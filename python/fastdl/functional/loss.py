"""Element-wise losses."""

from __future__ import annotations

import warnings

import numpy as np

from ..autograd import Operation, apply
from ..kernels import of
from ..tensor import Tensor, check_tensor, wrap
from ._arguments import without_grad
from .copy import expand
from .precision import raised


class _Difference(Operation):
    """A loss of x - target: the gradient of target is that of x, negated."""

    __slots__ = ("reduction",)
    fresh = True
    kernel = ""

    def __init__(self, reduction):
        self.reduction = reduction

    def forward(self, input, target):
        self.saved = input, target
        return getattr(of(input), self.kernel + "_forward")(input, target, self.reduction)

    def backward(self, dy):
        (x, target), need, k = self.saved, self.need, of(dy)
        dx = getattr(k, self.kernel + "_backward")(dy, x, target, self.reduction)
        return dx if need[0] else None, k.negative(dx) if need[1] else None


class Mse(_Difference):
    """(x - target)**2, reduced."""

    __slots__ = ()
    kernel = "mse"


class L1(_Difference):
    """|x - target|, reduced."""

    __slots__ = ()
    kernel = "l1"


class BceWithLogits(Operation):
    """Binary cross-entropy of sigmoid(x) with target, reduced."""

    __slots__ = ("reduction",)
    fresh = True

    def __init__(self, reduction):
        self.reduction = reduction

    def forward(self, input, target, weight, pos_weight):
        self.saved = input, target, weight, pos_weight
        return of(input).bce_with_logits_forward(input, target, weight, pos_weight, self.reduction)

    def backward(self, dy):
        return of(dy).bce_with_logits_backward(dy, *self.saved, self.reduction), None, None, None


def _alike(function: str, input, target) -> tuple:
    """Both operands in one shape. Broadcasting is rarely meant here, so it warns, as in torch."""
    check_tensor(function, "input", input)
    check_tensor(function, "target", target)
    have, want = input.data.shape, target.data.shape
    if have == want:
        return input, target
    try:
        shape = np.broadcast_shapes(have, want)
    except ValueError:
        raise ValueError(f"{function}: target must broadcast with input, got shape {want}, input {have}") from None
    warnings.warn(f"{function}: input {have} and target {want} differ in shape and are broadcast", stacklevel=3)
    return expand(input, shape), expand(target, shape)


def mse_loss(input, target, *, reduction: str = "mean") -> Tensor:
    """(input - target)**2, reduced: "mean", "sum" or "none".

    Both have one shape and dtype (other shapes are broadcast with a warning). Returns a 0-d Tensor, or with "none" one
    of input's shape. Raises TypeError for array kinds and dtypes, ValueError for shapes and another reduction.
    """
    return apply(Mse(reduction), *raised(*_alike("mse_loss", input, target)))


def l1_loss(input, target, *, reduction: str = "mean") -> Tensor:
    """|input - target|, reduced; arguments as in `mse_loss`. The gradient where they are equal is 0."""
    return apply(L1(reduction), *raised(*_alike("l1_loss", input, target)))


def binary_cross_entropy_with_logits(input, target, weight=None, *, reduction: str = "mean", pos_weight=None) -> Tensor:
    """-weight * (pos_weight * target * log(s) + (1 - target) * log(1 - s)), s = sigmoid(input), reduced.

    Args:
        input, target: one shape and dtype; target holds probabilities and must not require grad.
        weight: broadcasts to input, or None.
        pos_weight: weight of the positive class, input's shape or (D,) with D its last size, or None.
        reduction: "mean", "sum" or "none".

    Raises TypeError for array kinds and dtypes, ValueError for shapes and another reduction.
    """
    name = "binary_cross_entropy_with_logits"
    check_tensor(name, "input", input)
    without_grad(name, target=target, weight=weight, pos_weight=pos_weight)
    if weight is not None and weight.data.shape != input.data.shape:
        try:
            weight = wrap(np.broadcast_to(weight.data, input.data.shape))
        except ValueError:
            raise ValueError(
                f"{name}: weight must broadcast to input {input.shape}, got shape {weight.shape}"
            ) from None
    input = raised(input)
    return apply(BceWithLogits(reduction), input, target, weight, pos_weight)
