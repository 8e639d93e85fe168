"""Embedding: rows of a table picked by number, and the gradient of the table."""

import numpy as np

from . import _check

__all__ = ["embedding_forward", "embedding_backward"]


def embedding_forward(weight, index):
    """y[..., :] = weight[index[...], :].

    Args: weight: float32 or float64 (R, D); index: int32 or int64, any shape, entries in [0, R).
    Returns: y, index.shape + (D,), like weight.
    Raises: TypeError for an array kind or dtype, ValueError for a rank, IndexError for an index out of range.
    """
    _check.array("embedding_forward", "weight", weight)
    _check.rank("embedding_forward", "weight", weight, 2, "(R, D)")
    _check.integers("embedding_forward", "index", index)
    _check.indices("embedding_forward", "index", index, weight.shape[0])
    return weight[index]


def embedding_backward(dy, index, num_embeddings, padding_idx):
    """dweight[r, :] = sum of dy[..., :] over the places where index is r, added in the order of index.

    Args:
        dy: float32 or float64, index.shape + (D,).
        index: int32 or int64, any shape, entries in [0, num_embeddings).
        num_embeddings: R, at least 0.
        padding_idx: row that gets no gradient, or -1 for none.

    Returns: dweight (R, D) like dy.
    Raises: TypeError for an array kind or dtype, ValueError for a shape or value, IndexError for an index.
    """
    kernel = "embedding_backward"
    _check.array(kernel, "dy", dy)
    _check.integers(kernel, "index", index)
    if dy.ndim != index.ndim + 1 or dy.shape[:-1] != index.shape:
        raise ValueError(f"{kernel}: dy must have shape {index.shape} + (D,), got {dy.shape}")
    _check.integer(kernel, "num_embeddings", num_embeddings, 0, 2**62)
    _check.integer(kernel, "padding_idx", padding_idx, -1, num_embeddings)
    _check.indices(kernel, "index", index, num_embeddings)
    index, dy = index.reshape(-1), dy.reshape(index.size, dy.shape[-1])
    dweight = np.zeros((num_embeddings, dy.shape[-1]), dy.dtype)
    keep = index != padding_idx
    np.add.at(dweight, index[keep], dy[keep])
    return dweight
