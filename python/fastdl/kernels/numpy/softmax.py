"""Softmax and log-softmax along one axis, and their gradients."""

import numpy as np

from . import _check

__all__ = ["softmax_forward", "softmax_backward", "log_softmax_forward", "log_softmax_backward"]


def softmax_forward(x, axis):
    """y = exp(x - m) / sum(exp(x - m)) along axis, m the maximum along it, so that nothing overflows.

    A line that is all -inf, or holds +inf or NaN, becomes NaN.

    Args: x: float32 or float64, at least 1 dimension; axis: int in [-x.ndim, x.ndim).
    Returns: y like x.
    Raises: TypeError if x is not a float32 or float64 array, ValueError for its rank or the axis.
    """
    axis = _check_axis("softmax_forward", "x", x, axis)
    if x.size == 0:
        return x.copy()
    with np.errstate(all="ignore"):
        e = np.exp(x - x.max(axis, keepdims=True))
        return e / e.sum(axis, keepdims=True)


def softmax_backward(dy, y, axis):
    """dx = y * (dy - sum(dy * y)) along axis.

    Args: dy, y: same shape and dtype, y the result of softmax_forward; axis as there.
    Returns: dx like y.
    Raises: as softmax_forward; ValueError if the shapes differ.
    """
    axis = _check_pair("softmax_backward", dy, y, axis)
    with np.errstate(all="ignore"):
        return y * (dy - (dy * y).sum(axis, keepdims=True))


def log_softmax_forward(x, axis):
    """y = x - m - log(sum(exp(x - m))) along axis, m the maximum there; arguments as in softmax_forward."""
    axis = _check_axis("log_softmax_forward", "x", x, axis)
    if x.size == 0:
        return x.copy()
    with np.errstate(all="ignore"):
        shifted = x - x.max(axis, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(axis, keepdims=True))


def log_softmax_backward(dy, y, axis):
    """dx = dy - exp(y) * sum(dy) along axis. Arguments as in softmax_backward, y from log_softmax_forward."""
    axis = _check_pair("log_softmax_backward", dy, y, axis)
    with np.errstate(all="ignore"):
        return dy - np.exp(y) * dy.sum(axis, keepdims=True)


def _check_axis(kernel, name, x, axis):
    _check.array(kernel, name, x)
    if x.ndim == 0:
        raise ValueError(f"{kernel}: {name} must have at least 1 dimension, got shape ()")
    return _check.axis(kernel, "axis", axis, x.ndim)


def _check_pair(kernel, dy, y, axis):
    axis = _check_axis(kernel, "y", y, axis)
    _check.array(kernel, "dy", dy)
    _check.like(kernel, "dy", dy, "y", y)
    _check.shape(kernel, "dy", dy, y.shape)
    return axis
