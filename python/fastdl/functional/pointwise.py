"""Element-wise functions of one tensor, and choosing between two; also of the elementwise kernel family."""

from __future__ import annotations

import math

import numpy as np

from .. import recording
from ..autograd import Operation, apply
from ..kernels import of
from ..tensor import FLOATS, Tensor, check_tensor, wrap
from .elementwise import NUMBERS, WHOLE, constant, fit, mul, operands, together
from .precision import raised


class Neg(Operation):
    """y = -x."""

    __slots__ = ()
    fresh = True

    def forward(self, input):
        return of(input).negative(input)

    def backward(self, dy):
        return (of(dy).negative(dy),)


class Exp(Operation):
    """y = exp(x);  dx = dy y."""

    __slots__ = ()
    fresh = True

    def forward(self, input):
        y = of(input).exp(input)
        self.saved = (y,)
        return y

    def backward(self, dy):
        return (of(dy).multiply(dy, self.saved[0]),)


class Log(Operation):
    """y = log(x);  dx = dy / x."""

    __slots__ = ()
    fresh = True

    def forward(self, input):
        self.saved = (input,)
        return of(input).log(input)

    def backward(self, dy):
        return (of(dy).divide(dy, self.saved[0]),)


class Sqrt(Operation):
    """y = sqrt(x);  dx = dy / (2 y)."""

    __slots__ = ()
    fresh = True

    def forward(self, input):
        y = of(input).sqrt(input)
        self.saved = (y,)
        return y

    def backward(self, dy):
        k = of(dy)
        return (k.divide(dy, k.multiply(self.saved[0], constant(2, dy.dtype, dy))),)


class Abs(Operation):
    """y = |x|;  dx = dy sign(x)."""

    __slots__ = ()
    fresh = True

    def forward(self, input):
        self.saved = (input,)
        return of(input).absolute(input)

    def backward(self, dy):
        k = of(dy)
        return (k.multiply(dy, k.sign(self.saved[0])),)


class Clamp(Operation):
    """y = min(max(x, low), high);  dx = dy where low <= x <= high, else 0."""

    __slots__ = ("low", "high")
    fresh = True

    def __init__(self, low, high):
        self.low, self.high = low, high

    def forward(self, input):
        self.saved = (input,)
        return of(input).clip(input, self.low, self.high)

    def backward(self, dy):
        (x,), k = self.saved, of(dy)
        zero, dx = constant(0, dy.dtype, dy), dy
        if self.low is not None:
            dx = k.where(k.greater_equal(x, constant(self.low, x.dtype, x)), dx, zero)
        if self.high is not None:
            dx = k.where(k.less_equal(x, constant(self.high, x.dtype, x)), dx, zero)
        return (dx,)


class Where(Operation):
    """y = a where the condition holds, else b."""

    __slots__ = ("shapes",)
    fresh = True

    def forward(self, condition, input, other):
        self.shapes = input.shape, other.shape
        self.saved = (condition,)
        return of(input, other).where(condition, input, other)

    def backward(self, dy):
        (condition,), need, shapes, k = self.saved, self.need, self.shapes, of(dy)
        zero = constant(0, dy.dtype, dy)
        da = fit(k.where(condition, dy, zero), shapes[0]) if need[1] else None
        return None, da, fit(k.where(condition, zero, dy), shapes[1]) if need[2] else None


def floating(function: str, input) -> Tensor:
    """input as a float Tensor: integers and bools become float32, as torch does for exp, log, sqrt and their like."""
    check_tensor(function, "input", input)
    if input.data.dtype in FLOATS:
        return input
    recording.keep(input.data)
    return wrap(input.data.astype(np.float32))


def neg(input) -> Tensor:
    """y = -input."""
    check_tensor("neg", "input", input)
    if input.data.dtype in FLOATS:
        return apply(Neg(), input)
    if input.data.dtype.kind == "b":
        raise TypeError("neg: input must be a number type, got bool")
    recording.keep(input.data)
    return wrap(np.negative(input.data))


def exp(input) -> Tensor:
    """y = e ** input; inf where it overflows."""
    return apply(Exp(), raised(floating("exp", input)))


def log(input) -> Tensor:
    """y = natural logarithm of input; -inf at 0, NaN below."""
    return apply(Log(), raised(floating("log", input)))


def sqrt(input) -> Tensor:
    """y = square root of input; NaN below 0."""
    return apply(Sqrt(), floating("sqrt", input))


def square(input) -> Tensor:
    """y = input * input."""
    return mul(input, input)


def abs(input) -> Tensor:
    """y = |input|; the gradient at 0 is 0."""
    check_tensor("abs", "input", input)
    if input.data.dtype in FLOATS:
        return apply(Abs(), input)
    recording.keep(input.data)
    return wrap(np.abs(input.data))


def clamp(input, min=None, max=None) -> Tensor:
    """y = the input held within [min, max]; the gradient is 0 outside.

    Args:
        input: a float Tensor.
        min, max: numbers, or None for no bound; at least one is given. Where min > max the result is max.

    Raises TypeError or ValueError for other bounds, NaN or none.
    """
    check_tensor("clamp", "input", input)
    if min is None and max is None:
        raise ValueError("clamp: min or max must be given, got None for both")
    for name, bound in (("min", min), ("max", max)):
        if bound is None:
            continue
        if not isinstance(bound, NUMBERS):
            raise TypeError(f"clamp: {name} must be a number or None, got {type(bound).__name__}")
        if math.isnan(bound):
            raise ValueError(f"clamp: {name} must be a number, got nan")
    if input.data.dtype not in FLOATS:
        recording.keep(input.data)
        return wrap(np.clip(input.data, min, max))
    return apply(Clamp(*[None if bound is None else float(bound) for bound in (min, max)]), input)


def where(condition, input, other) -> Tensor:
    """y = input where condition, else other, with broadcasting.

    Args:
        condition: a bool Tensor.
        input, other: Tensors of one dtype, or one of them a number.

    Raises TypeError for a condition that is not bool or other operands, ValueError for shapes that don't broadcast.
    """
    check_tensor("where", "condition", condition)
    if condition.data.dtype.kind != "b":
        raise TypeError(f"where: condition must be bool, got {condition.data.dtype}")
    if isinstance(input, NUMBERS) and isinstance(other, NUMBERS):
        dtype = np.int64 if isinstance(input, WHOLE) and isinstance(other, WHOLE) else np.float32
        input = wrap(constant(input, dtype, condition.data))
    a, b = operands("where", input, other)
    if a.data.dtype in FLOATS:
        return apply(Where(), condition, a, b)
    together("where", condition=condition.data, input=a.data, other=b.data)
    return wrap(np.where(condition.data, a.data, b.data))


def masked_fill(input, mask, value) -> Tensor:
    """A copy of input with `value` (a number) where the bool Tensor mask holds; mask broadcasts to input."""
    check_tensor("masked_fill", "input", input)
    check_tensor("masked_fill", "mask", mask)
    return where(mask, value, input)
