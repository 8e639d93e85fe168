"""Pooling over windows of images."""

from __future__ import annotations

from ..autograd import Operation, apply
from ..kernels import of, on_gpu
from ..tensor import Tensor, wrap
from ._arguments import flag, images, pair
from .copy import squeeze, unsqueeze


class MaxPool2d(Operation):
    """y = the largest of each window; the gradient goes to the first place that held it."""

    __slots__ = ("window", "ceil_mode", "size", "offsets", "gate")
    fresh = gates = True

    def __init__(self, kernel_size, stride, padding, dilation, ceil_mode):
        self.window, self.ceil_mode, self.gate = (kernel_size, stride, padding, dilation), ceil_mode, False

    def forward(self, input):
        y, self.offsets = of(input).max_pool2d_forward(input, *self.window, self.ceil_mode)
        self.size = input.shape[2:]
        self.saved = self.offsets, y if on_gpu(y) else None
        return y

    def backward(self, dy):
        offsets, y = self.saved
        gate, self.gate = y if self.gate else None, False
        return (of(dy).max_pool2d_backward(dy, offsets, self.size, *self.window, gate),)


class AvgPool2d(Operation):
    """y = the mean of each window; the gradient spreads evenly over it."""

    __slots__ = ("attributes", "size")
    fresh = True

    def __init__(self, *attributes):
        self.attributes = attributes

    def forward(self, input):
        self.size = input.shape[2:]
        return of(input).avg_pool2d_forward(input, *self.attributes)

    def backward(self, dy):
        return (of(dy).avg_pool2d_backward(dy, self.size, *self.attributes),)


class AdaptiveAvgPool2d(Operation):
    """y = means over a fixed number of windows that cover the image."""

    __slots__ = ("output_size", "size")
    fresh = True

    def __init__(self, output_size):
        self.output_size = output_size

    def forward(self, input):
        self.size = input.shape[2:]
        return of(input).adaptive_avg_pool2d_forward(input, self.output_size)

    def backward(self, dy):
        return (of(dy).adaptive_avg_pool2d_backward(dy, self.size),)


def _pool(op: Operation, input: Tensor) -> Tensor:
    return squeeze(apply(op, unsqueeze(input, 0)), 0) if input.data.ndim == 3 else apply(op, input)


def max_pool2d(
    input,
    kernel_size,
    stride=None,
    padding=0,
    dilation=1,
    ceil_mode: bool = False,
    return_indices: bool = False,
):
    """The largest element of each window; NaN wins, and among equals the first.

    Args:
        input: (N, C, H, W) or (C, H, W).
        kernel_size, stride, padding, dilation: an int or a pair (height, width). stride None is kernel_size;
            padding is at most half the kernel and never wins.
        ceil_mode: round the output size up, keeping windows that start inside the input or its left padding.
        return_indices: also return where each element was, h * W + w, int64.

    Returns y, or (y, indices). Raises TypeError or ValueError for bad arguments.
    """
    images("max_pool2d", input)
    kernel_size = pair("max_pool2d", "kernel_size", kernel_size)
    op = MaxPool2d(
        kernel_size,
        kernel_size if stride is None else pair("max_pool2d", "stride", stride),
        pair("max_pool2d", "padding", padding),
        pair("max_pool2d", "dilation", dilation),
        flag("max_pool2d", "ceil_mode", ceil_mode),
    )
    y = _pool(op, input)
    if not return_indices:
        return y
    indices = wrap(of(y.data).max_pool2d_indices(op.offsets, op.size, *op.window))
    return y, squeeze(indices, 0) if input.data.ndim == 3 else indices


def avg_pool2d(
    input,
    kernel_size,
    stride=None,
    padding=0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of each window: its sum over its number of taps, or over divisor_override.

    Args:
        input: (N, C, H, W) or (C, H, W).
        kernel_size, stride, padding: an int or a pair (height, width); stride None is kernel_size.
        ceil_mode: round the output size up.
        count_include_pad: count the zeros of the padding as taps.
        divisor_override: an int other than 0, or None.

    Raises TypeError or ValueError for bad arguments.
    """
    images("avg_pool2d", input)
    kernel_size = pair("avg_pool2d", "kernel_size", kernel_size)
    op = AvgPool2d(
        kernel_size,
        kernel_size if stride is None else pair("avg_pool2d", "stride", stride),
        pair("avg_pool2d", "padding", padding),
        flag("avg_pool2d", "ceil_mode", ceil_mode),
        flag("avg_pool2d", "count_include_pad", count_include_pad),
        divisor_override,
    )
    return _pool(op, input)


def adaptive_avg_pool2d(input, output_size) -> Tensor:
    """Means over OH x OW windows that cover the image evenly; window i starts at floor(i H / OH).

    output_size is an int or a pair; None in the pair keeps that size. Raises TypeError or ValueError.
    """
    images("adaptive_avg_pool2d", input)
    if isinstance(output_size, (tuple, list)) and len(output_size) == 2:
        have = input.data.shape[-2:]
        output_size = tuple([n if want is None else want for want, n in zip(output_size, have)])
    return _pool(AdaptiveAvgPool2d(pair("adaptive_avg_pool2d", "output_size", output_size)), input)
