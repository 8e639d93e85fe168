"""The sizes that a GPU is for, with the times to be reached on an H200; only timed on a GPU.

Floors there: 4.3 TB/s of memory, 790 TFLOP/s in bfloat16, 395 in TF32. A target is a time that the best kernels known
reach, near the floor; convolutions without one are to take cuDNN's time. Tensors below 40 MB may stay in the cache.
"""

from functools import partial

import numpy as np

from .. import gpu
from ..case import Case, calls, formats, normal, products, random_images, several_calls
from . import adam, conv2d, cross_entropy

NEED = (True, True, True)
SQUARE = 4096
IMAGES = 512, 64, 32  # images, channels, size: 33.5 million numbers
SIZE = 25_600_000  # parameters
# batch, channels, size, outputs, kernel, padding: microseconds
CONVOLUTIONS = {
    (512, 64, 32, 64, 3, 1): {},
    (512, 256, 16, 256, 3, 1): {},
    (64, 64, 32, 64, 3, 1): {"tf32": 20},
    (100, 32, 14, 64, 5, 2): {"tf32": 10},
}


def cases(rivals):
    if gpu.in_use():
        yield from (*_dense(rivals), *_convolutions(rivals), *_images(rivals), *_rest(rivals))


def _dense(rivals):
    flops, floats = 2.0 * SQUARE**3, SQUARE**2
    name = f"{SQUARE}x{SQUARE}x{SQUARE}"
    forward = partial(_linear, rivals, False)
    yield Case("linear", f"forward relu {name}", forward, flops, 12.0 * floats, target={"bf16": 183, "tf32": 366})
    backward = partial(_linear, rivals, True)
    yield Case("linear", f"backward relu {name}", backward, 2 * flops, 20.0 * floats, target={"bf16": 387, "tf32": 773})


def _linear(rivals, backward: bool) -> dict:
    rng = np.random.default_rng(0)
    x, y, dy, weight = (normal(rng, SQUARE, SQUARE) for _ in range(4))
    weight /= np.float32(np.sqrt(SQUARE))
    bias, torch = normal(rng, SQUARE), rivals.torch

    def ours(K, x, y, dy, weight, bias):
        if not backward:
            return K.linear_forward(x, weight, bias, relu=True)
        return K.linear_backward(K.relu_backward(dy, y), x, weight, NEED)

    def theirs(x, y, dy, weight, bias):
        if not backward:
            return torch.relu_(torch.nn.functional.linear(x, weight, bias))
        dy = torch.ops.aten.threshold_backward(dy, y, 0)
        return dy @ weight, dy.T @ x, dy.sum(0)

    runs = several_calls(ours, x, y, dy, weight, bias)
    if torch:
        runs["torch"] = partial(theirs, *map(rivals.tensor, (x, y, dy, weight, bias)))
    return runs


def _convolutions(rivals):
    for (n, c, size, o, k, padding), target in CONVOLUTIONS.items():
        flops = 2.0 * n * products(size, c, o, k, 1, padding)
        floats = n * (c + o) * size**2 + o * c * k * k
        runs = partial(conv2d._forward, rivals, n, c, size, o, k, 1, padding, size)
        name = f"{n}x{c}x{size}x{size} {o}@{k}x{k}"
        yield Case("conv2d", f"forward {name}", runs, flops, 4.0 * floats, target=target)
        runs = partial(conv2d._both, rivals, n, c, size, o, k, 1, padding, size)
        yield Case("conv2d", f"both {name}", runs, 3 * flops, 12.0 * floats)


def _images(rivals):
    n, c, size = IMAGES
    for batch, forward, backward in ((n, {"bf16": 55, "fp32": 105}, {"bf16": 90, "fp32": 175}), (64, {"fp32": 10}, {})):
        shape, floats = f"{batch}x{c}x{size}x{size}", batch * c * size**2
        # Where x does not stay on the chip it is read twice, and in backward dy too.
        passes = (3, 5) if batch == n else (2, 3)
        runs = partial(_batch_norm, rivals, batch, False)
        yield Case("batch_norm", f"forward relu {shape}", runs, bytes=4.0 * passes[0] * floats, target=forward)
        runs = partial(_batch_norm, rivals, batch, True)
        yield Case("batch_norm", f"backward relu {shape}", runs, bytes=4.0 * passes[1] * floats, target=backward)
    for backward in (False, True):
        # One byte an output besides.
        name, floats = "backward" if backward else "forward", (1.25 + 0.25 / 4) * n * c * size**2
        runs = partial(_pool, rivals, backward)
        yield Case("pool2d", f"max {name} {n}x{c}x{size}x{size}", runs, bytes=4.0 * floats, target={"bf16": 24})


