"""Convolution layers."""

from __future__ import annotations

from fastdl import functional as F
from fastdl.nn import _check, init
from fastdl.nn.module import Module
from fastdl.nn.parameter import Parameter


class Conv2d(Module):
    """2-D convolution, x (N, C, H, W) -> (N, O, H', W'); formula in `fastdl.functional.conv2d`.

    conv(x, relu=True) is relu(conv(x)), on the GPU in fewer passes over memory; `Sequential` calls it so where a ReLU
    follows.

    Arguments, as in PyTorch; numbers for height and width may differ, as pairs
        padding: zeros added on every side, or "valid" (none), or "same" (H' = H, W' = W; only with stride 1).
        padding_mode: only "zeros".

    Parameters:
        weight (out_channels, in_channels / groups, kh, kw), uniform in (-k, k) with
            k = 1 / sqrt(in_channels / groups * kh * kw).
        bias (out_channels,), the same; None with bias=False.

    >>> Conv2d(3, 8, 3, padding="same")(fd.ones(1, 3, 5, 5)).shape
    (1, 8, 5, 5)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size,
        stride=1,
        padding=0,
        dilation=1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device=None,
        dtype=None,
    ) -> None:
        super().__init__()
        self.in_channels = _check.integer("Conv2d", "in_channels", in_channels)
        self.out_channels = _check.integer("Conv2d", "out_channels", out_channels)
        self.kernel_size = _check.pair("Conv2d", "kernel_size", kernel_size)
        self.stride = _check.pair("Conv2d", "stride", stride)
        self.dilation = _check.pair("Conv2d", "dilation", dilation)
        self.groups = _check.integer("Conv2d", "groups", groups)
        self.padding_mode = _check.choice("Conv2d", "padding_mode", padding_mode, ("zeros",))
        self.padding = self._checked_padding(padding)
        for name in ("in_channels", "out_channels"):
            if getattr(self, name) % groups:
                raise ValueError(f"Conv2d: {name} must be divisible by groups {groups}, got {getattr(self, name)}")
        _check.flag("Conv2d", "bias", bias)
        shape = (self.out_channels, self.in_channels // self.groups, *self.kernel_size)
        self.weight = Parameter(init.empty(shape, device, dtype))
        self.register_parameter("bias", Parameter(init.empty(shape[:1], device, dtype)) if bias else None)
        self.reset_parameters()

    def _checked_padding(self, padding):
        if not isinstance(padding, str):
            return _check.pair("Conv2d", "padding", padding, low=0)
        _check.choice("Conv2d", "padding", padding, ("same", "valid"))
        if padding == "same" and self.stride != (1, 1):
            raise ValueError(f"Conv2d: padding 'same' needs stride (1, 1), got stride {self.stride}")
        return padding

    def reset_parameters(self) -> None:
        """Draw new initial values."""
        init.layer_default_(self.weight, self.bias)

    def forward(self, x, relu: bool = False):
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups, relu=relu)

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        if self.padding != (0, 0):
            text += f", padding={self.padding}"
        if self.dilation != (1, 1):
            text += f", dilation={self.dilation}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        return text if self.bias is not None else text + ", bias=False"
