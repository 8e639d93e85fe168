"""Embedding of a language model: 35 steps of 20 sequences from a vocabulary of 10,000."""

import numpy as np

from ..case import Case, calls, normal

ROWS, WIDTH, SHAPE = 10_000, 300, (35, 20)


def cases(rivals):
    rng = np.random.default_rng(0)
    torch = rivals.torch
    weight, index = normal(rng, ROWS, WIDTH), rng.integers(0, ROWS, SHAPE)
    dy = normal(rng, *SHAPE, WIDTH)
    forward, backward = calls("embedding_forward", weight, index), calls("embedding_backward", dy, index, ROWS, -1)
    if torch:
        tweight, tindex, tdy = map(rivals.tensor, (weight, index, dy))
        slope = torch.ops.aten.embedding_dense_backward
        forward["torch"] = lambda: torch.nn.functional.embedding(tindex, tweight)
        backward["torch"] = lambda: slope(tdy, tindex, ROWS, -1, False)
    name = f"{ROWS}x{WIDTH}, {index.size} rows"
    yield Case("embedding", f"forward {name}", forward, bytes=8.0 * dy.size)
    yield Case("embedding", f"backward {name}", backward, bytes=4.0 * (weight.size + 3 * dy.size))
