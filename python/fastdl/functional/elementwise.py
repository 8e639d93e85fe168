"""Element-wise arithmetic and comparisons, with broadcasting (`pointwise` has the functions of one tensor).

Two float tensors must share their dtype; a Python number takes the dtype of the tensor it meets (in + - * / beside
bfloat16: float32, so that only the result is rounded, as PyTorch has it on a GPU), and an integer or bool tensor is
converted to the float tensor's dtype. Arithmetic among integers and bools has no gradient and is NumPy's.
"""

from __future__ import annotations

import builtins
import numbers

import numpy as np

from .. import kernels, recording
from ..autograd import Operation, apply
from ..kernels import of
from ..tensor import FLOATS, Tensor, wrap
from .precision import mode, raised

NUMBERS = (int, float, np.bool_, numbers.Real)  # the usual ones first: an abstract class takes longer to ask
WHOLE = (int, np.integer, np.bool_)  # bool is an int
_WIDE_NUMBERS = ("add", "sub", "mul", "div")  # take a number in float32 beside bfloat16


def constant(value, dtype, like):
    """A 0-d array where the array `like` lies; not to be written to."""
    return np.array(value, dtype) if type(like) is np.ndarray else of(like).constant(value, dtype)


def number_as(function: str, name: str, value, dtype: np.dtype) -> np.ndarray:
    """A number as a NumPy scalar; ValueError where an integer dtype can't hold it (NumPy before 2 wraps it round)."""
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        if not limits.min <= value <= limits.max:
            raise ValueError(f"{function}: {name} must be in the range of {dtype}, got {value}")
    return np.array(value, dtype)[()]


def fit(grad: np.ndarray, shape: tuple) -> np.ndarray:
    """The gradient of an operand that was broadcast from `shape`."""
    return grad if grad.shape == shape else of(grad).sum_to(grad, shape)


def operands(function: str, a, b) -> tuple:
    """Both operands as Tensors of one float dtype, or both of integers and bools.

    Raises TypeError for another kind of operand, and for float32 with float64.
    """
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        if a.data.dtype == b.data.dtype:
            return a, b
        return _match(function, a, b)
    if isinstance(b, NUMBERS) and isinstance(a, Tensor):
        return _with_number(function, a, b, "other")
    if isinstance(a, NUMBERS) and isinstance(b, Tensor):
        b, a = _with_number(function, b, a, "input")
        return a, b
    return operands(function, as_operand(function, "input", a), as_operand(function, "other", b))


def as_operand(function: str, name: str, value) -> Tensor:
    """A Tensor, or an array as one."""
    if isinstance(value, Tensor):
        return value
    if kernels.is_array(value):
        return Tensor(value)
    raise TypeError(f"{function}: {name} must be a Tensor or a number, got {type(value).__name__}")


def _with_number(function: str, t: Tensor, number, name: str) -> tuple:
    dtype = t.data.dtype
    if dtype in FLOATS:
        wide = dtype is kernels.bfloat16 and function in _WIDE_NUMBERS
        return t, wrap(constant(number, np.float32 if wide else dtype, t.data))
    recording.keep(t.data)
    if not isinstance(number, WHOLE):
        return wrap(t.data.astype(np.float32)), wrap(constant(number, np.float32, t.data))
    if dtype.kind == "b" and not isinstance(number, (builtins.bool, np.bool_)):
        return wrap(t.data.astype(np.int64)), wrap(constant(number, np.int64, t.data))
    return t, wrap(constant(number_as(function, name, number, dtype), dtype, t.data))


def _match(function: str, a: Tensor, b: Tensor) -> tuple:
    one, two = a.data.dtype in FLOATS, b.data.dtype in FLOATS
    if one and two:
        if mode.where is not None and kernels.bfloat16 in (a.data.dtype, b.data.dtype):
            return raised(a, b)
        raise TypeError(
            f"{function}: other must be {a.data.dtype} like input, got {b.data.dtype}; convert one of them with .to()"
        )
    if one or two:
        recording.outside(f"{function} of floats with integers or bools", b.data if one else a.data)
    if one:
        return a, wrap(b.data.astype(a.data.dtype))
    if two:
        return wrap(a.data.astype(b.data.dtype)), b
    return a, b


class Add(Operation):
    """y = a + b."""

    __slots__ = ("shapes",)

    def forward(self, input, other):
        self.shapes = input.shape, other.shape
        return of(input, other).add(input, other)

    def backward(self, dy):
        need, shapes = self.need, self.shapes
        return fit(dy, shapes[0]) if need[0] else None, fit(dy, shapes[1]) if need[1] else None


