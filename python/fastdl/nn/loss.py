"""Losses as layers; each computes the function of `fastdl.functional` it names, where the formulas are.

reduction is "mean" (the default), "sum" or "none".
"""

from __future__ import annotations

import numpy as np

from fastdl import creation, kernels
from fastdl import functional as F
from fastdl.nn import _check
from fastdl.nn.module import Module
from fastdl.tensor import Tensor


def _buffer(value) -> Tensor | None:
    """The weights of a loss, given as a tensor or as numbers."""
    if value is None or isinstance(value, Tensor):
        return value if value is None else value.detach()
    return creation.tensor(value, dtype=None if kernels.is_array(value) else np.float32)


class _Loss(Module):
    def __init__(self, reduction: str) -> None:
        super().__init__()
        self.reduction = _check.choice(type(self).__name__, "reduction", reduction, ("none", "mean", "sum"))


class MSELoss(_Loss):
    """(input - target)^2, see `fastdl.functional.mse_loss`."""

    def __init__(self, *, reduction: str = "mean") -> None:
        super().__init__(reduction)

    def forward(self, input, target):
        return F.mse_loss(input, target, reduction=self.reduction)


class L1Loss(_Loss):
    """|input - target|, see `fastdl.functional.l1_loss`."""

    def __init__(self, *, reduction: str = "mean") -> None:
        super().__init__(reduction)

    def forward(self, input, target):
        return F.l1_loss(input, target, reduction=self.reduction)


class CrossEntropyLoss(_Loss):
    """Cross-entropy of logits (N, C) and class numbers (N,), see `fastdl.functional.cross_entropy`.

    Args:
        weight: one factor per class (C,), kept as a buffer. Default None.
        ignore_index: targets with this number count for nothing. Default -100.
        label_smoothing: in [0, 1], the share of the target spread evenly over all classes. Default 0.

    >>> CrossEntropyLoss()(fd.zeros(2, 1), fd.tensor([0, 0]))
    tensor(0.)
    """

    def __init__(
        self, weight=None, *, ignore_index: int = -100, reduction: str = "mean", label_smoothing: float = 0.0
    ) -> None:
        super().__init__(reduction)
        self.register_buffer("weight", _buffer(weight))
        self.ignore_index = _check.integer("CrossEntropyLoss", "ignore_index", ignore_index, low=-(2**63))
        self.label_smoothing = _check.number("CrossEntropyLoss", "label_smoothing", label_smoothing, 0.0, 1.0)

    def forward(self, input, target):
        return F.cross_entropy(
            input,
            target,
            weight=self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )


class BCEWithLogitsLoss(_Loss):
    """Binary cross-entropy of logits and targets in [0, 1] of the same shape.

    weight scales each element, pos_weight the positive term; both are kept as buffers, default None. See
    `fastdl.functional.binary_cross_entropy_with_logits`.
    """

    def __init__(self, weight=None, *, reduction: str = "mean", pos_weight=None) -> None:
        super().__init__(reduction)
        self.register_buffer("weight", _buffer(weight))
        self.register_buffer("pos_weight", _buffer(pos_weight))

    def forward(self, input, target):
        return F.binary_cross_entropy_with_logits(
            input, target, weight=self.weight, reduction=self.reduction, pos_weight=self.pos_weight
        )
