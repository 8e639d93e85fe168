"""Dropout layers."""

from __future__ import annotations

from fastdl import functional as F
from fastdl.nn import _check
from fastdl.nn.module import Module


class Dropout(Module):
    """In training, zero each element with probability p and scale the rest by 1 / (1 - p).

    In evaluation the input is returned. p defaults to 0.5 and lies in [0, 1]; with inplace=True the result
    takes the place of the input tensor. The mask comes from the default generator, see
    `fastdl.functional.dropout`.

    >>> Dropout(0.5).eval()(fd.ones(2))
    tensor([1., 1.])
    """

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        self.p = _check.number("Dropout", "p", p, 0.0, 1.0)
        self.inplace = _check.flag("Dropout", "inplace", inplace)

    def forward(self, x):
        return F.dropout(x, self.p, self.training, self.inplace)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"
