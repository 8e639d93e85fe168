"""Element-wise arithmetic, comparisons and in-place updates.

All float operands of a call are float32 or float64 and share the dtype; beside an array of bfloat16, `add`,
`subtract`, `multiply` and `divide` take a number in float32 (0-d), which is not rounded before the result is. Binary
operations broadcast as NumPy does; the result is a new array. Division by zero, logarithms of negatives and overflow
give inf or NaN without a warning, as in PyTorch. Errors: TypeError for an operand that is not such an array,
ValueError for shapes that don't broadcast.
"""

from __future__ import annotations

import math

import numpy as np

from . import _check as check

__all__ = [
    "add", "subtract", "multiply", "divide", "power", "maximum", "minimum",
    "equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "where",
    "negative", "exp", "log", "sqrt", "absolute", "sign", "clip", "accumulate",
    "scale",
]  # fmt: skip


def _operands(kernel: str, a, b) -> None:
    check.array(kernel, "a", a)
    check.array(kernel, "b", b)
    check.like(kernel, "b", b, "a", a)
    try:
        np.broadcast_shapes(a.shape, b.shape)
    except ValueError:
        raise ValueError(f"{kernel}: b must broadcast with a, got shape {b.shape}, a {a.shape}") from None


def _binary(kernel: str, function, a, b) -> np.ndarray:
    _operands(kernel, a, b)
    with np.errstate(all="ignore"):
        return np.asarray(function(a, b))


def _unary(kernel: str, function, x) -> np.ndarray:
    check.array(kernel, "x", x)
    with np.errstate(all="ignore"):
        return np.asarray(function(x))


def add(a, b):
    """y = a + b."""
    return _binary("add", np.add, a, b)


def subtract(a, b):
    """y = a - b."""
    return _binary("subtract", np.subtract, a, b)


def multiply(a, b):
    """y = a * b."""
    return _binary("multiply", np.multiply, a, b)


def divide(a, b):
    """y = a / b; x / 0 is inf with the sign of x, 0 / 0 is NaN."""
    return _binary("divide", np.divide, a, b)


def power(a, b):
    """y = a ** b; a negative base with a fractional exponent is NaN, anything ** 0 is 1."""
    return _binary("power", np.power, a, b)


def maximum(a, b):
    """y = the larger of a and b; NaN if either is NaN."""
    return _binary("maximum", np.maximum, a, b)


def minimum(a, b):
    """y = the smaller of a and b; NaN if either is NaN."""
    return _binary("minimum", np.minimum, a, b)


def equal(a, b):
    """y = a == b as bool; NaN equals nothing."""
    return _binary("equal", np.equal, a, b)


def not_equal(a, b):
    """y = a != b as bool; NaN differs from everything."""
    return _binary("not_equal", np.not_equal, a, b)


def less(a, b):
    """y = a < b as bool; False where either is NaN."""
    return _binary("less", np.less, a, b)


def less_equal(a, b):
    """y = a <= b as bool; False where either is NaN."""
    return _binary("less_equal", np.less_equal, a, b)


def greater(a, b):
    """y = a > b as bool; False where either is NaN."""
    return _binary("greater", np.greater, a, b)


def greater_equal(a, b):
    """y = a >= b as bool; False where either is NaN."""
    return _binary("greater_equal", np.greater_equal, a, b)


def where(condition, a, b):
    """y = a where condition, else b.  condition bool; the three shapes broadcast together."""
    if not isinstance(condition, np.ndarray):
        raise TypeError(f"where: condition must be a NumPy array, got {check.type_name(condition)}")
    if condition.dtype != np.bool_:
        raise TypeError(f"where: condition must be bool, got {condition.dtype}")
    _operands("where", a, b)
    try:
        np.broadcast_shapes(condition.shape, a.shape, b.shape)
    except ValueError:
        shapes = f"got shape {condition.shape}, a {a.shape}, b {b.shape}"
        raise ValueError(f"where: condition must broadcast with a and b, {shapes}") from None
    return np.where(condition, a, b)


def negative(x):
    """y = -x."""
    return _unary("negative", np.negative, x)


def exp(x):
    """y = e ** x; inf beyond the dtype's range."""
    return _unary("exp", np.exp, x)


def log(x):
    """y = natural logarithm of x; -inf at 0, NaN below."""
    return _unary("log", np.log, x)


def sqrt(x):
    """y = square root of x; NaN below 0."""
    return _unary("sqrt", np.sqrt, x)


def absolute(x):
    """y = |x|."""
    return _unary("absolute", np.absolute, x)


def sign(x):
    """y = -1, 0 or 1 with the sign of x; NaN stays NaN."""
    return _unary("sign", np.sign, x)


def clip(x, low, high):
    """y = min(max(x, low), high); NaN stays NaN, and where low > high the result is high.

    low, high: numbers, not NaN, or None for no bound; not both None (ValueError).
    """
    check.array("clip", "x", x)
    if low is None and high is None:
        raise ValueError("clip: low must be a number when high is None, got None")
    for name, bound in (("low", low), ("high", high)):
        if bound is not None and math.isnan(bound):
            raise ValueError(f"clip: {name} must be a number, got nan")
    y = x
    if low is not None:
        y = np.maximum(y, x.dtype.type(low))
    if high is not None:
        y = np.minimum(y, x.dtype.type(high))
    return np.asarray(y)


def accumulate(out, x):
    """out += x, in place; x has the shape and dtype of out, which must be writeable.  Returns None."""
    check.array("accumulate", "out", out)
    check.array("accumulate", "x", x)
    check.like("accumulate", "x", x, "out", out)
    check.shape("accumulate", "x", x, out.shape)
    check.writeable("accumulate", "out", out)
    with np.errstate(all="ignore"):
        out += x


def scale(x, factor):
    """x *= factor, in place; factor is a number or a 0-d float64 array, rounded to the dtype of x, which must be
    writeable.  Returns None.
    """
    check.array("scale", "x", x)
    check.writeable("scale", "x", x)
    with np.errstate(all="ignore"):
        x *= x.dtype.type(factor)
