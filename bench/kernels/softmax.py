"""Softmax and log-softmax over classes: small rows, attention-sized rows, a vocabulary."""

import numpy as np

from ..case import Case, calls

SHAPES = [(128, 10), (4096, 64), (700, 10000)]


def cases(rivals):
    rng = np.random.default_rng(0)
    torch = rivals.torch
    for rows, classes in SHAPES:
        x, dy = rng.standard_normal((2, rows, classes), np.float32)
        for name in ("softmax", "log_softmax"):
            forward = calls(f"{name}_forward", x, 1)
            y = forward["numpy"]()
            backward = calls(f"{name}_backward", dy, y, 1)
            if torch:
                tx, tdy, ty = map(torch.from_numpy, (x, dy, y))
                slope = getattr(torch.ops.aten, f"_{name}_backward_data")
                forward["torch"] = lambda f=getattr(torch, name), x=tx: f(x, 1)
                backward["torch"] = lambda f=slope, dy=tdy, y=ty: f(dy, y, 1, torch.float32)
            yield Case("softmax", f"{name} forward {rows}x{classes}", forward, bytes=8.0 * x.size)
            yield Case("softmax", f"{name} backward {rows}x{classes}", backward, bytes=12.0 * x.size)
