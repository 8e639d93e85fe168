"""The dense layer."""

from __future__ import annotations

from ..autograd import Operation, apply
from ..kernels import of
from ..tensor import Tensor
from .precision import lowered


class Linear(Operation):
    """y = x W' + b."""

    __slots__ = ()
    fresh = places = True

    def forward(self, input, weight, bias):
        self.saved = input, weight
        return of(input, weight).linear_forward(input, weight, bias)

    def backward(self, dy, out):
        x, weight = self.saved
        return of(dy).linear_backward(dy, x, weight, tuple(self.need), out)


def linear(input, weight, bias=None) -> Tensor:
    """y = input weight' + bias.

    Args:
        input: (..., I).
        weight: (O, I).
        bias: (O,) or None.

    Returns (..., O). Raises TypeError for other than Tensors of one float dtype, ValueError for shapes that don't fit.
    """
    return apply(lowered(Linear(), input, weight, bias), input, weight, bias)
