"""How the steps of a `Trainer` run: as written, captured, or captured from the loader's cursor on."""

from __future__ import annotations

from functools import partial

from ..capture import CapturedStep, capture
from ..creation import zeros
from ..data.loader import DataLoader
from ..kernels import on_gpu
from ..tensor import Tensor
from . import metrics

CHECK_STEPS = 64  # between looks at the loss on a GPU


class Steps:
    """Runs and measures the steps of a trainer.

    Attributes:
        captured: `train_step`, recorded by the first epoch that captures it.
        whole: the `_Whole` of the loader that was used last, if its steps are captured so.
    """

    def __init__(self, trainer):
        self._trainer = trainer
        self.captured = self.whole = None

    def of(self, loader) -> tuple:
        """(an iterator over what makes a batch, a function that takes one step with it and returns its samples)."""
        if self.whole is not None:
            self.whole.sums.unfollow()
        if self._captures_whole(loader):
            if self.whole is None or self.whole.loader is not loader:
                self.whole = _Whole(self._trainer, loader)
            return self.whole.begin(), self.whole.take
        step = self._trainer.train_step
        if self._trainer.capture:
            self.captured = step = self.captured or capture(step, fallback=True)
        return iter(loader), partial(self._take_batch, step)

    def _captures_whole(self, loader) -> bool:
        """Whether the data lie on the GPU and all metrics are known to stay there: a replay then copies nothing."""
        known = all(metric in metrics.METRICS.values() for metric in self._trainer.metrics.values())
        return self._trainer.capture and known and isinstance(loader, DataLoader) and loader.on_gpu

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


class _Whole:
    """Steps on data that lie on the GPU, captured from the loader's cursor to the sums of the metrics."""

    def __init__(self, trainer, loader):
        self.loader, self._trainer = loader, trainer
        self._step = CapturedStep(self._run, fallback=True, device="cuda")
        self._names = "loss", *trainer.metrics
        self._totals = zeros(len(self._names), dtype="float64", device="cuda")
        self._places = [Tensor(self._totals.data[i : i + 1].reshape(())) for i in range(len(self._names))]

    def begin(self):
        """The sizes of the batches of an epoch, or of what is left of it."""
        self.sums = self._trainer.sums
        self.sums.follow(self._names, self._totals.data)
        return self.loader.iter_sizes()

    def take(self, size: int) -> int:
        """The step on the batch that the loader is at."""
        trainer = self._trainer
        self._step(size)
        trainer.sums.count += size
        if trainer.step % CHECK_STEPS == 0:
            trainer.check_loss()
        return size

    def _run(self, size: int) -> None:
        trainer = self._trainer
        inputs, target = split(self.loader.current_batch(size), "fit")
        loss, output = trainer.train_step(inputs, target)
        values = loss, *(metric(output, target) for metric in trainer.metrics.values())
        for place, value in zip(self._places, values):
            place.add_(Tensor(metrics.total_of(value, size)))


def split(batch, caller: str):
    """(input, target) of a batch."""
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        kind = f"{len(batch)} items" if isinstance(batch, (tuple, list)) else type(batch).__name__
        raise TypeError(f"{caller}: a batch must be a pair (input, target), got {kind}")
    return batch
