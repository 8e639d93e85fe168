"""Sums, means and extrema."""

from __future__ import annotations

import math
from collections import namedtuple

import numpy as np

from .. import recording
from ..autograd import Operation, apply
from ..kernels import of
from ..tensor import FLOATS, Tensor, check_dim, check_tensor, wrap
from .elementwise import constant
from .precision import raised

Extremum = namedtuple("Extremum", ["values", "indices"])


def axes_of(function: str, dim, ndim: int):
    """dim (None, an int, a tuple or list) as None for all axes or a tuple of axes in [0, ndim)."""
    if dim is None:
        return None
    if not isinstance(dim, (tuple, list)):
        dim = (dim,)
    axes = tuple([check_dim(function, d, ndim) for d in dim])
    if len(set(axes)) < len(axes):
        raise ValueError(f"{function}: dim must not repeat, got {tuple(dim)}")
    return axes if ndim and axes else None


def _kept(shape: tuple, axes) -> tuple:
    if axes is None:
        return (1,) * len(shape)
    return tuple([1 if i in axes else n for i, n in enumerate(shape)])


class Sum(Operation):
    """y = sum of x over axes;  dx = dy, spread out again (a view that repeats dy)."""

    __slots__ = ("axes", "keepdim", "shape")

    def __init__(self, axes, keepdim):
        self.axes, self.keepdim = axes, keepdim

    def forward(self, input):
        self.shape = input.shape
        return of(input).sum(input, self.axes, self.keepdim)

    def backward(self, dy):
        return (np.broadcast_to(dy.reshape(_kept(self.shape, self.axes)), self.shape),)


class Mean(Operation):
    """y = mean of x over axes;  dx = dy / n, spread out again (a view that repeats it)."""

    __slots__ = ("axes", "keepdim", "shape")

    def __init__(self, axes, keepdim):
        self.axes, self.keepdim = axes, keepdim

    def forward(self, input):
        self.shape = input.shape
        return of(input).mean(input, self.axes, self.keepdim)

    def backward(self, dy):
        shape, axes = self.shape, self.axes
        n = math.prod(shape if axes is None else [shape[a] for a in axes])
        dx = of(dy).divide(dy, constant(n, dy.dtype, dy))
        return (np.broadcast_to(dx.reshape(_kept(shape, axes)), shape),)


class _Extreme(Operation):
    """Extremum along one axis: the gradient goes to the element that was taken."""

    __slots__ = ("axis", "keepdim", "shape", "index")
    fresh = True
    kernel = ""

    def __init__(self, axis, keepdim):
        self.axis, self.keepdim = axis, keepdim

    def forward(self, input):
        self.shape = input.shape
        y, self.index = getattr(of(input), self.kernel)(input, self.axis, self.keepdim)
        self.saved = (self.index,)
        return y

    def backward(self, dy):
        return (of(dy).max_backward(dy, self.saved[0], self.shape, self.axis),)


class MaxDim(_Extreme):
    """The largest elements along an axis."""

    __slots__ = ()
    kernel = "max"


class MinDim(_Extreme):
    """The smallest elements along an axis."""

    __slots__ = ()
    kernel = "min"


class _ExtremeAll(Operation):
    """Extremum of all elements: those that equal it share the gradient evenly."""

    __slots__ = ()
    fresh = True
    kernel = ""

    def forward(self, input):
        y, _ = getattr(of(input), self.kernel)(input, None, False)
        self.saved = input, y
        return y

    def backward(self, dy):
        (x, y), k = self.saved, of(dy)
        taken = k.where(k.equal(x, y), constant(1, x.dtype, x), constant(0, x.dtype, x))
        return (k.multiply(taken, k.divide(dy, k.sum(taken, None, False))),)


class Max(_ExtremeAll):
    """The largest of all elements."""

    __slots__ = ()
    kernel = "max"


class Min(_ExtremeAll):
    """The smallest of all elements."""

    __slots__ = ()
    kernel = "min"


def sum(input, dim=None, keepdim: bool = False) -> Tensor:
    """y = sum of input over dim: an int, a tuple of ints, or None for all.

    Sums run in double for floats; integers and bools add up to int64. With keepdim the summed dims stay with size 1.
    Raises TypeError or IndexError for dim, ValueError for one named twice.
    """
    check_tensor("sum", "input", input)
    axes = axes_of("sum", dim, input.data.ndim)
    if input.data.dtype in FLOATS:
        return apply(Sum(axes, keepdim), raised(input))
    recording.outside("sum of integers or bools", input.data)
    return wrap(np.sum(input.data, axes, np.int64, keepdims=keepdim))


