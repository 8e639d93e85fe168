"""Matrix products."""

from __future__ import annotations

import math

import numpy as np

from .. import recording
from ..autograd import Operation, apply
from ..kernels import of
from ..tensor import FLOATS, Tensor, check_tensor, wrap
from .copy import reshape, squeeze, unsqueeze
from .elementwise import as_operand, fit
from .precision import is_autocast_enabled, lowered


class MatMul(Operation):
    """y = a b over the last axes;  da = dy b',  db = a' dy, summed over batch axes if broadcast."""

    __slots__ = ("shapes",)
    fresh = True

    def forward(self, input, other):
        need = self.need
        self.shapes = input.shape, other.shape
        self.saved = input if need[1] else None, other if need[0] else None
        return of(input, other).gemm(input, other)

    def backward(self, dy):
        (a, b), need, shapes, k = self.saved, self.need, self.shapes, of(dy)
        da = fit(k.gemm(dy, b.swapaxes(-1, -2)), shapes[0]) if need[0] else None
        return da, fit(k.gemm(a.swapaxes(-1, -2), dy), shapes[1]) if need[1] else None


def matmul(input, other) -> Tensor:
    """Matrix product with torch's ranks: vectors, matrices, and batches of matrices whose batch dims broadcast.

    1-D with 1-D is the dot product; a 1-D operand counts as a row (left) or column (right) and its dim is dropped.
    Raises TypeError for other than Tensors of one dtype, ValueError for 0-d operands or sizes that don't fit.
    """
    input, other = as_operand("matmul", "input", input), as_operand("matmul", "other", other)
    a, b = input.data, other.data
    if a.ndim == 0 or b.ndim == 0:
        raise ValueError(f"matmul: input and other must have at least 1 dimension, got {a.shape} and {b.shape}")
    if a.dtype != b.dtype and not (is_autocast_enabled() and a.dtype in FLOATS and b.dtype in FLOATS):
        raise TypeError(f"matmul: other must be {a.dtype} like input, got {b.dtype}; convert one of them with .to()")
    if a.shape[-1] != b.shape[-2 if b.ndim > 1 else 0]:
        raise ValueError(
            f"matmul: other must have {a.shape[-1]} rows like the columns of input, "
            f"got input {a.shape}, other {b.shape}"
        )
    if a.dtype not in FLOATS:
        recording.keep(a, b)
        return wrap(np.matmul(a, b))
    if a.ndim == 1 or b.ndim == 1:
        y = matmul(unsqueeze(input, 0) if a.ndim == 1 else input, unsqueeze(other, 1) if b.ndim == 1 else other)
        return squeeze(y, tuple([d for d, x in ((-2, a), (-1, b)) if x.ndim == 1]))
    if a.ndim > 2 and b.ndim == 2:
        # One tall product instead of a batch: its gradient of `other` needs no sum over the batch.
        rows = reshape(input, math.prod(a.shape[:-1]), a.shape[-1])
        return reshape(apply(lowered(MatMul(), rows, other), rows, other), *a.shape[:-1], b.shape[1])
    return apply(lowered(MatMul(), input, other), input, other)


def mm(input, mat2) -> Tensor:
    """Product of two matrices, (M, K) and (K, N)."""
    return _of_rank("mm", input, mat2, 2)


def bmm(input, mat2) -> Tensor:
    """Products of two batches of matrices, (B, M, K) and (B, K, N)."""
    return _of_rank("bmm", input, mat2, 3)


def dot(input, other) -> Tensor:
    """Dot product of two vectors of one length."""
    return _of_rank("dot", input, other, 1)


def _of_rank(name: str, input, other, ndim: int) -> Tensor:
    for argument, value in (("input", input), ("other" if name == "dot" else "mat2", other)):
        check_tensor(name, argument, value)
        if value.data.ndim != ndim:
            raise ValueError(f"{name}: {argument} must have {ndim} dimensions, got shape {value.data.shape}")
    if ndim == 3 and input.data.shape[0] != other.data.shape[0]:
        raise ValueError(f"{name}: mat2 must hold {input.shape[0]} matrices like input, got shape {other.shape}")
    return matmul(input, other)
