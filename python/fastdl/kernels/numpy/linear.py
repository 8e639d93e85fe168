"""Dense layer: y = x weight^T + bias."""

import math

from . import _check
from .activation import relu_forward

__all__ = ["linear_forward", "linear_backward"]


def linear_forward(x, weight, bias, *, relu=False):
    """y[..., o] = sum over i of x[..., i] weight[o, i] + bias[o].

    x (..., I) with any number of leading dimensions, weight (O, I), bias (O,) or None, float32 or float64,
    all of one dtype, any strides; with relu what relu_forward makes of it. Returns y (..., O).

    Raises TypeError for another kind or dtype, ValueError for a shape that does not fit.
    """
    kernel = "linear_forward"
    _check.array(kernel, "x", x)
    _check.array(kernel, "weight", weight)
    _check.like(kernel, "weight", weight, "x", x)
    _check.like(kernel, "bias", bias, "x", x)
    _check_shapes(kernel, x, weight)
    _check.shape(kernel, "bias", bias, weight.shape[:1])
    y = x @ weight.T
    y = y if bias is None else y + bias
    return relu_forward(y) if relu else y


def linear_backward(dy, x, weight, need, out=None):
    """Gradients of linear_forward: dx = dy weight, dweight = dy^T x, dbias = dy summed over all leading
    dimensions.

    dy (..., O), x (..., I), weight (O, I), of one dtype; need is a tuple of three bools. Returns (dx (...,
    I), dweight (O, I), dbias (O,)), None for each gradient that is not needed. Nothing is accumulated. out may be a
    tuple of arrays (or None) that dweight and dbias are written to and returned in: contiguous, apart from the inputs.

    Raises as linear_forward does.
    """
    kernel = "linear_backward"
    _check.array(kernel, "dy", dy)
    _check.array(kernel, "x", x)
    _check.like(kernel, "x", x, "dy", dy)
    _check.array(kernel, "weight", weight)
    _check.like(kernel, "weight", weight, "dy", dy)
    _check_shapes(kernel, x, weight)
    _check.shape(kernel, "dy", dy, x.shape[:-1] + weight.shape[:1])
    _check.need(kernel, need, 3)
    rows = math.prod(x.shape[:-1])
    dy2, x2 = dy.reshape(rows, dy.shape[-1]), x.reshape(rows, x.shape[-1])
    gradients = (
        dy @ weight if need[0] else None,
        dy2.T @ x2 if need[1] else None,
        dy2.sum(axis=0) if need[2] else None,
    )
    return _check.placed(kernel, out, gradients, (dy, x, weight))


def _check_shapes(kernel, x, weight):
    _check.min_rank(kernel, "x", x, 1, "(..., I)")
    _check.rank(kernel, "weight", weight, 2, "(O, I)")
    if x.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"{kernel}: weight expects {weight.shape[1]} input features, x has {x.shape[-1]} "
            f"(x {x.shape}, weight {weight.shape})"
        )
