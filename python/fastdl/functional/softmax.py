"""Softmax and log-softmax."""

from __future__ import annotations

from ..autograd import Operation, apply
from ..kernels import of
from ..tensor import Tensor, check_dim, check_tensor
from .copy import cast
from .precision import raised


class Softmax(Operation):
    """y = exp(x) / sum(exp(x)) along an axis."""

    __slots__ = ("axis",)
    fresh = True

    def __init__(self, axis):
        self.axis = axis

    def forward(self, input):
        y = of(input).softmax_forward(input, self.axis)
        self.saved = (y,)
        return y

    def backward(self, dy):
        return (of(dy).softmax_backward(dy, self.saved[0], self.axis),)


class LogSoftmax(Operation):
    """y = x - log(sum(exp(x))) along an axis."""

    __slots__ = ("axis",)
    fresh = True

    def __init__(self, axis):
        self.axis = axis

    def forward(self, input):
        y = of(input).log_softmax_forward(input, self.axis)
        self.saved = (y,)
        return y

    def backward(self, dy):
        return (of(dy).log_softmax_backward(dy, self.saved[0], self.axis),)


def _along(function: str, operation, input, dim, dtype) -> Tensor:
    check_tensor(function, "input", input)
    axis = check_dim(function, dim, input.data.ndim)
    return apply(operation(axis), raised(input) if dtype is None else cast(input, dtype))


def softmax(input, dim: int, dtype=None) -> Tensor:
    """y = exp(input) / sum(exp(input)) along dim, without overflow. dtype converts the input first.

    Raises TypeError for other than a float Tensor, IndexError for dim.
    """
    return _along("softmax", Softmax, input, dim, dtype)


def log_softmax(input, dim: int, dtype=None) -> Tensor:
    """y = input - log(sum(exp(input))) along dim; arguments as in `softmax`."""
    return _along("log_softmax", LogSoftmax, input, dim, dtype)
