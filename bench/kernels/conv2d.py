"""Convolutions of LeNet-5 and of small residual networks. PyTorch runs channels-last, its better format here."""

import numpy as np

from fastdl import kernels
from fastdl.kernels import numpy as reference

from ..case import Case, torch_or_none

# batch, channels, size, outputs, kernel, stride, padding
SHAPES = [
    (100, 1, 28, 32, 5, 1, 2),
    (100, 32, 14, 64, 5, 1, 2),
    (64, 3, 32, 32, 3, 1, 1),
    (64, 32, 16, 64, 3, 1, 1),
    (32, 64, 28, 64, 3, 1, 1),
    (32, 64, 28, 128, 3, 2, 1),
    (32, 256, 14, 256, 1, 1, 0),
]


def cases():
    rng = np.random.default_rng(0)
    torch, K = torch_or_none(), kernels.host()
    for n, c, size, o, k, stride, padding in SHAPES:
        out = (size + 2 * padding - k) // stride + 1
        x = np.moveaxis(rng.standard_normal((n, size, size, c), dtype=np.float32), 3, 1)
        dy = np.moveaxis(rng.standard_normal((n, out, out, o), dtype=np.float32), 3, 1)
        weight = rng.standard_normal((o, c, k, k), dtype=np.float32) / np.float32(np.sqrt(c * k * k))
        attrs = ((stride, stride), (padding, padding), (1, 1), 1)
        need = (True, True, False)
        forward = {
            "fastdl": lambda a=(x, weight, None, *attrs): K.conv2d_forward(*a),
            "numpy": lambda a=(x, weight, None, *attrs): reference.conv2d_forward(*a),
        }
        backward = {
            "fastdl": lambda a=(dy, x, weight, *attrs, need): K.conv2d_backward(*a),
            "numpy": lambda a=(dy, x, weight, *attrs, need): reference.conv2d_backward(*a),
        }
        if torch:
            tx, tdy = (torch.from_numpy(a).contiguous(memory_format=torch.channels_last) for a in (x, dy))
            tw = torch.from_numpy(weight).contiguous(memory_format=torch.channels_last)
            forward["torch"] = lambda a=(tx, tw, None, stride, padding): torch.nn.functional.conv2d(*a)
            backward["torch"] = lambda a=(
                tdy, tx, tw, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1, [True, True, False],
            ): torch.ops.aten.convolution_backward(*a)[:2]  # fmt: skip
        flops = 2.0 * n * out * out * o * c * k * k
        shape = f"{n}x{c}x{size}x{size} {o}@{k}x{k}" + (f" /{stride}" if stride > 1 else "")
        yield Case("conv2d", f"forward {shape}", forward, flops=flops)
        yield Case("conv2d", f"backward {shape}", backward, flops=2 * flops)
