"""Reductions: sums, means, extrema and their gradients.

x is float32 or float64 of any shape. `axes` is a tuple of axes (negative ones count from the end) or None for
all; `axis` is one axis or None. Sums are accumulated in double and rounded once. Among equal extrema the
first wins, and a NaN wins over every number (PyTorch, NumPy). Errors: TypeError for the kind or dtype of an
array, ValueError for an axis out of range or named twice, and for an extremum over no elements.
"""

from __future__ import annotations

import builtins

import numpy as np

from . import _check as check

__all__ = ["sum", "mean", "max", "min", "argmax", "argmin", "sum_to", "sum_squares", "max_backward"]


def _axes(kernel: str, axes, ndim: int) -> tuple:
    if axes is None:
        return tuple(range(ndim))
    found = tuple(check.axis(kernel, "axes", a, ndim) for a in axes)
    if len(set(found)) < len(found):
        raise ValueError(f"{kernel}: axes must not repeat, got {tuple(axes)}")
    return found


def sum(x, axes, keepdims):
    """y = sum of x over axes; 0 over no elements.  With keepdims the reduced axes stay with size 1."""
    check.array("sum", "x", x)
    axes = _axes("sum", axes, x.ndim)
    with np.errstate(all="ignore"):
        return np.asarray(np.sum(x, axes, np.float64, keepdims=keepdims)).astype(x.dtype)


def mean(x, axes, keepdims):
    """y = sum of x over axes / number of elements summed; NaN over no elements.  keepdims as in `sum`."""
    check.array("mean", "x", x)
    axes = _axes("mean", axes, x.ndim)
    count = np.float64(np.prod([x.shape[a] for a in axes], dtype=np.int64))
    with np.errstate(all="ignore"):
        return np.asarray(np.sum(x, axes, np.float64, keepdims=keepdims) / count).astype(x.dtype)


def _positions(kernel: str, argument, x, axis) -> np.ndarray:
    """Indices of the extrema, the reduced axis kept with size 1 (all axes for None)."""
    check.array(kernel, "x", x)
    if axis is not None:
        axis = check.axis(kernel, "axis", axis, x.ndim)
    if (x.size if axis is None else x.shape[axis]) == 0:
        place = "" if axis is None else f" along axis {axis}"
        raise ValueError(f"{kernel}: x must have at least one element{place}, got shape {x.shape}")
    if axis is None:
        return np.full((1,) * x.ndim, argument(x), np.int64)
    return np.expand_dims(argument(x, axis), axis).astype(np.int64, copy=False)


def _extremum(kernel: str, argument, x, axis, keepdims) -> tuple:
    index = _positions(kernel, argument, x, axis)
    values = x.reshape(-1)[index] if axis is None else np.take_along_axis(x, index, axis)
    if keepdims:
        return np.asarray(values), index
    kept = tuple(range(x.ndim)) if axis is None else axis
    return np.asarray(values.squeeze(kept)), np.asarray(index.squeeze(kept))


def max(x, axis, keepdims):
    """(values, index): the largest elements along axis and where they are, int64.

    axis None: the largest element of all and its index in C order.  values and index have the shape of x
    without the axis, or with size 1 there (keepdims).
    """
    return _extremum("max", np.argmax, x, axis, keepdims)


def min(x, axis, keepdims):
    """(values, index): the smallest elements along axis and where they are; otherwise as `max`."""
    return _extremum("min", np.argmin, x, axis, keepdims)


def argmax(x, axis):
    """Index (int64) of the largest element along axis, or in C order for None."""
    index = _positions("argmax", np.argmax, x, axis)
    return index.squeeze(tuple(range(x.ndim)) if axis is None else axis)


def argmin(x, axis):
    """Index (int64) of the smallest element along axis, or in C order for None."""
    index = _positions("argmin", np.argmin, x, axis)
    return index.squeeze(tuple(range(x.ndim)) if axis is None else axis)


def sum_to(x, shape):
    """The gradient of broadcasting `shape` to x.shape: x summed over the axes that broadcasting added or
    stretched.
    """
    check.array("sum_to", "x", x)
    lead = x.ndim - len(shape)
    if lead < 0 or builtins.any(have != want != 1 for have, want in zip(x.shape[lead:], shape)):
        raise ValueError(f"sum_to: shape must broadcast to x, got {tuple(shape)}, x {x.shape}")
    axes = [a for a in range(x.ndim) if a < lead or (shape[a - lead] == 1 and x.shape[a] != 1)]
    with np.errstate(all="ignore"):
        return np.sum(x, tuple(axes), np.float64, keepdims=True).astype(x.dtype).reshape(shape)


def sum_squares(x):
    """Sum of x * x over all elements, squared and added in double; a 0-d float64 array."""
    check.array("sum_squares", "x", x)
    with np.errstate(all="ignore"):
        return np.asarray(np.sum(np.square(x, dtype=np.float64)))


def max_backward(dy, index, shape, axis):
    """dx of shape `shape`: zeros except dx[index along axis] = dy; the gradient of `max` and `min`.

    dy and index (int64 or int32) have one shape: `shape` without the axis, or with size 1 there.  axis None:
    index is the one index in C order.  IndexError for an index out of range.
    """
    check.array("max_backward", "dy", dy)
    check.integers("max_backward", "index", index)
    shape, ndim = tuple(shape), len(shape)
    if builtins.any(n < 0 for n in shape):
        raise ValueError(f"max_backward: shape must be at least 0, got {shape}")
    if axis is not None:
        axis = check.axis("max_backward", "axis", axis, ndim)
    kept = (1,) * ndim if axis is None else tuple(1 if a == axis else n for a, n in enumerate(shape))
    dropped = () if axis is None else tuple(n for a, n in enumerate(shape) if a != axis)
    if dy.shape not in (kept, dropped):
        raise ValueError(f"max_backward: dy must have shape {dropped} or {kept}, got {dy.shape}")
    check.shape("max_backward", "index", index, dy.shape)
    dx = np.zeros(shape, dy.dtype)
    check.indices("max_backward", "index", index, dx.size if axis is None else shape[axis])
    if axis is None:
        dx.reshape(-1)[index.reshape(-1)] = dy.reshape(-1)
    else:
        np.put_along_axis(dx, index.reshape(kept), dy.reshape(kept), axis)
    return dx
