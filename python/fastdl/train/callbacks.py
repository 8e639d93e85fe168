"""Callbacks: what happens besides the steps. A callback that keeps state gives it to checkpoints."""

from __future__ import annotations

import csv
import math
import os

import numpy as np

from .. import serialization
from .checkpoint import save_checkpoint


class Callback:
    """Base class; every hook does nothing. `trainer` is the Trainer that calls.

    on_fit_start, on_epoch_start, on_step_end(trainer); on_epoch_end(trainer, row) with the history's new row, after
    validation, where `row["epoch"] > trainer.epoch` marks an epoch that was cut off by the number of steps;
    on_fit_end(trainer) when `fit` ends without error; on_exit(trainer) in any case, to release what was taken. These
    two are called in the reverse order.
    """

    priority = 50  # lower is called earlier: the schedule is 0, checkpoints come last at 100

    def on_fit_start(self, trainer) -> None:
        """Training begins or goes on."""

    def on_epoch_start(self, trainer) -> None:
        """An epoch begins or goes on."""

    def on_step_end(self, trainer) -> None:
        """A step is done; `trainer.running` has the averages of the epoch so far."""

    def on_epoch_end(self, trainer, row: dict) -> None:
        """An epoch is done and validated."""

    def on_fit_end(self, trainer) -> None:
        """Training ends, completed, stopped or interrupted."""

    def on_exit(self, trainer) -> None:
        """`fit` is left, also by an exception."""

    def state_dict(self) -> dict:
        """State for checkpoints: numbers, strings, arrays in dicts and lists."""
        return {}

    def load_state_dict(self, state: dict) -> None:
        """Restore `state_dict()`."""


class LambdaCallback(Callback):
    """Call functions at hooks: LambdaCallback(on_step_end=lambda trainer: ...).

    Raises TypeError for a hook that does not exist.
    """

    def __init__(self, **hooks):
        for name, function in hooks.items():
            if not name.startswith("on_") or not hasattr(Callback, name):
                raise TypeError(f"LambdaCallback: no hook is called {name!r}")
            setattr(self, name, function)


