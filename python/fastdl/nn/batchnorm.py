"""Batch normalisation layers."""

from __future__ import annotations

import numpy as np

from fastdl import creation
from fastdl import functional as F
from fastdl.nn import _check, init
from fastdl.nn.module import Module
from fastdl.nn.parameter import Parameter


class _BatchNorm(Module):
    """What BatchNorm1d and BatchNorm2d share; they differ in the ranks they take."""

    _ranks: dict[int, str] = {}

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device=None,
        dtype=None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        layer = type(self).__name__
        self.num_features = _check.integer(layer, "num_features", num_features)
        self.eps = _check.number(layer, "eps", eps, low=0.0)
        self.momentum = momentum if momentum is None else _check.number(layer, "momentum", momentum, 0.0, 1.0)
        self.affine = _check.flag(layer, "affine", affine)
        self.track_running_stats = _check.flag(layer, "track_running_stats", track_running_stats)
        shape = (self.num_features,)
        for name, wanted in (("weight", affine), ("bias", affine and _check.flag(layer, "bias", bias))):
            self.register_parameter(name, Parameter(init.empty(shape, device, dtype)) if wanted else None)
        for name in ("running_mean", "running_var"):
            self.register_buffer(name, init.empty(shape, device, dtype) if track_running_stats else None)
        count = creation.zeros((), dtype=np.int64, device=device) if track_running_stats else None
        self.register_buffer("num_batches_tracked", count)
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Forget the running statistics: mean 0, variance 1, no batch seen."""
        if self.track_running_stats:
            init.zeros_(self.running_mean)
            init.ones_(self.running_var)
            init.zeros_(self.num_batches_tracked)

    def reset_parameters(self) -> None:
        """Forget the running statistics and set weight to 1 and bias to 0."""
        self.reset_running_stats()
        if self.affine:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, x, relu: bool = False, residual=None):
        if x.ndim not in self._ranks:
            want = " or ".join(self._ranks.values())
            raise ValueError(f"{type(self).__name__}: x must have shape {want}, got {tuple(x.shape)}")
        counting = self.training and self.track_running_stats
        momentum = 0.0 if self.momentum is None else self.momentum
        if counting and self.momentum is None:
            momentum = 1.0 / (self.num_batches_tracked.item() + 1)
        training = self.training or not self.track_running_stats
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, training, momentum, self.eps,
            relu=relu, residual=residual, num_batches_tracked=self.num_batches_tracked if counting else None,
        )  # fmt: skip

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )


class BatchNorm1d(_BatchNorm):
    """Normalise each feature over the batch, x (N, C) or (N, C, L); see `fastdl.functional.batch_norm`.

    norm(x, relu=True) is relu(norm(x)), norm(x, relu=True, residual=r) is relu(norm(x) + r): on the GPU in fewer passes
    over memory. `Sequential` calls it so where a ReLU follows.

    Args:
        momentum: weight of the newest batch in the running statistics; None averages over all batches seen.
        affine: learn a scale and, unless bias=False, a shift.
        track_running_stats: keep running statistics for evaluation mode; without, batch statistics always.

    Parameters: weight (C,), ones; bias (C,), zeros. Buffers: running_mean (C,), zeros; running_var (C,),
        ones, updated with the unbiased variance; num_batches_tracked (), int64.

    >>> norm = BatchNorm1d(1)
    >>> norm(fd.tensor([[1.0], [3.0]])).shape, norm.running_mean
    ((2, 1), tensor([0.2]))
    """

    _ranks = {2: "(N, C)", 3: "(N, C, L)"}


class BatchNorm2d(_BatchNorm):
    """Normalise each channel over batch and image, x (N, C, H, W); the rest as in `BatchNorm1d`."""

    _ranks = {4: "(N, C, H, W)"}
