"""Pooling layers."""

from __future__ import annotations

from fastdl import functional as F
from fastdl.nn import _check
from fastdl.nn.module import Module


def _check_padding(layer: str, padding, kernel_size, dilation=1) -> None:
    """Padding is at most half of the (dilated) window, so that no window lies in padding alone."""
    pad, kernel, spread = (_check.pair(layer, "padding", v, low=0) for v in (padding, kernel_size, dilation))
    if any(p > ((k - 1) * d + 1) // 2 for p, k, d in zip(pad, kernel, spread)):
        raise ValueError(f"{layer}: padding must be at most half of kernel_size {kernel_size!r}, got {padding!r}")


class MaxPool2d(Module):
    """Largest value of each window, (N, C, H, W) -> (N, C, H', W'); see `fastdl.functional.max_pool2d`.

    stride defaults to kernel_size. With return_indices the result is (y, indices).

    >>> MaxPool2d(2)(fd.ones(1, 1, 4, 6)).shape
    (1, 1, 2, 3)
    """

    def __init__(
        self,
        kernel_size,
        stride=None,
        padding=0,
        dilation=1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        _check.pair("MaxPool2d", "kernel_size", kernel_size)
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        _check.pair("MaxPool2d", "stride", self.stride)
        _check.pair("MaxPool2d", "padding", padding, low=0)
        _check.pair("MaxPool2d", "dilation", dilation)
        _check_padding("MaxPool2d", padding, kernel_size, dilation)
        self.padding = padding
        self.dilation = dilation
        self.return_indices = _check.flag("MaxPool2d", "return_indices", return_indices)
        self.ceil_mode = _check.flag("MaxPool2d", "ceil_mode", ceil_mode)

    def forward(self, x):
        return F.max_pool2d(
            x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, self.return_indices
        )

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class AvgPool2d(Module):
    """Mean of each window, (N, C, H, W) -> (N, C, H', W'); see `fastdl.functional.avg_pool2d`.

    stride defaults to kernel_size; count_include_pad counts the padding's zeros in the mean;
    divisor_override, if given, divides instead of the window's size.

    >>> AvgPool2d(3, stride=2, padding=1)(fd.ones(1, 1, 4, 6)).shape
    (1, 1, 2, 3)
    """

    def __init__(
        self,
        kernel_size,
        stride=None,
        padding=0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__()
        _check.pair("AvgPool2d", "kernel_size", kernel_size)
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        _check.pair("AvgPool2d", "stride", self.stride)
        _check.pair("AvgPool2d", "padding", padding, low=0)
        _check_padding("AvgPool2d", padding, kernel_size)
        self.padding = padding
        self.ceil_mode = _check.flag("AvgPool2d", "ceil_mode", ceil_mode)
        self.count_include_pad = _check.flag("AvgPool2d", "count_include_pad", count_include_pad)
        if divisor_override is not None:
            _check.integer("AvgPool2d", "divisor_override", divisor_override)
        self.divisor_override = divisor_override

    def forward(self, x):
        return F.avg_pool2d(
            x,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AdaptiveAvgPool2d(Module):
    """Mean over a grid of output_size windows, (N, C, H, W) -> (N, C, *output_size).

    output_size is an int or a pair; None in it keeps that size of the input. See
    `fastdl.functional.adaptive_avg_pool2d`.

    >>> AdaptiveAvgPool2d((1, None))(fd.ones(1, 1, 4, 6)).shape
    (1, 1, 1, 6)
    """

    def __init__(self, output_size) -> None:
        super().__init__()
        parts = output_size if isinstance(output_size, (tuple, list)) else (output_size, output_size)
        _check.pair("AdaptiveAvgPool2d", "output_size", tuple(1 if part is None else part for part in parts))
        self.output_size = output_size

    def forward(self, x):
        return F.adaptive_avg_pool2d(x, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"
