"""Convolutions of LeNet-5 and of small residual networks. PyTorch runs channels-last, its better format here."""

import numpy as np

from ..case import Case, calls, random_images, torch_or_none

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
    torch = torch_or_none()
    for n, c, size, o, k, stride, padding in SHAPES:
        out = (size + 2 * padding - k) // stride + 1
        x, dy = random_images(rng, n, c, size, size), random_images(rng, n, o, out, out)
        weight = rng.standard_normal((o, c, k, k), np.float32) / np.float32(np.sqrt(c * k * k))
        attrs = ((stride, stride), (padding, padding), (1, 1), 1)
        forward = calls("conv2d_forward", x, weight, None, *attrs)
        backward = calls("conv2d_backward", dy, x, weight, *attrs, (True, True, False))
        if torch:
            last = {"memory_format": torch.channels_last}
            tx, tdy, tw = (torch.from_numpy(a).contiguous(**last) for a in (x, dy, weight))
            forward["torch"] = lambda a=(tx, tw, None, stride, padding): torch.nn.functional.conv2d(*a)
            settings = (None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1, [True, True, False])
            backward["torch"] = lambda a=(tdy, tx, tw, *settings): torch.ops.aten.convolution_backward(*a)[:2]
        flops = 2.0 * n * out * out * o * c * k * k
        shape = f"{n}x{c}x{size}x{size} {o}@{k}x{k}" + (f" /{stride}" if stride > 1 else "")
        yield Case("conv2d", f"forward {shape}", forward, flops=flops)
        yield Case("conv2d", f"backward {shape}", backward, flops=2 * flops)
