"""Metrics: functions of a batch of outputs and targets, averaged over an epoch."""

from __future__ import annotations

import numpy as np

from .. import kernels
from ..tensor import Tensor


def accuracy(output, target):
    """Which samples are classified right: a bool for each, in an array where `output` lies.

    output: logits (N, C), the class is the largest; or (N,) or (N, 1), the class is 1 where the logit is above 0.
    target: class numbers (N,), or for one logit numbers of output's shape, class 1 above 0.5.
    Raises ValueError when the shapes don't fit.

    >>> accuracy(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1]))
    array([ True, False])
    """
    output, target = _array(output), _array(target)
    if output.dtype.name == "bfloat16":
        output = kernels.of(output).cast(output, "float32")
    if output.ndim == 2 and output.shape[1] > 1 and target.shape == output.shape[:1]:
        return output.argmax(axis=1) == target
    if output.ndim in (1, 2) and output.size == len(output) and target.size == output.size:
        return (output.reshape(-1) > 0) == (target.reshape(-1) > 0.5)
    raise ValueError(
        f"accuracy: output must be (N, C) with target (N,), or (N,) or (N, 1) like target, "
        f"got output {output.shape}, target {target.shape}"
    )


METRICS = {"accuracy": accuracy}


def resolve(metrics) -> dict:
    """Metrics by name from what `Trainer` accepts: names, functions, or a dict of functions."""
    if metrics is None:
        return {}
    if isinstance(metrics, dict):
        found = dict(metrics)
    elif isinstance(metrics, str) or not hasattr(metrics, "__iter__"):
        raise TypeError(f"Trainer: metrics must be a list or dict, got {type(metrics).__name__}")
    else:
        found = {}
        for metric in metrics:
            if isinstance(metric, str) and metric not in METRICS:
                raise ValueError(f"Trainer: metrics must be among {', '.join(METRICS)}, got {metric!r}")
            function = METRICS[metric] if isinstance(metric, str) else metric
            found[metric if isinstance(metric, str) else getattr(metric, "__name__", "metric")] = function
    for name, function in found.items():
        if not callable(function):
            raise TypeError(f"Trainer: metric {name!r} must be a function, got {type(function).__name__}")
    return found


def _array(value):
    """The array of a Tensor, anything else as it is."""
    return value.data if isinstance(value, Tensor) else value


def total_of(value, n: int):
    """The sum over n samples of a metric's value, a mean or one value per sample: a number, or a 0-d array on the GPU.
    """
    value = _array(value)
    if np.ndim(value) == 0:
        return np.multiply(value, n, dtype=np.float64) if kernels.on_gpu(value) else float(value) * n
    return np.sum(value, dtype=np.float64)


class Average:
    """Sums of metrics over samples; `means()` divides. Sums are exact for counts, so accuracies are exact too.

    Values on the GPU are not waited for: they are collected there and read together, when `waiting` has grown to
    `MOST_WAITING` or the sums are asked for. Or a captured step adds them up there, in an array that is followed.
    """

    MOST_WAITING = 64

    def __init__(self, sums: dict | None = None, count: int = 0):
        self._sums = dict(sums or {})
        self._waiting: list = []  # (name, its total on the GPU)
        self._followed = None  # (names, their sums on the GPU)
        self.count = count

    def add(self, name: str, value, n: int) -> None:
        """Add a metric's value for n samples: a mean (a number), or one value per sample."""
        total = total_of(value, n)
        if kernels.on_gpu(total):
            self._waiting.append((name, total.reshape(1)))
            self._sums.setdefault(name, 0.0)
            if len(self._waiting) >= self.MOST_WAITING:
                self.read()
        else:
            self._sums[name] = self._sums.get(name, 0.0) + float(total)

    def follow(self, names, totals) -> None:
        """Let an array on the GPU hold the sums of these metrics, beginning with those that there are."""
        sums = self.sums
        start = np.array([sums.setdefault(name, 0.0) for name in names])
        kernels.of(totals).assign(totals, kernels.beside(start, totals))
        self._followed = names, totals

    def unfollow(self) -> None:
        """Read the array for the last time: it will serve others."""
        self.read()
        self._followed = None

    def read(self) -> None:
        """Add up what was collected on the GPU, in order, and look at what is followed."""
        if self._waiting:
            values = kernels.to_host(np.concatenate([total for _, total in self._waiting]))
            for (name, _), value in zip(self._waiting, values.tolist()):
                self._sums[name] += value
            self._waiting = []
        if self._followed is not None:
            names, totals = self._followed
            self._sums.update(zip(names, kernels.to_host(totals).tolist()))

    @property
    def sums(self) -> dict:
        """The sum of each metric over all samples added, in the order they were added first."""
        self.read()
        return self._sums

    def means(self, prefix: str = "") -> dict:
        """The mean of each metric over all samples added, in the order they were added first."""
        return {prefix + name: total / self.count for name, total in self.sums.items()} if self.count else {}

    def state_dict(self) -> dict:
        """Sums and count, exactly."""
        return {"sums": dict(self.sums), "count": self.count}
