"""2-D convolution (cross-correlation, as in PyTorch) as im2col and a matrix product."""

import numpy as np

from . import _check, _geometry
from .activation import relu_forward
from .im2col import columns, sum_columns

__all__ = ["conv2d_forward", "conv2d_backward"]


def conv2d_forward(x, weight, bias, stride, padding, dilation, groups, *, relu=False):
    """y[n, o, p, q] = bias[o] + sum over c, i, j of weight[o, c, i, j] x[n, g C/groups + c, p sh + i dh -
    ph, q sw + j dw - pw].

    g is the group of output channel o; x counts as 0 outside its borders. x (N, C, H, W), weight (O,
    C/groups, kh, kw), bias (O,) or None, float32 or float64, all of one dtype, any strides; stride (sh, sw)
    and dilation (dh, dw) pairs of ints of at least 1, padding (ph, pw) of at least 0, groups an int of at
    least 1 that divides C and O; with relu what relu_forward makes of it. Returns y (N, O, oh, ow) with (oh,
    ow) as in `_geometry.axis_output_size`.

    Raises TypeError for another kind or dtype, ValueError for shapes that do not fit, an attribute out of
    range, or a kernel larger than the padded input.
    """
    kernel = "conv2d_forward"
    _check.array(kernel, "x", x)
    _check.array(kernel, "weight", weight)
    _check.like(kernel, "weight", weight, "x", x)
    _check.like(kernel, "bias", bias, "x", x)
    oh, ow = _check_shapes(kernel, x, weight, stride, padding, dilation, groups)
    _check.shape(kernel, "bias", bias, weight.shape[:1])
    cols = columns(x, weight.shape[2:], stride, padding, dilation)
    y = _grouped_weight(weight, groups) @ _grouped(cols, groups)
    y = y.reshape(x.shape[0], weight.shape[0], oh, ow)
    y = y if bias is None else y + bias[:, None, None]
    return relu_forward(y) if relu else y


def conv2d_backward(dy, x, weight, stride, padding, dilation, groups, need, out=None):
    """Gradients of conv2d_forward with respect to x, weight and bias.

    With x as columns (im2col), one matrix per image and group: dx = col2im(weight^T dy), dweight = sum over
    images of dy columns^T, dbias = dy summed over images and pixels. dy (N, O, oh, ow), the rest as in
    conv2d_forward; need is a tuple of three bools. Returns (dx, dweight, dbias), None for each gradient that
    is not needed; out as in linear_backward.

    Raises as conv2d_forward does.
    """
    kernel = "conv2d_backward"
    _check.array(kernel, "dy", dy)
    _check.array(kernel, "x", x)
    _check.like(kernel, "x", x, "dy", dy)
    _check.array(kernel, "weight", weight)
    _check.like(kernel, "weight", weight, "dy", dy)
    oh, ow = _check_shapes(kernel, x, weight, stride, padding, dilation, groups)
    _check.shape(kernel, "dy", dy, (x.shape[0], weight.shape[0], oh, ow))
    _check.need(kernel, need, 3)
    window = (weight.shape[2:], stride, padding, dilation)
    dy_matrix = _grouped(dy.reshape(*dy.shape[:2], oh * ow), groups)
    dx = dweight = None
    if need[0]:
        dcols = _grouped_weight(weight, groups).swapaxes(1, 2) @ dy_matrix
        taps = weight.shape[2] * weight.shape[3]
        dx = sum_columns(dcols.reshape(x.shape[0], x.shape[1] * taps, oh * ow), x.shape, *window)
    if need[1]:
        cols = _grouped(columns(x, *window), groups)
        pairs = [np.tensordot(dy_matrix[:, g], cols[:, g], axes=((0, 2), (0, 2))) for g in range(groups)]
        dweight = np.stack(pairs).reshape(weight.shape)
    gradients = dx, dweight, dy.sum(axis=(0, 2, 3)) if need[2] else None
    return _check.placed(kernel, out, gradients, (dy, x, weight))


def _grouped(matrix, groups):
    """(N, rows, L) as (N, groups, rows/groups, L)."""
    n, rows, length = matrix.shape
    return matrix.reshape(n, groups, rows // groups, length)


def _grouped_weight(weight, groups):
    """(O, C/groups, kh, kw) as (groups, O/groups, C/groups kh kw)."""
    o, c, kh, kw = weight.shape
    return weight.reshape(groups, o // groups, c * kh * kw)


def _check_shapes(kernel, x, weight, stride, padding, dilation, groups):
    _check.rank(kernel, "x", x, 4, "(N, C, H, W)")
    _check.rank(kernel, "weight", weight, 4, "(O, C/groups, kh, kw)")
    if min(weight.shape[2:]) < 1:
        raise ValueError(f"{kernel}: weight must have a kernel of at least (1, 1), got shape {weight.shape}")
    _geometry.check_pair(kernel, "stride", stride, 1)
    _geometry.check_pair(kernel, "padding", padding, 0)
    _geometry.check_pair(kernel, "dilation", dilation, 1)
    _check.integer(kernel, "groups", groups, 1, _geometry.LARGEST + 1)
    if weight.shape[1] * groups != x.shape[1]:
        raise ValueError(
            f"{kernel}: weight expects {weight.shape[1] * groups} input channels, x has {x.shape[1]} "
            f"(x {x.shape}, weight {weight.shape}, groups {groups})"
        )
    if weight.shape[0] % groups:
        raise ValueError(
            f"{kernel}: weight must have a multiple of groups {groups} output channels, got {weight.shape[0]} "
            f"(weight {weight.shape})"
        )
    return _geometry.window_output_size(kernel, x.shape[2:], weight.shape[2:], stride, padding, dilation)
