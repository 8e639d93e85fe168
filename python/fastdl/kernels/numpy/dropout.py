"""Dropout: a mask of Philox words, never stored; backward makes the same mask again."""

import math

import numpy as np

from . import _check
from .philox import random_words

__all__ = ["dropout"]


def dropout(x, p, seed, counter):
    """y[e] = x[e] / (1 - p) if word e < floor((1 - p) * 2**32), else x[e] * 0.

    Word e is random_words(seed, counter, x.size)[e]. e numbers the elements in C order, except that a 4-D
    array (N, C, H, W) is numbered in the order (N, H, W, C) of channels-last memory. p = 0 copies x, p = 1
    gives zeros.
    The gradient is the same call on dy (Srivastava et al., JMLR 15, 2014, section 4; scaled when training).

    Args: x: float32 or float64, any shape; p: number in [0, 1]; seed, counter: as `random_words`.
    Returns: y like x.
    Raises: TypeError if x is not a float array or seed, counter no ints, ValueError for a value out of range.
    """
    _check.array("dropout", "x", x)
    _check.number("dropout", "p", p, 0, 1)
    _check.integer("dropout", "seed", seed, 0, 2**64)
    counter = _check.counter("dropout", counter)
    if p == 1:
        return np.zeros_like(x)
    order = (0, 2, 3, 1) if x.ndim == 4 else tuple(range(x.ndim))
    words = random_words(seed, counter, x.size).reshape([x.shape[axis] for axis in order])
    kept = words.astype(np.uint64) < np.uint64(math.floor((1 - p) * 2**32))
    mask = np.where(kept.transpose(np.argsort(order)), x.dtype.type(1 / (1 - p)), x.dtype.type(0))
    with np.errstate(all="ignore"):
        return np.asarray(x * mask, x.dtype)
