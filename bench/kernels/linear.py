"""Dense layers of the networks in `bench.training`, and of a word-level language model's output."""

from functools import partial

import numpy as np

from ..case import Case, calls

# rows, inputs, outputs
SHAPES = [
    (8, 2, 3),  # exclusive or
    (8, 3, 1),
    (128, 10, 45),
    (128, 45, 45),
    (128, 45, 10),
    (100, 784, 500),
    (100, 500, 10),
    (128, 784, 512),
    (128, 512, 512),
    (128, 512, 10),
    (100, 3136, 512),  # LeNet-5
    (100, 512, 10),
    (64, 2048, 10),  # three blocks of convolution and BatchNorm
    (64, 64, 10),  # ResNet-20
    (700, 300, 10000),
]


def cases(rivals):
    for rows, inputs, outputs in SHAPES:
        shape = f"{rows}x{inputs}x{outputs}"
        flops = 2.0 * rows * inputs * outputs
        moved = 4.0 * (rows * inputs + inputs * outputs + rows * outputs)
        arguments = (rivals, rows, inputs, outputs)
        yield Case("linear", f"forward {shape}", partial(_forward, *arguments), flops, moved)
        yield Case("linear", f"backward {shape}", partial(_backward, *arguments), 2 * flops, 2 * moved)


def _arrays(rows: int, inputs: int, outputs: int):
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((rows, inputs), np.float32), rng.standard_normal((rows, outputs), np.float32)
    weight = rng.standard_normal((outputs, inputs), np.float32) / np.float32(np.sqrt(inputs))
    return x, dy, weight, rng.standard_normal(outputs, np.float32)


def _forward(rivals, *shape: int) -> dict:
    x, _, weight, bias = _arrays(*shape)
    runs = calls("linear_forward", x, weight, bias)
    if torch := rivals.torch:
        runs["torch"] = partial(torch.nn.functional.linear, *map(rivals.tensor, (x, weight, bias)))
    return runs


def _backward(rivals, *shape: int) -> dict:
    x, dy, weight, _ = _arrays(*shape)
    runs = calls("linear_backward", dy, x, weight, (True, True, True))
    if rivals.torch:
        tx, tdy, tw = map(rivals.tensor, (x, dy, weight))
        runs["torch"] = lambda: (tdy @ tw, tdy.T @ tx, tdy.sum(0))
    return runs
