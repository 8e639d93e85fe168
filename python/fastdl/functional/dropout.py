"""Dropout."""

from __future__ import annotations

import math

from .. import random
from ..autograd import Operation, apply
from ..kernels import of
from ..tensor import Tensor, check_tensor
from ._arguments import flag, number
from .activation import _result


class Dropout(Operation):
    """y = x mask / (1 - p); the mask is made again for the gradient, never stored."""

    __slots__ = ("p", "seed", "counter")
    fresh = True

    def __init__(self, p, seed, counter):
        self.p, self.seed, self.counter = p, seed, counter

    def forward(self, input):
        return of(input).dropout(input, self.p, self.seed, self.counter)

    def backward(self, dy):
        return (of(dy).dropout(dy, self.p, self.seed, self.counter),)


def dropout(input, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Set each element to 0 with probability p and divide the others by 1 - p; the input itself if not training.

    The mask follows from the default generator's seed and counter (`fastdl.manual_seed`) and is the same on
    every backend. Raises TypeError for other than a float Tensor, ValueError for p outside [0, 1].
    Source: Srivastava et al., JMLR 15, 2014, section 4.
    """
    check_tensor("dropout", "input", input)
    p = number("dropout", "p", p)
    if not 0 <= p <= 1 or math.isnan(p):
        raise ValueError(f"dropout: p must be in [0, 1], got {p:g}")
    if not flag("dropout", "training", training):
        return input
    return _result(input, apply(Dropout(p, *random.default_generator.next()), input), inplace, "dropout")
