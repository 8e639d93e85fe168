"""Arithmetic with and without broadcasting, and the reductions of its gradients."""

import numpy as np

from ..case import Case, calls, normal


def cases(rivals):
    rng = np.random.default_rng(0)
    torch = rivals.torch
    for rows, columns in [(8, 3), (100, 512), (1000, 1000)]:
        x, y = (normal(rng, rows, columns) for _ in range(2))
        row = normal(rng, columns)
        shape = f"{rows}x{columns}"
        for name, other, moved in (("add", y, 12.0), ("multiply", y, 12.0), ("add", row, 8.0)):
            runs = calls(name, x, other)
            if torch:
                tx, to = rivals.tensor(x), rivals.tensor(other)
                runs["torch"] = lambda f=getattr(torch, name), x=tx, o=to: f(x, o)
            what = f"{name} {shape}" + (" row" if other is row else "")
            yield Case("elementwise", what, runs, bytes=moved * x.size)
        runs = calls("exp", x)
        if torch:
            runs["torch"] = lambda x=rivals.tensor(x): torch.exp(x)
        yield Case("elementwise", f"exp {shape}", runs, bytes=8.0 * x.size)
        for name, axes in (("sum", None), ("sum", (0,)), ("mean", (1,))):
            runs = calls(name, x, axes, False)
            if torch:
                runs["torch"] = lambda f=getattr(torch, name), x=rivals.tensor(x), d=axes: f(x, dim=d)
            yield Case("reduce", f"{name} {shape} {'all' if axes is None else axes}", runs, bytes=4.0 * x.size)
