"""Activations, element by element. Backward reads the output where that is enough, else the input."""

from __future__ import annotations

from ..autograd import Operation, apply
from ..kernels import of
from ..tensor import Tensor
from ._arguments import number


class Relu(Operation):
    """y = max(x, 0)."""

    __slots__ = ("gated",)
    fresh = relu = True

    def forward(self, input):
        y = of(input).relu_forward(input)
        self.saved, self.gated = (y,), False
        return y

    def backward(self, dy):
        return (let_through(self, dy, self.saved[0]),)


def let_through(op, dy, y):
    """What the ReLU at the end of an operation, which made y, lets through of dy."""
    if op.gated:
        op.gated = False
        return dy
    return of(dy).relu_backward(dy, y)


class Sigmoid(Operation):
    """y = 1 / (1 + exp(-x))."""

    __slots__ = ()
    fresh = True

    def forward(self, input):
        y = of(input).sigmoid_forward(input)
        self.saved = (y,)
        return y

    def backward(self, dy):
        return (of(dy).sigmoid_backward(dy, self.saved[0]),)


class Tanh(Operation):
    """y = tanh(x)."""

    __slots__ = ()
    fresh = True

    def forward(self, input):
        y = of(input).tanh_forward(input)
        self.saved = (y,)
        return y

    def backward(self, dy):
        return (of(dy).tanh_backward(dy, self.saved[0]),)


class LeakyRelu(Operation):
    """y = x where x > 0, else negative_slope x."""

    __slots__ = ("negative_slope",)
    fresh = True

    def __init__(self, negative_slope):
        self.negative_slope = negative_slope

    def forward(self, input):
        self.saved = (input,)
        return of(input).leaky_relu_forward(input, self.negative_slope)

    def backward(self, dy):
        return (of(dy).leaky_relu_backward(dy, self.saved[0], self.negative_slope),)


class Softplus(Operation):
    """y = log(1 + exp(beta x)) / beta."""

    __slots__ = ("beta", "threshold")
    fresh = True

    def __init__(self, beta, threshold):
        self.beta, self.threshold = beta, threshold

    def forward(self, input):
        self.saved = (input,)
        return of(input).softplus_forward(input, self.beta, self.threshold)

    def backward(self, dy):
        return (of(dy).softplus_backward(dy, self.saved[0], self.beta, self.threshold),)


class Elu(Operation):
    """y = x where x > 0, else alpha (exp(x) - 1)."""

    __slots__ = ("alpha",)
    fresh = True

    def __init__(self, alpha):
        self.alpha = alpha

    def forward(self, input):
        self.saved = (input,)
        return of(input).elu_forward(input, self.alpha)

    def backward(self, dy):
        return (of(dy).elu_backward(dy, self.saved[0], self.alpha),)


class Gelu(Operation):
    """y = x P(x), P the normal distribution."""

    __slots__ = ("approximate",)
    fresh = True

    def __init__(self, approximate):
        self.approximate = approximate

    def forward(self, input):
        self.saved = (input,)
        return of(input).gelu_forward(input, self.approximate)

    def backward(self, dy):
        return (of(dy).gelu_backward(dy, self.saved[0], self.approximate),)


def _result(input, y: Tensor, inplace: bool, name: str) -> Tensor:
    if not inplace:
        return y
    from .inplace import _store

    return _store(name, input, y)


def relu(input, inplace: bool = False) -> Tensor:
    """y = max(input, 0); the gradient at 0 is 0. inplace writes the result into input as well."""
    return _result(input, apply(Relu(), input), inplace, "relu")


def leaky_relu(input, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """y = input where it is positive, else negative_slope * input."""
    op = LeakyRelu(number("leaky_relu", "negative_slope", negative_slope))
    return _result(input, apply(op, input), inplace, "leaky_relu")


def sigmoid(input) -> Tensor:
    """y = 1 / (1 + exp(-input))."""
    return apply(Sigmoid(), input)


def tanh(input) -> Tensor:
    """y = tanh(input)."""
    return apply(Tanh(), input)


def softplus(input, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """y = log(1 + exp(beta * input)) / beta, and input itself where beta * input > threshold; beta is positive."""
    return apply(Softplus(number("softplus", "beta", beta), number("softplus", "threshold", threshold)), input)


def elu(input, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """y = input where it is positive, else alpha * (exp(input) - 1)."""
    return _result(input, apply(Elu(number("elu", "alpha", alpha)), input), inplace, "elu")


def gelu(input, approximate: str = "none") -> Tensor:
    """y = input * P(input), P the normal distribution; approximate "tanh" replaces P by its tanh formula.

    Source: Hendrycks and Gimpel 2016, section 2.
    """
    return apply(Gelu(approximate), input)