def _batch_norm(rivals, n: int, backward: bool) -> dict:
    rng = np.random.default_rng(0)
    _, c, size = IMAGES
    x, dy = random_images(rng, n, c, size, size), random_images(rng, n, c, size, size)
    weight, bias = rng.standard_normal((2, c), dtype=np.float32)
    # Backward: so that the ReLU takes the same side for all, whatever is rounded.
    mean, invstd = np.zeros(c, np.float32), np.ones(c, np.float32)
    bias *= not backward
    torch = rivals.torch

    def ours(K, x, dy, weight, bias, mean, invstd):
        if backward:
            return K.batch_norm_backward(dy, x, weight, mean, invstd, NEED, bias, True)
        return K.batch_norm_forward(x, weight, bias, None, None, 0.1, 1e-5, True)[0]

    def theirs(x, dy, y, weight, bias, mean, invstd):
        if not backward:
            return torch.relu_(torch.native_batch_norm(x, weight, bias, None, None, True, 0.1, 1e-5)[0])
        dy = torch.ops.aten.threshold_backward(dy, y, 0)
        options = None, None, mean, invstd, True, 1e-5, [True, True, True]
        return torch.ops.aten.native_batch_norm_backward(dy, x, weight, *options)

    runs = several_calls(ours, x, dy, per_channel=(weight, bias, mean, invstd))
    if torch:
        parameters = [rivals.tensor(array, low=False) for array in (weight, bias, mean, invstd)]
        y = np.maximum(x * weight[:, None, None], 0)
        runs["torch"] = {way: partial(theirs, *images, *parameters) for way, images in formats(rivals, x, dy, y)}
    return runs


def _pool(rivals, backward: bool) -> dict:
    rng = np.random.default_rng(0)
    n, c, size = IMAGES
    x, dy = random_images(rng, n, c, size, size), random_images(rng, n, c, size // 2, size // 2)
    attrs, torch = ((2, 2), (2, 2), (0, 0), (1, 1)), rivals.torch
    offsets = {}

    def ours(K, x, dy):
        if not backward:
            return K.max_pool2d_forward(x, *attrs, False)[0]
        if K not in offsets:
            offsets[K] = K.max_pool2d_forward(x, *attrs, False)[1]
        return K.max_pool2d_backward(dy, offsets[K], (size, size), *attrs)

    def theirs(x, dy, index):
        aten = torch.ops.aten
        if not backward:
            return aten.max_pool2d_with_indices(x, [2, 2], [2, 2])[0]
        return aten.max_pool2d_with_indices_backward(dy, x, [2, 2], [2, 2], [0, 0], [1, 1], False, index)

    runs = several_calls(ours, x, dy)
    if torch:
        runs["torch"] = {
            way: partial(theirs, *images, torch.ops.aten.max_pool2d_with_indices(images[0], [2, 2], [2, 2])[1])
            for way, images in formats(rivals, x, dy)
        }
    return runs


def _rest(rivals):
    for rows, classes, target in ((4096, 1000, 10), (700, 10000, 16)):
        runs = partial(cross_entropy._runs, rivals, rows, classes)
        yield Case("cross_entropy", f"{rows}x{classes}", runs, bytes=8.0 * rows * classes, target={"fp32": target})
    count = int(np.prod(IMAGES)) * IMAGES[2]
    case = Case("dropout", f"{count / 1e6:.1f}M", {}, bytes=8.0 * count, target={"bf16": 33})
    case.runs = partial(_dropout, rivals, case, count)
    yield case
    for family, target in (("sgd", 130), ("rmsprop", 130), ("adam", 180)):
        size = 4.0 * adam.PASSES[family] * SIZE
        case = Case(family, f"step {SIZE / 1e6:g}M", {}, bytes=size, target={"fp32": target})
        case.runs = partial(adam._flat, rivals, case, SIZE)
        yield case


def _dropout(rivals, case: Case, count: int) -> dict:
    x = normal(np.random.default_rng(0), count)
    if rivals.torch:
        case.others["torch"] = partial(rivals.torch.nn.functional.dropout, rivals.tensor(x), 0.5)
    return calls("dropout", x, 0.5, 1, 2)
