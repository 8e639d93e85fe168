"""Cross-entropy of logits with class numbers."""

from __future__ import annotations

import math

import numpy as np

from ..autograd import Operation, apply, is_one
from ..kernels import of
from ..tensor import Tensor, check_tensor
from ._arguments import number, without_grad
from .copy import permute, reshape, unsqueeze
from .precision import in_float32


class CrossEntropy(Operation):
    """Log-softmax and negative log-likelihood in one.

    Where a gradient will be wanted, forward makes that for a dy of 1 too, while it has the logits at hand.
    """

    __slots__ = ("attributes", "gradient")
    fresh = True

    def __init__(self, *attributes):
        self.attributes = attributes

    def forward(self, input, target, weight):
        wanted = self.need[0] and self.attributes[-1] != "none"
        loss, lse, *gradient = of(input).cross_entropy_forward(input, target, weight, *self.attributes, wanted)
        self.gradient = gradient[0] if wanted else None
        self.saved = input, target, lse, weight
        return loss

    def backward(self, dy):
        made, self.gradient = self.gradient, None  # given away: going through the graph again makes its own
        if made is None or not is_one(dy):
            made = of(self.saved[0]).cross_entropy_backward(dy, *self.saved, *self.attributes)
        return made, None, None


def cross_entropy(
    input,
    target,
    weight=None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy between softmax(input) over the classes and the target classes.

    With q_c = weight_c * ((1 - label_smoothing) * [c == target] + label_smoothing / C), the loss of one
    position is sum_c q_c * (log(sum(exp(input))) - input_c), and 0 where the target is ignore_index.

    Args:
        input: logits, (N, C), (N, C, d1, ...) or (C,).
        target: integers in [0, C) or ignore_index, (N,), (N, d1, ...) or ().
        weight: (C,) or None.
        reduction: "mean" (over the sum of the targets' weights), "sum" or "none".
        label_smoothing: in [0, 1].

    Returns a 0-d Tensor, or with "none" one of target's shape.
    Raises TypeError for array kinds and dtypes, ValueError for shapes and values, IndexError for a label.
    """
    check_tensor("cross_entropy", "input", input)
    check_tensor("cross_entropy", "target", target)
    without_grad("cross_entropy", weight=weight)
    if not isinstance(ignore_index, (int, np.integer)) or isinstance(ignore_index, bool):
        raise TypeError(f"cross_entropy: ignore_index must be an int, got {type(ignore_index).__name__}")
    op = CrossEntropy(ignore_index, number("cross_entropy", "label_smoothing", label_smoothing), reduction)
    shape = input.data.shape
    if len(shape) == 2:
        return in_float32(input, apply(op, input, target, weight))
    if not shape:
        raise ValueError("cross_entropy: input must have at least 1 dimension (C,), got shape ()")
    want = () if len(shape) == 1 else (shape[0], *shape[2:])
    if target.data.shape != want:
        raise ValueError(f"cross_entropy: target must have shape {want}, got {target.data.shape} (input {shape})")
    if len(shape) == 1:
        rows = unsqueeze(input, 0)
    else:
        rows = reshape(permute(input, 0, *range(2, len(shape)), 1), math.prod(want), shape[1])
    loss = apply(op, rows, reshape(target, -1 if target.data.size else 0), weight)
    return in_float32(input, reshape(loss, want) if reduction == "none" else loss)
