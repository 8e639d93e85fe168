"""Reference of the batch_norm family (Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167, algorithm 1).

x is (N, C), (N, C, L) or (N, C, H, W); "per channel" means over all axes but the second, M values each.
weight, bias and all statistics have shape (C,) and the dtype of x. Sums run in double.
"""

from __future__ import annotations

import numpy as np

from . import _check
from .activation import relu_backward, relu_forward

__all__ = [
    "batch_norm_forward",
    "batch_norm_inference",
    "batch_norm_backward",
    "batch_norm_residual_backward",
    "batch_norm_inference_backward",
]


def _check_input(kernel: str, name: str, x) -> None:
    _check.array(kernel, name, x)
    if x.ndim not in (2, 3, 4):
        shapes = "(N, C), (N, C, L) or (N, C, H, W)"
        raise ValueError(f"{kernel}: {name} must have 2, 3 or 4 dimensions {shapes}, got shape {x.shape}")


def _check_channels(kernel: str, x, required: bool = False, **arrays) -> None:
    """Each array has the shape (C,) and the dtype of x; None passes unless required."""
    for name, array in arrays.items():
        if required:
            _check.array(kernel, name, array)
        _check.like(kernel, name, array, "x", x)
        _check.shape(kernel, name, array, x.shape[1:2])


def _check_gradient(kernel: str, dy, x) -> None:
    _check_input(kernel, "x", x)
    _check.array(kernel, "dy", dy)
    _check.like(kernel, "dy", dy, "x", x)
    _check.shape(kernel, "dy", dy, x.shape)


def _axes(x) -> tuple:
    return (0, *range(2, x.ndim))


def _along(value, x):
    """A (C,) array shaped to broadcast against x, in double."""
    return value.astype(np.float64).reshape(-1, *(1,) * (x.ndim - 2))


def _affine(normal, x, weight, bias):
    """weight * normal + bias, in the dtype of x."""
    if weight is not None:
        normal = normal * _along(weight, x)
    if bias is not None:
        normal = normal + _along(bias, x)
    return normal.astype(x.dtype)


def _check_count(kernel: str, count) -> None:
    """count is a 0-d, writeable array of int64."""
    if not isinstance(count, np.ndarray):
        raise TypeError(f"{kernel}: count must be a NumPy array, got {_check.type_name(count)}")
    if count.dtype != np.int64:
        raise TypeError(f"{kernel}: count must be int64, got {count.dtype}")
    _check.shape(kernel, "count", count, ())
    _check.place(kernel, "count", count)


def batch_norm_forward(
    x, weight, bias, running_mean, running_var, momentum, eps, relu=False, residual=None, count=None
):
    """y = (x - mean) * invstd * weight + bias with the batch's own statistics; returns (y, mean, invstd).

    mean and the biased variance var are taken per channel, invstd = 1 / sqrt(var + eps). weight and bias may
    be None (1 and 0). running_mean and running_var, where not None, are updated IN PLACE, PyTorch's way:
        running_mean = (1 - momentum) * running_mean + momentum * mean
        running_var  = (1 - momentum) * running_var  + momentum * var * M / (M - 1)
    count, a 0-d array of int64 if it is not None, goes up by one.
    residual: None, or an array like x that is added to y. relu: y is the ReLU of that. Both give the same bits as `add`
    and `relu_forward` afterwards.
    An empty x gives an empty y, mean 0, invstd 0, and leaves the running statistics alone. Raises ValueError
    for a single value per channel.
    """
    kernel = "batch_norm_forward"
    _check_input(kernel, "x", x)
    _check_channels(kernel, x, weight=weight, bias=bias, running_mean=running_mean, running_var=running_var)
    if residual is not None:
        _check.like(kernel, "residual", residual, "x", x)
        _check.shape(kernel, "residual", residual, x.shape)
    for name, running in (("running_mean", running_mean), ("running_var", running_var)):
        if running is not None:
            _check.writeable(kernel, name, running)
    if count is not None:
        _check_count(kernel, count)
    _check.number(kernel, "momentum", momentum)
    _check.number(kernel, "eps", eps, low=0.0)
    channels, rows = x.shape[1], x.size // max(x.shape[1], 1)
    if rows == 1:
        raise ValueError(f"{kernel}: x must have more than 1 value per channel, got shape {x.shape}")
    if count is not None:
        count += 1
    if x.size == 0:
        return x.copy(), np.zeros(channels, x.dtype), np.zeros(channels, x.dtype)
    mean = x.mean(_axes(x), dtype=np.float64)
    var = ((x - _along(mean, x)) ** 2).mean(_axes(x))
    with np.errstate(divide="ignore", invalid="ignore"):  # a constant channel and eps 0 give NaN
        invstd = 1 / np.sqrt(var + eps)
        y = _affine((x - _along(mean, x)) * _along(invstd, x), x, weight, bias)
    if running_mean is not None:
        running_mean[...] = (1 - momentum) * running_mean.astype(np.float64) + momentum * mean
    if running_var is not None:
        unbiased = var * rows / (rows - 1)
        running_var[...] = (1 - momentum) * running_var.astype(np.float64) + momentum * unbiased
    y = y if residual is None else y + residual
    return relu_forward(y) if relu else y, mean.astype(x.dtype), invstd.astype(x.dtype)


