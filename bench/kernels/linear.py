"""Dense layers of the recipes and of a word-level language model's output."""

import numpy as np

from ..case import Case, calls

# rows, inputs, outputs
SHAPES = [
    (8, 2, 3),
    (128, 10, 45),
    (100, 784, 500),
    (128, 512, 512),
    (100, 3136, 512),
    (100, 512, 10),
    (700, 300, 10000),
]


def cases(rivals):
    rng = np.random.default_rng(0)
    torch = rivals.torch
    for rows, inputs, outputs in SHAPES:
        x, dy = rng.standard_normal((rows, inputs), np.float32), rng.standard_normal((rows, outputs), np.float32)
        weight = rng.standard_normal((outputs, inputs), np.float32) / np.float32(np.sqrt(inputs))
        bias = rng.standard_normal(outputs, np.float32)
        forward = calls("linear_forward", x, weight, bias)
        backward = calls("linear_backward", dy, x, weight, (True, True, True))
        if torch:
            tx, tw, tb, tdy = (torch.from_numpy(a) for a in (x, weight, bias, dy))
            forward["torch"] = lambda a=(tx, tw, tb): torch.nn.functional.linear(*a)
            backward["torch"] = lambda dy=tdy, x=tx, w=tw: (dy @ w, dy.T @ x, dy.sum(0))
        shape = f"{rows}x{inputs}x{outputs}"
        flops = 2.0 * rows * inputs * outputs
        yield Case("linear", f"forward {shape}", forward, flops=flops)
        yield Case("linear", f"backward {shape}", backward, flops=2 * flops)
