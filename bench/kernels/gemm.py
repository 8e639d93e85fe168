"""Square products with each operand as it lies in memory or transposed."""

from functools import partial

import numpy as np

from ..case import Case, calls

SIZES = [256, 512, 1024, 2048, 4096]


def cases(rivals):
    for size in SIZES:
        for a in "nt":
            for b in "nt":
                runs = partial(_runs, rivals, size, a == "t", b == "t")
                yield Case("gemm", f"{size} {a}{b}", runs, flops=2.0 * size**3, bytes=12.0 * size**2)


def _runs(rivals, size: int, a_transposed: bool, b_transposed: bool) -> dict:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, size, size), dtype=np.float32)
    runs = calls("gemm", a.T if a_transposed else a, b.T if b_transposed else b)
    runs["numpy"] = partial(np.matmul, a.T if a_transposed else a, b.T if b_transposed else b)
    if rivals.torch:
        x, y = map(rivals.tensor, (a, b))
        runs["torch"] = partial(rivals.torch.mm, x.t() if a_transposed else x, y.t() if b_transposed else y)
    if rivals.jax:
        multiply = rivals.jax.jit(lambda a, b: (a.T if a_transposed else a) @ (b.T if b_transposed else b))
        x, y = map(rivals.jax.numpy.asarray, (a, b))
        runs["jax"] = lambda: multiply(x, y).block_until_ready()
    return runs