def mean(input, dim=None, keepdim: bool = False) -> Tensor:
    """y = mean of a float input over dim; NaN over no elements. dim and keepdim as in `sum`."""
    check_tensor("mean", "input", input)
    if input.data.dtype not in FLOATS:
        raise TypeError(f"mean: input must be float32 or float64, got {input.data.dtype}; convert it with .float()")
    return apply(Mean(axes_of("mean", dim, input.data.ndim), keepdim), input)


def var(input, dim=None, keepdim: bool = False, correction: float = 1) -> Tensor:
    """y = sum of (x - mean)**2 over dim / (n - correction); correction 1 is the unbiased variance, as in torch."""
    check_tensor("var", "input", input)
    centred = input - mean(input, dim, True)
    axes = axes_of("var", dim, input.data.ndim)
    n = math.prod(input.shape if axes is None else [input.shape[a] for a in axes])
    return sum(centred * centred, dim, keepdim) / (n - correction)


def _extremum(name: str, along, of_all, numpy_arg, input, dim, keepdim):
    check_tensor(name, "input", input)
    x = input.data
    recording.keep(x)
    if dim is None:
        if x.size == 0:
            raise ValueError(f"{name}: input must have at least one element, got shape {x.shape}")
        if x.dtype in FLOATS:
            return apply(of_all(), input)
        return wrap(x.reshape(-1)[numpy_arg(x)])
    axis = check_dim(name, dim, x.ndim)
    if x.ndim == 0:
        return Extremum(input.view(()), wrap(np.zeros((), np.int64, like=x)))
    if x.shape[axis] == 0:
        raise ValueError(f"{name}: input must have at least one element along dim {axis}, got shape {x.shape}")
    if x.dtype in FLOATS:
        op = along(axis, bool(keepdim))
        values, indices = apply(op, input), wrap(op.index)
        if values._requires:  # backward reads the indices, which the caller gets too
            op.watched.append((indices._counter, 0, -1, op.index))
        return Extremum(values, indices)
    index = np.expand_dims(numpy_arg(x, axis), axis)
    values = np.take_along_axis(x, index, axis)
    kept = (lambda a: a) if keepdim else (lambda a: a.squeeze(axis))
    return Extremum(wrap(kept(values)), wrap(kept(index)))


def max(input, dim=None, keepdim: bool = False):
    """The largest element of all, or with dim the named tuple (values, indices) along it.

    Equal elements share the gradient when dim is None; along a dim the first takes it all. `max(input,
    other)` with two Tensors is `maximum`. Raises ValueError where there is no element.
    """
    if isinstance(dim, Tensor):
        from .elementwise import maximum

        return maximum(input, dim)
    return _extremum("max", MaxDim, Max, np.argmax, input, dim, keepdim)


def min(input, dim=None, keepdim: bool = False):
    """The smallest element of all, or with dim the named tuple (values, indices); otherwise as `max`."""
    if isinstance(dim, Tensor):
        from .elementwise import minimum

        return minimum(input, dim)
    return _extremum("min", MinDim, Min, np.argmin, input, dim, keepdim)


def _position(name: str, function, input, dim, keepdim) -> Tensor:
    check_tensor(name, "input", input)
    x = input.data
    recording.keep(x)
    axis = None if dim is None else check_dim(name, dim, x.ndim)
    if axis is not None and x.ndim == 0:
        return wrap(np.zeros((), np.int64, like=x))
    if (x.size if axis is None else x.shape[axis]) == 0:
        raise ValueError(f"{name}: input must have at least one element, got shape {x.shape}")
    index = getattr(of(x), name)(x, axis) if x.dtype in FLOATS else function(x, axis).astype(np.int64)
    if keepdim:
        index = index.reshape(_kept(x.shape, None if axis is None else (axis,)))
    return wrap(index)


def argmax(input, dim=None, keepdim: bool = False) -> Tensor:
    """Index of the largest element (the first among equals) along dim, or in C order for None; int64."""
    return _position("argmax", np.argmax, input, dim, keepdim)


def argmin(input, dim=None, keepdim: bool = False) -> Tensor:
    """Index of the smallest element (the first among equals) along dim, or in C order for None; int64."""
    return _position("argmin", np.argmin, input, dim, keepdim)