class Sub(Operation):
    """y = a - b."""

    __slots__ = ("shapes",)

    def forward(self, input, other):
        self.shapes = input.shape, other.shape
        return of(input, other).subtract(input, other)

    def backward(self, dy):
        need, shapes = self.need, self.shapes
        db = of(dy).negative(fit(dy, shapes[1])) if need[1] else None
        return fit(dy, shapes[0]) if need[0] else None, db


class Mul(Operation):
    """y = a b;  da = dy b,  db = dy a."""

    __slots__ = ("shapes",)
    fresh = True

    def forward(self, input, other):
        need = self.need
        self.shapes = input.shape, other.shape
        self.saved = input if need[1] else None, other if need[0] else None
        return of(input, other).multiply(input, other)

    def backward(self, dy):
        (a, b), need, shapes, k = self.saved, self.need, self.shapes, of(dy)
        da = fit(k.multiply(dy, b), shapes[0]) if need[0] else None
        return da, fit(k.multiply(dy, a), shapes[1]) if need[1] else None


class Div(Operation):
    """y = a / b;  da = dy / b,  db = -dy y / b."""

    __slots__ = ("shapes",)
    fresh = True

    def forward(self, input, other):
        y = of(input, other).divide(input, other)
        self.shapes = input.shape, other.shape
        self.saved = other, y if self.need[1] else None
        return y

    def backward(self, dy):
        (b, y), need, shapes, k = self.saved, self.need, self.shapes, of(dy)
        da = k.divide(dy, b)
        db = fit(k.negative(k.multiply(da, y)), shapes[1]) if need[1] else None
        return fit(da, shapes[0]) if need[0] else None, db


class Pow(Operation):
    """y = a ** b;  da = dy b a ** (b - 1), 0 where b is 0;  db = dy y log(a), 0 where a is 0 and b is not below 0."""

    __slots__ = ("shapes",)
    fresh = True

    def forward(self, input, exponent):
        y = of(input, exponent).power(input, exponent)
        self.shapes = input.shape, exponent.shape
        self.saved = input, exponent, y if self.need[1] else None
        return y

    def backward(self, dy):
        (a, b, y), need, shapes, k = self.saved, self.need, self.shapes, of(dy)
        zero, one = constant(0, dy.dtype, dy), constant(1, dy.dtype, dy)
        da = db = None
        if need[0]:
            lower = k.where(k.equal(b, zero), one, k.subtract(b, one))
            da = fit(k.multiply(dy, k.multiply(b, k.power(a, lower))), shapes[0])
        if need[1]:
            slope = k.multiply(y, k.log(a))
            # Where a is 0, y log(a) is 0 * -inf; its limit is 0 for b > 0, and torch says 0 for b = 0 too.
            slope = k.where(k.equal(a, zero), k.where(k.less(b, zero), slope, zero), slope)
            db = fit(k.multiply(dy, slope), shapes[1])
        return da, db


class _Extremum(Operation):
    """The gradient goes to the operand that was taken; equal operands share it half and half."""

    __slots__ = ("shapes",)
    fresh = True
    kernel = wins = ""

    def forward(self, input, other):
        self.shapes = input.shape, other.shape
        self.saved = input, other
        return getattr(of(input, other), self.kernel)(input, other)

    def backward(self, dy):
        (a, b), need, shapes, k = self.saved, self.need, self.shapes, of(dy)
        zero, wins = constant(0, dy.dtype, dy), getattr(k, self.wins)
        shared = k.where(k.equal(a, b), k.multiply(dy, constant(0.5, dy.dtype, dy)), zero)
        da = fit(k.where(wins(a, b), dy, shared), shapes[0]) if need[0] else None
        return da, fit(k.where(wins(b, a), dy, shared), shapes[1]) if need[1] else None


class Maximum(_Extremum):
    """y = the larger of a and b."""

    __slots__ = ()
    kernel, wins = "maximum", "greater"


class Minimum(_Extremum):
    """y = the smaller of a and b."""

    __slots__ = ()
    kernel, wins = "minimum", "less"


_DOC = """y = {}, with broadcasting; one of the operands may be a number.

    Raises TypeError for other operands or different float dtypes, ValueError for shapes that don't broadcast.
    """


def _binary(name: str, operation, function, formula: str):
    def call(input, other):
        a, b = operands(name, input, other)
        if a.data.dtype in FLOATS:
            return apply(operation(), a, b)
        return wrap(_broadcast(name, function, a.data, b.data))

    call.__name__ = call.__qualname__ = name
    call.__doc__ = _DOC.format(formula)
    return call


