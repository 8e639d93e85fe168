"""BatchNorm in training, with and without ReLU behind it, forward and backward."""

from functools import partial

import numpy as np

from ..case import Case, formats, random_images, several_calls

SHAPES = [(64, 64, 32), (64, 32, 32), (64, 128, 8), (128, 512, 1)]


def cases(rivals):
    for n, c, size in SHAPES:
        for relu in (False, True):
            # Each array once each way: x and y, then x, dy and dx.
            name = f"both {'relu ' if relu else ''}{n}x{c}x{size}x{size}"
            runs = partial(_runs, rivals, n, c, size, relu)
            yield Case("batch_norm", name, runs, bytes=4.0 * 5 * n * c * size * size)


def _runs(rivals, n: int, c: int, size: int, relu: bool) -> dict:
    rng = np.random.default_rng(0)
    x, dy = (random_images(rng, n, c, size, size) for _ in range(2))
    weight, bias = rng.standard_normal((2, c), dtype=np.float32)

    def both(K, x, dy, weight, bias):
        y, mean, invstd = K.batch_norm_forward(x, weight, bias, None, None, 0.1, 1e-5, relu)
        return y, *K.batch_norm_backward(dy, x, weight, mean, invstd, (True, True, True), bias, relu)

    runs = several_calls(both, x, dy, per_channel=(weight, bias))
    if torch := rivals.torch:
        parameters = rivals.tensor(weight, low=False), rivals.tensor(bias, low=False)
        runs["torch"] = {
            way: _torch_run(torch, relu, *images, *parameters) for way, images in formats(rivals, x, dy)
        }
    return runs


def _torch_run(torch, relu: bool, x, dy, weight, bias):
    aten = torch.ops.aten

    def both():
        y, mean, invstd = torch.native_batch_norm(x, weight, bias, None, None, True, 0.1, 1e-5)
        if relu:
            y = torch.relu_(y)
        back = aten.threshold_backward(dy, y, 0) if relu else dy
        return y, *aten.native_batch_norm_backward(
            back, x, weight, None, None, mean, invstd, True, 1e-5, [True, True, True]
        )

    return both
