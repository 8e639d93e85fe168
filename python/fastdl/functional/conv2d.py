"""Two-dimensional convolution."""

from __future__ import annotations

import numpy as np

from ..autograd import Operation, apply
from ..kernels import of, on_gpu
from ..tensor import Tensor, check_tensor
from . import activation
from ._arguments import flag, images, pair
from .activation import let_through
from .copy import squeeze, unsqueeze
from .precision import lowered


class Conv2d(Operation):
    """y = x * W + b (cross-correlation)."""

    __slots__ = ("attributes",)
    fresh = places = True

    def __init__(self, *attributes):
        self.attributes = attributes

    def forward(self, input, weight, bias):
        self.saved = input, weight
        return of(input, weight).conv2d_forward(input, weight, bias, *self.attributes)

    def backward(self, dy, out):
        x, weight = self.saved[:2]
        return of(dy).conv2d_backward(dy, x, weight, *self.attributes, tuple(self.need), out)


class Conv2dRelu(Conv2d):
    """The same with ReLU in its passes."""

    __slots__ = ("gated",)
    relu = True

    def forward(self, input, weight, bias):
        y = of(input, weight).conv2d_forward(input, weight, bias, *self.attributes, relu=True)
        self.saved, self.gated = (input, weight, y), False
        return y

    def backward(self, dy, out):
        return super().backward(let_through(self, dy, self.saved[2]), out)


def conv2d(
    input, weight, bias=None, stride=1, padding=0, dilation=1, groups: int = 1, *, relu: bool = False
) -> Tensor:
    """Cross-correlation of images with filters.

    y[n, o, p, q] = bias[o] + sum over c, i, j of weight[o, c, i, j] x[n, c, p * sh - ph + i * dh, q * sw - pw
    + j * dw], c running over the C / groups input channels of o's group.

    Args:
        input: (N, C, H, W), or (C, H, W) for one image.
        weight: (O, C / groups, kh, kw).
        bias: (O,) or None.
        stride, padding, dilation: an int or a pair (height, width); padding also "valid" (none) or "same" (stride 1,
            as many output pixels as input pixels; where the number of zeros is odd, the last side gets one more).
        groups: divides C and O.
        relu: y = max(that, 0), on the GPU in the same passes over memory.

    Returns (N, O, OH, OW), OH = floor((H + 2 ph - dh (kh - 1) - 1) / sh) + 1.
    Raises TypeError for array kinds and dtypes, ValueError for shapes and values.
    """
    images("conv2d", input)
    stride, dilation = pair("conv2d", "stride", stride), pair("conv2d", "dilation", dilation)
    if isinstance(padding, str):
        check_tensor("conv2d", "weight", weight)
        padding, surplus = _named_padding(padding, weight.data.shape[2:], stride, dilation)
    else:
        padding, surplus = pair("conv2d", "padding", padding), (0, 0)
    if not isinstance(groups, (int, np.integer)) or isinstance(groups, bool):
        raise TypeError(f"conv2d: groups must be an int, got {type(groups).__name__}")
    # On the host a captured step fuses them by itself.
    fused = flag("conv2d", "relu", relu) and on_gpu(input.data)
    op = lowered((Conv2dRelu if fused else Conv2d)(stride, padding, dilation, groups), input, weight, bias)
    if input.data.ndim == 3:
        y = squeeze(apply(op, unsqueeze(input, 0), weight, bias), 0)
    else:
        y = apply(op, input, weight, bias)
    if relu and not fused:
        y = activation.relu(y)
    return y[..., surplus[0] :, surplus[1] :] if any(surplus) else y


def _named_padding(name: str, kernel_size, stride, dilation) -> tuple:
    """Padding, and how many leading rows and columns it makes too many: kernels pad both sides alike."""
    if name == "valid":
        return (0, 0), (0, 0)
    if name != "same":
        raise ValueError(f"conv2d: padding must be an int, a pair of ints, 'valid' or 'same', got {name!r}")
    if stride != (1, 1):
        raise ValueError(f"conv2d: padding 'same' needs stride 1, got {stride}")
    total = [d * (k - 1) for k, d in zip(kernel_size, dilation)]
    return tuple([(n + 1) // 2 for n in total]), tuple([n % 2 for n in total])
