"""Activations on the layers of the recipes."""

from functools import partial

import numpy as np

from ..case import Case, calls, normal, random_images

SHAPES = [(8, 3), (100, 512), (100, 32, 28, 28)]


def cases(rivals):
    for shape in SHAPES:
        name, size = "x".join(map(str, shape)), float(np.prod(shape))
        for function in ("relu", "tanh", "sigmoid"):
            forward, backward = partial(_forward, rivals, function, shape), partial(_backward, rivals, function, shape)
            yield Case("activation", f"{function} forward {name}", forward, bytes=8.0 * size)
            yield Case("activation", f"{function} backward {name}", backward, bytes=12.0 * size)


def _input(shape):
    rng = np.random.default_rng(0)
    return random_images(rng, *shape) if len(shape) == 4 else normal(rng, *shape)


def _forward(rivals, function: str, shape) -> dict:
    x = _input(shape)
    runs = calls(f"{function}_forward", x)
    if torch := rivals.torch:
        runs["torch"] = partial(getattr(torch, function), rivals.tensor(x))
    return runs


def _backward(rivals, function: str, shape) -> dict:
    dy = _input(shape)
    y = calls(f"{function}_forward", dy)["numpy"]()
    runs = calls(f"{function}_backward", dy, y)
    if torch := rivals.torch:
        runs["torch"] = _torch_backward(torch, function, rivals.tensor(dy), rivals.tensor(y))
    return runs


def _torch_backward(torch, name, dy, y):
    if name == "relu":
        return lambda: torch.ops.aten.threshold_backward(dy, y, 0)
    function = getattr(torch.ops.aten, f"{name}_backward")
    return lambda: function(dy, y)
