"""The dense layer."""

from __future__ import annotations

from ..autograd import Operation, apply
from ..kernels import of, on_gpu
from ..tensor import Tensor, check_tensor
from . import activation
from ._arguments import flag
from .activation import let_through
from .precision import lowered


class Linear(Operation):
    """y = x W' + b."""

    __slots__ = ()
    fresh = places = True

    def forward(self, input, weight, bias):
        self.saved = input, weight
        return of(input, weight).linear_forward(input, weight, bias)

    def backward(self, dy, out):
        x, weight = self.saved[:2]
        return of(dy).linear_backward(dy, x, weight, tuple(self.need), out)


class LinearRelu(Linear):
    """The same with ReLU in its passes."""

    __slots__ = ("gated",)
    relu = True

    def forward(self, input, weight, bias):
        y = of(input, weight).linear_forward(input, weight, bias, relu=True)
        self.saved, self.gated = (input, weight, y), False
        return y

    def backward(self, dy, out):
        return super().backward(let_through(self, dy, self.saved[2]), out)


def linear(input, weight, bias=None, *, relu: bool = False) -> Tensor:
    """y = input weight' + bias.

    Args:
        input: (..., I).
        weight: (O, I).
        bias: (O,) or None.
        relu: y = max(that, 0), on the GPU in the same passes over memory.

    Returns (..., O). Raises TypeError for other than Tensors of one float dtype, ValueError for shapes that don't fit.
    """
    if not flag("linear", "relu", relu):
        return apply(lowered(Linear(), input, weight, bias), input, weight, bias)
    if on_gpu(check_tensor("linear", "input", input).data):
        return apply(lowered(LinearRelu(), input, weight, bias), input, weight, bias)
    return activation.relu(linear(input, weight, bias))  # which a captured step fuses by itself
