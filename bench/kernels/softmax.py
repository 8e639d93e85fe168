"""Softmax and log-softmax over classes: small rows, attention-sized rows, a vocabulary."""

from functools import partial

import numpy as np

from ..case import Case, calls, normal

SHAPES = [(128, 10), (4096, 64), (700, 10000)]


def cases(rivals):
    for rows, classes in SHAPES:
        size = float(rows * classes)
        for name in ("softmax", "log_softmax"):
            forward, backward = (partial(f, rivals, name, rows, classes) for f in (_forward, _backward))
            yield Case("softmax", f"{name} forward {rows}x{classes}", forward, bytes=8.0 * size)
            yield Case("softmax", f"{name} backward {rows}x{classes}", backward, bytes=12.0 * size)


def _forward(rivals, name: str, rows: int, classes: int) -> dict:
    x = normal(np.random.default_rng(0), rows, classes)
    runs = calls(f"{name}_forward", x, 1)
    if torch := rivals.torch:
        runs["torch"] = partial(getattr(torch, name), rivals.tensor(x), 1)
    return runs


def _backward(rivals, name: str, rows: int, classes: int) -> dict:
    x, dy = normal(np.random.default_rng(0), 2, rows, classes)
    y = calls(f"{name}_forward", x, 1)["numpy"]()
    runs = calls(f"{name}_backward", dy, y, 1)
    if torch := rivals.torch:
        slope = getattr(torch.ops.aten, f"_{name}_backward_data")
        runs["torch"] = partial(slope, rivals.tensor(dy), rivals.tensor(y), 1, torch.float32)
    return runs
