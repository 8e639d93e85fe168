"""Embedding: rows of a table picked by number."""

from __future__ import annotations

import numpy as np

from ..autograd import Operation, apply
from ..kernels import of
from ..tensor import Tensor, check_tensor


class Embedding(Operation):
    """y = weight[index]; the gradient adds up where a row was picked several times."""

    __slots__ = ("padding_idx", "rows")
    fresh = True

    def __init__(self, padding_idx):
        self.padding_idx = padding_idx

    def forward(self, input, weight):
        self.rows = weight.shape[0] if weight.ndim else 0
        self.saved = (input,)
        return of(weight).embedding_forward(weight, input)

    def backward(self, dy):
        return None, of(dy).embedding_backward(dy, self.saved[0], self.rows, self.padding_idx)


def embedding(input, weight, padding_idx: int | None = None) -> Tensor:
    """y[..., :] = weight[input[...], :].

    Args:
        input: int32 or int64, any shape, each in [0, R).
        weight: (R, D), float.
        padding_idx: a row (negative counts from the end) that gets no gradient, or None.

    Returns input.shape + (D,). Raises TypeError for dtypes, ValueError for shapes, IndexError for an index
    out of range.
    """
    check_tensor("embedding", "input", input)
    check_tensor("embedding", "weight", weight)
    if padding_idx is not None:
        if not isinstance(padding_idx, (int, np.integer)) or isinstance(padding_idx, bool):
            raise TypeError(f"embedding: padding_idx must be an int or None, got {type(padding_idx).__name__}")
        rows = weight.data.shape[0] if weight.data.ndim else 0
        if not -rows <= padding_idx < rows:
            raise ValueError(f"embedding: padding_idx must lie in [{-rows}, {rows}), got {padding_idx}")
        padding_idx = int(padding_idx) % rows
    return apply(Embedding(-1 if padding_idx is None else padding_idx), input, weight)
