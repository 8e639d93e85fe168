"""Convolutions of LeNet-5, of small networks and of residual networks; PyTorch in both memory formats."""

from functools import partial

import numpy as np

from ..case import Case, calls, formats, products, random_images, several_calls

# batch, channels, size, outputs, kernel, stride, padding
SHAPES = [
    (100, 1, 28, 32, 5, 1, 2),  # LeNet-5
    (100, 32, 14, 64, 5, 1, 2),
    (64, 3, 32, 32, 3, 1, 1),  # three blocks of convolution and BatchNorm
    (64, 32, 16, 64, 3, 1, 1),
    (64, 16, 32, 16, 3, 1, 1),  # ResNet-20
    (64, 64, 8, 64, 3, 1, 1),
    (16, 64, 56, 64, 3, 1, 1),  # ImageNet's sizes
    (16, 64, 56, 256, 1, 1, 0),
    (16, 128, 56, 128, 3, 2, 1),
    (32, 64, 28, 64, 3, 1, 1),
    (32, 64, 28, 128, 3, 2, 1),
    (32, 64, 28, 96, 5, 1, 2),
    (32, 512, 28, 128, 1, 1, 0),
    (32, 256, 14, 256, 3, 1, 1),
    (32, 256, 14, 256, 1, 1, 0),
    (32, 256, 14, 512, 1, 2, 0),
    (32, 512, 7, 512, 3, 1, 1),
    (32, 512, 7, 512, 1, 1, 0),
]


def cases(rivals):
    for n, c, size, o, k, stride, padding in SHAPES:
        out = (size + 2 * padding - k) // stride + 1
        arguments = (rivals, n, c, size, o, k, stride, padding, out)
        flops = 2.0 * n * products(size, c, o, k, stride, padding)
        floats = n * c * size * size + n * o * out * out + o * c * k * k
        shape = f"{n}x{c}x{size}x{size} {o}@{k}x{k}" + (f" /{stride}" if stride > 1 else "")
        forward = Case("conv2d", f"forward {shape}", partial(_forward, *arguments), flops, 4.0 * floats)
        forward.shown["jax"] = lambda y: np.moveaxis(np.asarray(y), 3, 1)
        yield forward
        yield Case("conv2d", f"both {shape}", partial(_both, *arguments), 3 * flops, 12.0 * floats)


def _arrays(n, c, size, o, k, out):
    rng = np.random.default_rng(0)
    x, dy = random_images(rng, n, c, size, size), random_images(rng, n, o, out, out)
    return x, dy, rng.standard_normal((o, c, k, k), np.float32) / np.float32(np.sqrt(c * k * k))


def _forward(rivals, n, c, size, o, k, stride, padding, out) -> dict:
    x, _, weight = _arrays(n, c, size, o, k, out)
    runs = calls("conv2d_forward", x, weight, None, (stride, stride), (padding, padding), (1, 1), 1)
    if rivals.torch:
        convolve = rivals.torch.nn.functional.conv2d
        runs["torch"] = {
            way: partial(convolve, x, w, None, stride, padding) for way, (x, w) in formats(rivals, x, weight)
        }
    if rivals.jax:
        runs["jax"] = _jax_forward(rivals.jax, x, weight, stride, padding)
    return runs


def _both(rivals, n, c, size, o, k, stride, padding, out) -> dict:
    x, dy, weight = _arrays(n, c, size, o, k, out)
    attrs = ((stride, stride), (padding, padding), (1, 1), 1)

    def both(kernel, x, dy, weight):
        y = kernel.conv2d_forward(x, weight, None, *attrs)
        return y, *kernel.conv2d_backward(dy, x, weight, *attrs, (True, True, False))

    runs = several_calls(both, x, dy, weight)
    if torch := rivals.torch:
        settings = (None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1, [True, True, False])

        def both_torch(x, dy, weight):
            y = torch.nn.functional.conv2d(x, weight, None, stride, padding)
            return y, *torch.ops.aten.convolution_backward(dy, x, weight, *settings)[:2]

        runs["torch"] = {way: partial(both_torch, *arrays) for way, arrays in formats(rivals, x, dy, weight)}
    return runs


def _jax_forward(jax, x, weight, stride, padding):
    images = jax.numpy.asarray(np.moveaxis(x, 1, 3))
    filters = jax.numpy.asarray(weight.transpose(2, 3, 1, 0))
    layout = ("NHWC", "HWIO", "NHWC")

    @jax.jit
    def forward(x, weight):
        return jax.lax.conv_general_dilated(x, weight, (stride,) * 2, ((padding,) * 2,) * 2, dimension_numbers=layout)

    return lambda: forward(images, filters).block_until_ready()