def together(function: str, **arrays) -> None:
    """Raise TypeError unless the arrays all lie in the host's memory or all on the GPU; kernels check it themselves."""
    recording.keep(*arrays.values())
    first, *others = arrays
    there = kernels.on_gpu(arrays[first])
    for name in others:
        if kernels.on_gpu(arrays[name]) != there:
            here, move = ("on the GPU", "to('cuda')") if there else ("in the host's memory", "cpu()")
            raise TypeError(f"{function}: {name} must lie {here} like {first}; move it with .{move}")


def _broadcast(name: str, function, a, b):
    recording.outside(f"{name} of integers or bools", a, b)
    together(name, input=a, other=b)
    try:
        with np.errstate(all="ignore"):
            return function(a, b)
    except ValueError as error:
        if a.shape != b.shape and "broadcast" in str(error):
            raise ValueError(f"{name}: b must broadcast with a, got shape {b.shape}, a {a.shape}") from None
        raise


add = _binary("add", Add, np.add, "input + other")
sub = _binary("sub", Sub, np.subtract, "input - other")
mul = _binary("mul", Mul, np.multiply, "input * other")
maximum = _binary("maximum", Maximum, np.maximum, "the larger of input and other")
minimum = _binary("minimum", Minimum, np.minimum, "the smaller of input and other")


def div(input, other) -> Tensor:
    """y = input / other, with broadcasting; integers give float32, as in torch.

    Raises TypeError for other operands or different float dtypes, ValueError for shapes that don't broadcast.
    """
    a, b = operands("div", input, other)
    if a.data.dtype not in FLOATS:
        recording.keep(a.data, b.data)
        a, b = wrap(a.data.astype(np.float32)), wrap(b.data.astype(np.float32))
    return apply(Div(), a, b)


def floor_divide(input, other) -> Tensor:
    """y = floor(input / other), without a gradient; NumPy's rules, except that integers must not be divided by 0."""
    return _ungraded("floor_divide", np.floor_divide, input, other)


def remainder(input, other) -> Tensor:
    """y = input - other * floor(input / other), without a gradient; integers must not be divided by 0."""
    return _ungraded("remainder", np.remainder, input, other)


def _ungraded(name: str, function, input, other) -> Tensor:
    a, b = operands(name, input, other)
    if b.data.dtype.kind in "iub":
        if not np.all(b.data):
            raise ZeroDivisionError(f"{name}: other must not be 0 for integers")
    elif kernels.on_gpu(b.data):
        return wrap(_broadcast(name, lambda a, b: _divmod(a, b)[function is np.remainder], a.data, b.data))
    return wrap(_broadcast(name, function, a.data, b.data))


def _divmod(a, b) -> tuple:
    """(a // b, a % b) of floats by NumPy's rules; CuPy's quotient is floor(a / b), which for 1 // 0.1 is 10."""
    rest = np.fmod(a, b)
    quotient = (a - rest) / b
    across = (rest != 0) & ((b < 0) != (rest < 0))
    rest, quotient = np.where(across, rest + b, rest), quotient - across
    whole = np.floor(quotient)
    whole = np.where(quotient != 0, whole + (quotient - whole > 0.5), np.copysign(0 * a, a / b))
    return np.where(b == 0, a / b, whole).astype(a.dtype), np.where(rest == 0, np.copysign(0 * rest, b), rest)


def pow(input, exponent) -> Tensor:
    """y = input ** exponent, with broadcasting; either may be a number.

    Raises TypeError for other operands or different float dtypes, ValueError for shapes that don't broadcast
    and for integers with a negative exponent.
    """
    if not isinstance(exponent, NUMBERS):
        exponent = as_operand("pow", "exponent", exponent)
    a, b = operands("pow", input, exponent)
    if a.data.dtype in FLOATS:
        return apply(Pow(), *raised(a, b))
    if kernels.on_gpu(b.data) and (b.data < 0).any():  # for which CuPy has numbers
        raise ValueError("pow: exponent must not be negative for integers")
    return wrap(_broadcast("pow", np.power, a.data, b.data))


def _comparison(name: str, kernel: str, function, symbol: str):
    def call(input, other):
        a, b = operands(name, input, other)
        a, b = a.data, b.data
        return wrap(getattr(of(a, b), kernel)(a, b) if a.dtype in FLOATS else _broadcast(name, function, a, b))

    call.__name__ = call.__qualname__ = name
    call.__doc__ = _DOC.format(f"input {symbol} other as a bool Tensor")
    return call


eq = _comparison("eq", "equal", np.equal, "==")
ne = _comparison("ne", "not_equal", np.not_equal, "!=")
lt = _comparison("lt", "less", np.less, "<")
le = _comparison("le", "less_equal", np.less_equal, "<=")
gt = _comparison("gt", "greater", np.greater, ">")
ge = _comparison("ge", "greater_equal", np.greater_equal, ">=")
