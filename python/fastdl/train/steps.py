"""How the steps of a `Trainer` run: as written, captured, or captured from the row numbers of a batch on."""

from __future__ import annotations

from functools import partial

import numpy as np

from ..capture import capture
from ..data.loader import DataLoader
from ..kernels import on_gpu
from ..tensor import Tensor
from . import metrics

CHECK_STEPS = 64  # between looks at the loss on a GPU


class Steps:
    """Runs and measures the steps of a trainer.

    Attributes:
        captured: `train_step`, recorded by the first epoch that captures it.
        whole: (a loader, the step from its rows to the totals of the metrics, recorded).
    """

    def __init__(self, trainer):
        self._trainer = trainer
        self.captured = self.whole = None

    def of(self, loader) -> tuple:
        """(an iterator over what makes a batch, a function that takes one step with it and returns its samples)."""
        if self._captures_whole(loader):
            if self.whole is None or self.whole[0] is not loader:
                self.whole = loader, capture(partial(self._whole, loader), fallback=True)
            return loader.iter_rows(), partial(self._take_rows, self.whole[1])
        step = self._trainer.train_step
        if self._trainer.capture:
            self.captured = step = self.captured or capture(step, fallback=True)
        return iter(loader), partial(self._take_batch, step)

    def _captures_whole(self, loader) -> bool:
        """Whether the data lie on the GPU and all metrics are known to stay there: a replay then copies no batch."""
        known = all(metric in metrics.METRICS.values() for metric in self._trainer.metrics.values())
        return self._trainer.capture and known and isinstance(loader, DataLoader) and loader.on_gpu

    def _whole(self, loader, rows) -> Tensor:
        """One step on these rows; the totals of the loss and of every metric over them."""
        trainer = self._trainer
        inputs, target = split(loader.gather(rows), "fit")
        loss, output = trainer.train_step(inputs, target)
        values = [loss, *(metric(output, target) for metric in trainer.metrics.values())]
        return Tensor(np.stack([metrics.total_of(value, len(inputs)) for value in values]))

    def _take_rows(self, step, rows) -> int:
        trainer, n = self._trainer, len(rows)
        trainer.sums.add_totals(("loss", *trainer.metrics), step(rows).data)
        trainer.sums.count += n
        if trainer.step % CHECK_STEPS == 0:
            trainer.check_loss()
        return n

    def _take_batch(self, step, batch) -> int:
        trainer = self._trainer
        inputs, target = split(batch, "fit")
        loss, output = step(inputs, target)
        n = len(inputs)
        trainer.sums.add("loss", loss, n)
        if not on_gpu(loss.data):
            trainer.check_loss("at")
        elif trainer.step % CHECK_STEPS == 0:
            trainer.check_loss()
        for name, metric in trainer.metrics.items():
            trainer.sums.add(name, metric(output, target), n)
        trainer.sums.count += n
        return n


def split(batch, caller: str):
    """(input, target) of a batch."""
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        kind = f"{len(batch)} items" if isinstance(batch, (tuple, list)) else type(batch).__name__
        raise TypeError(f"{caller}: a batch must be a pair (input, target), got {kind}")
    return batch
