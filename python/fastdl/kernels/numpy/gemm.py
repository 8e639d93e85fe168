"""Matrix product, batched and broadcast."""

import numpy as np

from . import _check

__all__ = ["gemm"]


def gemm(a, b):
    """c = a @ b, one product for each pair of matrices.

    a (..., M, K) and b (..., K, N), float32 or float64, both of one dtype; the leading dimensions broadcast.
    Any strides: a transposed operand is a strided view. Returns c (..., M, N); K = 0 gives zeros.

    Raises TypeError for another kind or dtype, ValueError for fewer than 2 dimensions, for a K that differs
    or for leading dimensions that do not broadcast.
    """
    _check.array("gemm", "a", a)
    _check.array("gemm", "b", b)
    _check.like("gemm", "b", b, "a", a)
    _check.min_rank("gemm", "a", a, 2, "(..., M, K)")
    _check.min_rank("gemm", "b", b, 2, "(..., K, N)")
    if a.shape[-1] != b.shape[-2]:
        raise ValueError(
            f"gemm: b expects {b.shape[-2]} columns in a, a has {a.shape[-1]} (a {a.shape}, b {b.shape})"
        )
    try:
        np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ValueError:
        message = f"gemm: a and b must have leading dimensions that broadcast, got {a.shape} and {b.shape}"
        raise ValueError(message) from None
    return np.matmul(a, b)
