"""Sliding windows as columns and back: `unfold` and `fold`."""

from __future__ import annotations

from ..autograd import Operation, apply
from ..kernels import of
from ..tensor import Tensor, check_tensor
from ._arguments import pair
from .copy import squeeze, unsqueeze


class Unfold(Operation):
    """Windows of x as columns; the gradient folds them back."""

    __slots__ = ("window", "size")
    fresh = True

    def __init__(self, window):
        self.window = window

    def forward(self, input):
        self.size = input.shape[2:]
        return of(input).im2col(input, *self.window)

    def backward(self, dy):
        return (of(dy).col2im(dy, self.size, *self.window),)


class Fold(Operation):
    """Columns added up to images; the gradient unfolds them."""

    __slots__ = ("size", "window")
    fresh = True

    def __init__(self, size, window):
        self.size, self.window = size, window

    def forward(self, input):
        return of(input).col2im(input, self.size, *self.window)

    def backward(self, dy):
        return (of(dy).im2col(dy, *self.window),)


def _window(function: str, kernel_size, dilation, padding, stride) -> tuple:
    return (
        pair(function, "kernel_size", kernel_size),
        pair(function, "dilation", dilation),
        pair(function, "padding", padding),
        pair(function, "stride", stride),
    )


def unfold(input, kernel_size, dilation=1, padding=0, stride=1) -> Tensor:
    """Sliding windows as columns: (N, C, H, W) -> (N, C * kh * kw, L), L the number of windows.

    Row c * kh * kw + i * kw + j holds tap (i, j) of channel c; windows count row by row. (C, H, W) gives (C * kh * kw,
    L). Raises TypeError or ValueError for bad arguments, or a window larger than the padded input.
    """
    check_tensor("unfold", "input", input)
    op = Unfold(_window("unfold", kernel_size, dilation, padding, stride))
    return squeeze(apply(op, unsqueeze(input, 0)), 0) if input.data.ndim == 3 else apply(op, input)


def fold(input, output_size, kernel_size, dilation=1, padding=0, stride=1) -> Tensor:
    """The adjoint of `unfold`: (N, C * kh * kw, L) -> (N, C, H, W), overlapping taps added up.

    output_size is (H, W). (C * kh * kw, L) gives (C, H, W). Raises TypeError or ValueError for bad arguments
    or sizes that don't fit.
    """
    check_tensor("fold", "input", input)
    size = pair("fold", "output_size", output_size)
    op = Fold(size, _window("fold", kernel_size, dilation, padding, stride))
    return squeeze(apply(op, unsqueeze(input, 0)), 0) if input.data.ndim == 2 else apply(op, input)