def batch_norm_inference(x, weight, bias, running_mean, running_var, eps):
    """y = (x - running_mean) / sqrt(running_var + eps) * weight + bias; None stands for 1 and 0."""
    kernel = "batch_norm_inference"
    _check_input(kernel, "x", x)
    _check_channels(kernel, x, weight=weight, bias=bias)
    _check_channels(kernel, x, required=True, running_mean=running_mean, running_var=running_var)
    _check.number(kernel, "eps", eps, low=0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        invstd = 1 / np.sqrt(running_var.astype(np.float64) + eps)
        return _affine((x - _along(running_mean, x)) * _along(invstd, x), x, weight, bias)


def _sums(dy, x, mean, invstd):
    """(dbias, dweight, normalised x) in double: sums per channel of dy and of dy times normalised x."""
    normal = (x - _along(mean, x)) * _along(invstd, x)
    return dy.sum(_axes(x), dtype=np.float64), (dy * normal).sum(_axes(x)), normal


def batch_norm_backward(dy, x, weight, mean, invstd, need, bias=None, relu=False, out=None):
    """Gradients (dx, dweight, dbias) of `batch_norm_forward`, from the mean and invstd that it returned.

    With n = (x - mean) * invstd and sums and averages per channel:
        dbias = sum(dy)    dweight = sum(dy * n)
        dx = weight * invstd * (dy - average(dy) - n * average(dy * n))
    Entries that `need` (three bools) does not ask for are None; weight may be None (1). With relu, dy is the gradient
    behind the fused ReLU, whose argument is computed again from x, mean, invstd, weight and bias (None: 0), all of
    which must be those of forward. out as in `linear_backward`.
    """
    kernel = "batch_norm_backward"
    _check_gradient(kernel, dy, x)
    _check_channels(kernel, x, weight=weight, bias=bias)
    _check_channels(kernel, x, required=True, mean=mean, invstd=invstd)
    _check.need(kernel, need, 3)
    if relu:
        dy = relu_backward(dy, _affine((x - _along(mean, x)) * _along(invstd, x), x, weight, bias))
    return _check.placed(kernel, out, _gradients(dy, x, weight, mean, invstd, need), (dy, x, weight))


def batch_norm_residual_backward(dy, x, y, weight, mean, invstd, need, more=None, out=None):
    """Gradients (dx, dweight, dbias, dresidual) of `batch_norm_forward` with relu and a residual, which gave y.

    dresidual = `relu_backward`(dy + more, y), of which the others are made as in `batch_norm_backward`. more: None, or
    an array like x: where two gradients arrive at y. need and out as there; dresidual is always made.
    """
    kernel = "batch_norm_residual_backward"
    _check_gradient(kernel, dy, x)
    _check_channels(kernel, x, weight=weight)
    _check.array(kernel, "y", y)
    for name, array in (("y", y), ("more", more)):
        if array is not None:
            _check.like(kernel, name, array, "x", x)
            _check.shape(kernel, name, array, x.shape)
    _check_channels(kernel, x, required=True, mean=mean, invstd=invstd)
    _check.need(kernel, need, 3)
    dresidual = relu_backward(dy if more is None else dy + more, y)
    gradients = _gradients(dresidual, x, weight, mean, invstd, need)
    return *_check.placed(kernel, out, gradients, (dy, x, y, more, weight)), dresidual


def _gradients(dy, x, weight, mean, invstd, need):
    dbias, dweight, normal = _sums(dy, x, mean, invstd)
    count = max(x.size // max(x.shape[1], 1), 1)
    dx = None
    if need[0]:
        dx = (dy - _along(dbias / count, x) - normal * _along(dweight / count, x)) * _along(invstd, x)
        dx = _affine(dx, x, weight, None)
    return dx, dweight.astype(x.dtype) if need[1] else None, dbias.astype(x.dtype) if need[2] else None


def batch_norm_inference_backward(dy, x, weight, running_mean, running_var, eps, need, out=None):
    """Gradients (dx, dweight, dbias) of `batch_norm_inference`: the statistics are constants, so
    dx = dy * weight / sqrt(running_var + eps); dweight and dbias as in `batch_norm_backward`."""
    kernel = "batch_norm_inference_backward"
    _check_gradient(kernel, dy, x)
    _check_channels(kernel, x, weight=weight)
    _check_channels(kernel, x, required=True, running_mean=running_mean, running_var=running_var)
    _check.number(kernel, "eps", eps, low=0.0)
    _check.need(kernel, need, 3)
    with np.errstate(divide="ignore", invalid="ignore"):
        invstd = 1 / np.sqrt(running_var.astype(np.float64) + eps)
        dbias, dweight, _ = _sums(dy, x, running_mean, invstd)
        dx = _affine(dy * _along(invstd, x), x, weight, None) if need[0] else None
    gradients = dx, dweight.astype(x.dtype) if need[1] else None, dbias.astype(x.dtype) if need[2] else None
    return _check.placed(kernel, out, gradients, (dy, x, weight))