class LRSchedule(Callback):
    """Advance a scheduler of `optim.lr_scheduler` after every "epoch" or "step"."""

    priority = 0

    def __init__(self, scheduler, every: str = "epoch"):
        if every not in ("epoch", "step"):
            raise ValueError(f"LRSchedule: every must be 'epoch' or 'step', got {every!r}")
        self.scheduler, self.every = scheduler, every

    def on_step_end(self, trainer) -> None:
        """Advance, if every step counts."""
        if self.every == "step":
            self.scheduler.step()

    def on_epoch_end(self, trainer, row) -> None:
        """Advance, if every epoch counts and this one is complete."""
        if self.every == "epoch" and row["epoch"] == trainer.epoch:
            self.scheduler.step()

    def state_dict(self) -> dict:
        """The scheduler's state."""
        return {"every": self.every, "scheduler": self.scheduler.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        """Restore the scheduler."""
        if state["every"] != self.every:
            raise ValueError(f"LRSchedule: every must be {state['every']!r} as saved, got {self.every!r}")
        self.scheduler.load_state_dict(state["scheduler"])


class _Monitor(Callback):
    """Follow one entry of the history's rows and tell whether it got better."""

    def __init__(self, monitor: str, mode: str, min_delta: float = 0.0):
        if mode not in ("auto", "min", "max"):
            raise ValueError(f"{type(self).__name__}: mode must be 'auto', 'min' or 'max', got {mode!r}")
        if not (min_delta >= 0 and math.isfinite(min_delta)):
            raise ValueError(f"{type(self).__name__}: min_delta must be finite and not negative, got {min_delta}")
        self.monitor, self.min_delta = monitor, min_delta
        self.sign = 1.0 if mode == "max" or (mode == "auto" and monitor.endswith("accuracy")) else -1.0
        self.best: float | None = None
        self.best_epoch = 0

    def improved(self, row: dict) -> bool:
        """Whether the row is better than all before by more than min_delta; ValueError for a row without `monitor`."""
        if self.monitor not in row:
            raise ValueError(
                f"{type(self).__name__}: monitor must be one of {', '.join(row)}, got {self.monitor!r}"
            )
        value = row[self.monitor]
        if self.best is not None and not self.sign * (value - self.best) > self.min_delta:
            return False
        self.best, self.best_epoch = value, row["epoch"]
        return True

    def state_dict(self) -> dict:
        """The best value and its epoch."""
        return {"best": self.best, "best_epoch": self.best_epoch}

    def load_state_dict(self, state: dict) -> None:
        """Restore it."""
        self.best, self.best_epoch = state["best"], state["best_epoch"]


class EarlyStopping(_Monitor):
    """Stop when `monitor` has not got better by more than `min_delta` for `patience` epochs.

    mode: "max", "min", or "auto" (default): max for accuracies, min otherwise.
    restore_best: when training ends, put the weights of the best epoch back. Default False.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 5,
        min_delta: float = 0.0,
        mode: str = "auto",
        restore_best: bool = False,
    ):
        super().__init__(monitor, mode, min_delta)
        if not isinstance(patience, (int, np.integer)) or isinstance(patience, bool) or patience < 1:
            raise ValueError(f"EarlyStopping: patience must be a positive integer, got {patience!r}")
        self.patience, self.restore_best = patience, restore_best
        self.waited = 0
        self._weights: dict | None = None

    def on_epoch_end(self, trainer, row) -> None:
        """Count epochs without progress; ask to stop when there are too many."""
        if row["epoch"] > trainer.epoch:  # cut off by the number of steps: not a whole epoch
            return
        if self.improved(row):
            self.waited = 0
            if self.restore_best:
                state = trainer.model.state_dict()
                self._weights = {name: np.array(serialization.to_numpy(value)) for name, value in state.items()}
            return
        self.waited += 1
        if self.waited >= self.patience:
            trainer.stop(f"{self.monitor} has not improved since epoch {self.best_epoch}")

    def on_fit_end(self, trainer) -> None:
        """Put the best weights back."""
        if self._weights is not None and not trainer.interrupted:
            trainer.model.load_state_dict(self._weights)

    def state_dict(self) -> dict:
        """Best value, epochs waited, and the best weights if they are kept."""
        return {**super().state_dict(), "waited": self.waited, "weights": self._weights}

    def load_state_dict(self, state: dict) -> None:
        """Restore it."""
        super().load_state_dict(state)
        self.waited, self._weights = state["waited"], state["weights"]


class BestCheckpoint(_Monitor):
    """Save the model's weights (`fastdl.save`) whenever `monitor` is better than ever before."""

    def __init__(self, path, monitor: str = "val_loss", mode: str = "auto"):
        super().__init__(monitor, mode)
        self.path = path

    def on_epoch_end(self, trainer, row) -> None:
        """Save if better."""
        if self.improved(row):
            serialization.save(trainer.model.state_dict(), self.path)


class Checkpoint(Callback):
    """Save a checkpoint after every epoch, every `every_steps` steps, and when `fit` ends or is interrupted.

    path: the file, replaced atomically each time.
    every_epochs: default 1; every_steps: default None, not within an epoch.
    """

    priority = 100

    def __init__(self, path, every_epochs: int = 1, every_steps: int | None = None):
        for name, value in (("every_epochs", every_epochs), ("every_steps", every_steps)):
            if value is not None and (not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 1):
                raise ValueError(f"Checkpoint: {name} must be a positive integer or None, got {value!r}")
        self.path, self.every_epochs, self.every_steps = path, every_epochs, every_steps
        self._saved: tuple | None = None  # where training was when it was saved last

    def on_fit_start(self, trainer) -> None:
        """Fail now, not after an hour, where safetensors or the folder is missing; tidy up after killed writers."""
        serialization.require_safetensors()
        directory = os.path.dirname(os.path.abspath(os.fspath(self.path)))
        if not os.path.isdir(directory):
            raise FileNotFoundError(f"Checkpoint: path must lie in an existing folder, got {os.fspath(self.path)!r}")
        serialization.remove_stale(self.path)
        self._saved = None

    def on_step_end(self, trainer) -> None:
        """Save every so many steps."""
        if self.every_steps is not None and trainer.step % self.every_steps == 0:
            self._save(trainer)

    def on_epoch_end(self, trainer, row) -> None:
        """Save every so many epochs."""
        if self.every_epochs is not None and row["epoch"] % self.every_epochs == 0:
            self._save(trainer)

    def on_fit_end(self, trainer) -> None:
        """Save the end, or where it was interrupted."""
        self._save(trainer)

    def _save(self, trainer) -> None:
        where = (trainer.step, trainer.epoch, trainer.batch, len(trainer.history), trainer.stop_reason)
        if where != self._saved:
            save_checkpoint(self.path, trainer)
            self._saved = where


class CSVLogger(Callback):
    """Write the history to a CSV file, a row per epoch, on disk as soon as the epoch is done.

    The file always equals the history: a resumed run first rewrites the rows that its checkpoint knows, so that no
    row is there twice or missing. Columns are those of the first row; numbers are written exactly (repr).
    """

    def __init__(self, path):
        self.path = path
        self._columns: list | None = None

    def on_fit_start(self, trainer) -> None:
        """Write the rows so far."""
        self._columns = None
        text = "".join(self._line(row) for row in trainer.history)
        serialization.write_text(self.path, text)

    def on_epoch_end(self, trainer, row) -> None:
        """Append the row."""
        with open(self.path, "a", encoding="utf-8", newline="") as file:
            file.write(self._line(row))

    def _line(self, row: dict) -> str:
        lines = []
        if self._columns is None:
            self._columns = list(row)
            lines.append(self._columns)
        lines.append([row.get(name, "") for name in self._columns])
        out = _Lines()
        csv.writer(out, lineterminator="\n").writerows(lines)
        return "".join(out)


class _Lines(list):
    """The file that csv.writer wants, as a list of lines."""

    write = list.append


class TensorBoardLogger(Callback):
    """Write losses, metrics, learning rate and speed as TensorBoard event files into `folder` (needs tensorboardX).

    Curves of training and validation share a chart, by step. After a resume, events past the checkpoint are hidden.
    """

    def __init__(self, folder):
        self.folder = folder
        self._writer = None

    def on_fit_start(self, trainer) -> None:
        """Open the event file."""
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise ImportError('TensorBoard logs need tensorboardX: pip install "fastdl[train]"') from error
        self._writer = SummaryWriter(os.fspath(self.folder), purge_step=trainer.step + 1)

    def on_epoch_end(self, trainer, row) -> None:
        """Write the row."""
        for name, value in row.items():
            if name not in ("epoch", "step"):
                part = "validation" if name.startswith("val_") else "train"
                tag = "lr" if name == "lr" else f"{name.removeprefix('val_')}/{part}"
                self._writer.add_scalar(tag, value, row["step"])
        self._writer.add_scalar("samples_per_second", trainer.samples_per_second, row["step"])
        self._writer.flush()

    def on_exit(self, trainer) -> None:
        """Close the event file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
