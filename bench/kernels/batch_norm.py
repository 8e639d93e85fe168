"""BatchNorm in training, alone, with ReLU behind it, and with a residual added before that, forward and backward."""

from functools import partial

import numpy as np

from ..case import Case, formats, random_images, several_calls

SHAPES = [(64, 64, 32), (64, 32, 32), (64, 128, 8), (128, 512, 1)]


def cases(rivals):
    for n, c, size in SHAPES:
        # Each array once each way: x and y, then x, dy and dx; the residual and its gradient, and y again.
        for kind, arrays in (("", 5), ("relu ", 5), ("residual ", 8)):
            runs = partial(_runs, rivals, n, c, size, kind)
            name = f"both {kind}{n}x{c}x{size}x{size}"
            yield Case("batch_norm", name, runs, bytes=4.0 * arrays * n * c * size * size)


def _runs(rivals, n: int, c: int, size: int, kind: str) -> dict:
    rng = np.random.default_rng(0)
    x, dy, *joined = (random_images(rng, n, c, size, size) for _ in range(4 if kind == "residual " else 2))
    if joined:  # a residual, and the result that backward goes by: the same for all, whose roundings of 0 would differ
        np.maximum(joined[1], 0, out=joined[1])
    weight, bias = rng.standard_normal((2, c), dtype=np.float32)
    need = True, True, True

    def both(K, x, dy, *arrays):
        *joined, weight, bias = arrays
        residual, result = joined or (None, None)
        y, mean, invstd = K.batch_norm_forward(x, weight, bias, None, None, 0.1, 1e-5, kind != "", residual)
        if joined:
            return y, *K.batch_norm_residual_backward(dy, x, result, weight, mean, invstd, need)
        return y, *K.batch_norm_backward(dy, x, weight, mean, invstd, need, bias, kind != "")

    runs = several_calls(both, x, dy, *joined, per_channel=(weight, bias))
    if torch := rivals.torch:
        parameters = rivals.tensor(weight, low=False), rivals.tensor(bias, low=False)
        runs["torch"] = {
            way: _torch_run(torch, kind, *images, *parameters) for way, images in formats(rivals, x, dy, *joined)
        }
    return runs


def _torch_run(torch, kind: str, x, dy, *arrays):
    aten = torch.ops.aten
    *joined, weight, bias = arrays

    def both():
        y, mean, invstd = torch.native_batch_norm(x, weight, bias, None, None, True, 0.1, 1e-5)
        if joined:
            y += joined[0]
        if kind:
            y = torch.relu_(y)
        back = aten.threshold_backward(dy, joined[1] if joined else y, 0) if kind else dy
        gradients = aten.native_batch_norm_backward(
            back, x, weight, None, None, mean, invstd, True, 1e-5, [True, True, True]
        )
        return y, *gradients, *([back] if joined else [])

    return both
