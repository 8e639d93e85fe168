"""Dropout; backward is the same call."""

import numpy as np

from ..case import Case, calls, normal


def cases(rivals):
    rng = np.random.default_rng(0)
    torch = rivals.torch
    for shape in [(100, 512), (100, 3136)]:
        x = normal(rng, *shape)
        runs = calls("dropout", x, 0.5, 1, 2)
        case = Case("dropout", f"{shape[0]}x{shape[1]}", runs, bytes=8.0 * x.size)
        if torch:
            case.others["torch"] = lambda x=rivals.tensor(x): torch.nn.functional.dropout(x, 0.5)
        yield case
