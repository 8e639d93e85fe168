"""The training loop: fit, evaluate, predict."""

from __future__ import annotations

import math
import time
import warnings

import numpy as np

from .. import random
from ..functional.precision import PRECISIONS, autocast
from ..kernels import beside, is_array
from ..serialization import to_numpy
from ..tensor import Tensor
from . import metrics as metric_functions
from .callbacks import Callback, LRSchedule
from .evaluation import evaluating
from .interrupt import CatchInterrupt
from .progress import ProgressBar
from .steps import Steps, split


class Trainer:
    """Train a model: batches, validation, history, callbacks, checkpoints.

    model: an `nn.Module`.
    optimizer: one of `fastdl.optim`; only `fit` needs it.
    loss: function or module, loss(output, target) -> 0-d tensor, the mean over the batch; only `predict` can do
        without.
    metrics: names ("accuracy"), functions f(output, target) -> number or one value per sample, or a dict of them.
    callbacks: `Callback`s, called in this order; those with another `priority` earlier or later.
    scheduler: one of `optim.lr_scheduler`, advanced after every "epoch" or "step" (scheduler_every).
    max_grad_norm: the gradient's norm is clipped to this; None (default) leaves it.
    capture: replay the step as a recorded program (`fastdl.capture`), same bits, less time; a step that can't be runs
        as written after a warning. None (default): yes, unless a subclass overrides `train_step`, whose Python code
        would run for the first batches only.
    precision: "fp32", or "bf16": model and loss run within `fastdl.autocast`, weights and the optimizer's state stay
        float32. Meant for GPUs with tensor cores; on the host it is slower than "fp32".

    After `fit`, `history` is a list of dicts, one per epoch: epoch, step, lr (of its last step), loss, each metric, and
    loss and metrics of the validation with "val_" before their names. `epoch` and `step` count what is done,
    `stop_reason` tells why `fit` ended early (None: it did not).
    A loss that is not finite raises FloatingPointError: training cannot recover from it. On the GPU, which is not
    waited for at every step, up to 64 steps later, and before anything is saved.

    >>> trainer = Trainer(model, optim.Adam(model.parameters()), nn.functional.cross_entropy, ["accuracy"])
    >>> trainer.fit(loader, validation, epochs=3)
    """

    def __init__(
        self,
        model,
        optimizer=None,
        loss=None,
        metrics=(),
        callbacks=(),
        scheduler=None,
        *,
        scheduler_every: str = "epoch",
        max_grad_norm: float | None = None,
        capture: bool | None = None,
        precision: str = "fp32",
    ):
        if not callable(model):
            raise TypeError(f"Trainer: model must be an nn.Module, got {type(model).__name__}")
        if loss is not None and not callable(loss):
            raise TypeError(f"Trainer: loss must be a function or module, got {type(loss).__name__}")
        if max_grad_norm is not None and not max_grad_norm > 0:
            raise ValueError(f"Trainer: max_grad_norm must be positive, got {max_grad_norm}")
        if precision not in PRECISIONS:
            raise ValueError(f"Trainer: precision must be 'fp32' or 'bf16', got {precision!r}")
        for callback in callbacks:
            if not isinstance(callback, Callback):
                raise TypeError(f"Trainer: callbacks must be Callbacks, got {type(callback).__name__}")
        self.model, self.optimizer, self.loss = model, optimizer, loss
        self.metrics = metric_functions.resolve(metrics)
        self.max_grad_norm = max_grad_norm
        self.precision, self._autocast = precision, autocast(enabled=precision == "bf16")
        self.capture = type(self).train_step is Trainer.train_step if capture is None else bool(capture)
        self._steps = Steps(self)
        schedule = [LRSchedule(scheduler, scheduler_every)] if scheduler is not None else []
        self.callbacks = sorted([*schedule, *callbacks], key=lambda callback: callback.priority)

        self.history: list[dict] = []
        self.epoch = 0  # epochs completed
        self.step = 0  # steps completed
        self.batch = 0  # steps completed in the running epoch
        self.stop_reason: str | None = None
        self.interrupted = False
        self.target_epochs: int | None = None
        self.target_steps: int | None = None
        self.steps_per_epoch: int | None = None
        self.samples = 0  # training samples seen and seconds spent on them by this process
        self.seconds = 0.0
        self.sums = metric_functions.Average()
        self._lr: float | None = None  # of the last step
        self._validating = False  # all batches of the running epoch are done, its row is not written yet
        self._loader = None
        self._pending_loader = None
        self._pending_random = None
        self._interrupt = CatchInterrupt()

    # ---- fit ---------------------------------------------------------------------------------------------------

    def fit(self, train, validation=None, epochs: int | None = None, steps: int | None = None) -> list[dict]:
        """Train until `epochs` epochs or `steps` steps are done in all, whichever comes first; returns the history.

        train, validation: loaders (or lists) of (input, target) batches. Validation runs after every epoch, and
            after the last step; give it in a fixed order.
        epochs, steps: totals since the beginning: calling `fit` again, or after `load_checkpoint`, does what is
            left, and a run that was stopped within an epoch goes on within it. At least one must be given.

        The first Ctrl-C ends `fit` cleanly after the running step (`interrupted` is then True, `Checkpoint` saves, and
        `ProgressBar` says so, or else a RuntimeWarning), the second raises KeyboardInterrupt. Raises ValueError for
        epochs or steps that are not positive integers and for a loader without batches.
        """
        self._prepare(train, epochs, steps)
        try:
            with CatchInterrupt() as self._interrupt:
                self._notify("on_fit_start")
                while not self._done():
                    self._run_epoch(train, validation)
                if self._row_missing() and not self._interrupt.requested:
                    self._end_epoch(validation, complete=False)
                self.interrupted = self._interrupt.requested and (not self._reached() or self._row_missing())
                self._pending_loader = self._loader_state() if self.batch else None
                self._notify("on_fit_end")
        finally:
            self._notify("on_exit")
        if self.interrupted and not any(isinstance(callback, ProgressBar) for callback in self.callbacks):
            warnings.warn(f"fit: interrupted after step {self.step:,}; fit again goes on there", RuntimeWarning, 2)
        return self.history

    def stop(self, reason: str) -> None:
        """Ask `fit` to end after the running step or epoch; for callbacks. The reason is kept in checkpoints: a
        stopped run that is resumed stays stopped."""
        self.stop_reason = reason

    @property
    def samples_per_second(self) -> float:
        """Training samples per second of this process, without validation; 0 before the first step."""
        return self.samples / self.seconds if self.seconds else 0.0

    @property
    def running(self) -> dict:
        """Loss and metrics of the running epoch so far."""
        self.check_loss()
        return self.sums.means()

    @property
    def lr(self) -> float:
        """The learning rate of the optimizer's first group."""
        return float(self.optimizer.param_groups[0]["lr"])

    def train_step(self, inputs, target):
        """One step of training; returns (loss, output). Override it for another way to train."""
        self.optimizer.zero_grad()
        with self._autocast:
            output = self.model(inputs)
            loss = self.loss(output, target)
        loss.backward()
        if self.max_grad_norm is not None:
            from ..optim.clip import clip_grad_norm_

            clip_grad_norm_(self.model.parameters(), self.max_grad_norm)
        self.optimizer.step()
        return loss, output

    def _prepare(self, train, epochs, steps) -> None:
        if self.optimizer is None or self.loss is None:
            raise ValueError("fit: the Trainer needs an optimizer and a loss")
        if epochs is None and steps is None:
            raise ValueError("fit: epochs or steps must be given")
        for name, value in (("epochs", epochs), ("steps", steps)):
            if value is not None and (not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 1):
                raise ValueError(f"fit: {name} must be a positive integer, got {value!r}")
        if not hasattr(train, "__iter__"):
            raise TypeError(f"fit: train must be a loader of batches, got {type(train).__name__}")
        self.steps_per_epoch = len(train) if hasattr(train, "__len__") else None
        if self.steps_per_epoch == 0:
            raise ValueError("fit: the training loader has no batches")
        self.target_epochs, self.target_steps = epochs, steps
        self.interrupted = False
        self._loader = train
        if self._pending_random is not None:
            random.default_generator.load_state_dict(self._pending_random)
            self._pending_random = None
        if self._pending_loader is not None and hasattr(train, "load_state_dict"):
            train.load_state_dict(self._pending_loader)
        self._pending_loader = None
        self._interrupt = CatchInterrupt()
        if not self._reached() and self.history and self.history[-1]["epoch"] > self.epoch:
            self.history.pop()  # the row of an epoch that was left early and now goes on

    def _row_missing(self) -> bool:
        """Whether an epoch has begun that has no row in the history."""
        return self.batch > 0 and (not self.history or self.history[-1]["epoch"] <= self.epoch)

    def _done(self) -> bool:
        return self._interrupt.requested or self._reached()

    def _reached(self) -> bool:
        """Whether all epochs or steps are done, or a callback asked to stop."""
        return (
            self.stop_reason is not None
            or (self.target_steps is not None and self.step >= self.target_steps)
            or (self.target_epochs is not None and self.epoch >= self.target_epochs)
        )

    def _run_epoch(self, train, validation) -> None:
        if not self._validating:
            self._train_epoch(train)
        if self._validating:
            self._end_epoch(validation, complete=True)

    def _train_epoch(self, train) -> None:
        """Steps until the loader runs out (then `_validating` is set) or `fit` should end."""
        self.model.train()
        if self.batch == 0:
            self.sums = metric_functions.Average()
        batches, take = self._steps.of(train)
        if self.batch and not hasattr(train, "load_state_dict"):  # a plain list: skip what was done
            for _ in range(self.batch):
                next(batches, None)
        self._notify("on_epoch_start")
        # After its last batch an epoch is always brought to its end, whatever stops the run then.
        while not self._done() or self.batch == self.steps_per_epoch:
            start = time.perf_counter()
            batch = next(batches, None)
            if batch is None:
                if self.batch == 0:
                    raise ValueError("fit: the training loader has no batches")
                self.check_loss()
                self.seconds += time.perf_counter() - start  # for the GPU to end what it was given
                self._validating = True
                return
            self._lr = self.lr
            n = take(batch)
            self.step += 1
            self.batch += 1
            self.samples += n
            self.seconds += time.perf_counter() - start
            self._notify("on_step_end")

    def check_loss(self, when: str = "by") -> None:
        """Raise FloatingPointError if the loss of a step was not finite; on the GPU, of one since the last check."""
        total = self.sums.sums.get("loss", 0.0)
        if not math.isfinite(total):
            raise FloatingPointError(
                f"the loss became {total} {when} step {self.step + 1} (epoch {self.epoch + 1}); "
                "try a smaller learning rate or max_grad_norm"
            )

    def _end_epoch(self, validation, complete: bool) -> None:
        """Validate, write the row of the epoch, tell the callbacks. Ctrl-C during validation leaves the epoch open."""
        row = {"epoch": self.epoch + 1, "step": self.step, "lr": self._lr, **self.sums.means()}
        if validation is not None:
            measured = self._average(validation, "fit", lambda: self._interrupt.requested)
            if measured is None:
                return
            row.update(measured.means("val_"))
        self.history.append(row)
        if complete:
            self.epoch += 1
            self.batch = 0
            self._validating = False
        self._notify("on_epoch_end", row)

    # ---- evaluate, predict -------------------------------------------------------------------------------------

    def evaluate(self, loader) -> dict:
        """Loss and metrics over a loader, with the model in evaluation mode: {"loss": ..., "accuracy": ...}.

        Means over samples, not over batches. Raises ValueError for a loader without batches.
        """
        if self.loss is None:
            raise ValueError("evaluate: the Trainer needs a loss")
        return self._average(loader, "evaluate").means()

    def predict(self, data, batch_size: int = 256) -> np.ndarray:
        """The model's outputs for all samples, (N, ...), with the model in evaluation mode.

        data: a loader whose batches are inputs or (input, target), or an array or Tensor of N inputs, which is cut
            into batches of batch_size, each copied to where the model's parameters lie.
        """
        if isinstance(data, Tensor) or is_array(data):
            if not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
                raise ValueError(f"predict: batch_size must be a positive integer, got {batch_size!r}")
            array = to_numpy(data)
            if len(array) == 0:
                raise ValueError(f"predict: data must hold at least one sample, got shape {array.shape}")
            there = next(iter(self.model.parameters()), None) if hasattr(self.model, "parameters") else None
            parts = (array[i : i + batch_size] for i in range(0, len(array), batch_size))
            data = (Tensor(part if there is None else beside(part, there.data)) for part in parts)
        outputs = []
        with evaluating(self.model, self._autocast):
            for batch in data:
                inputs = batch[0] if isinstance(batch, (tuple, list)) else batch
                output = self.model(inputs)
                outputs.append(np.array(to_numpy(output.float() if output.dtype.name == "bfloat16" else output)))
        if not outputs:
            raise ValueError("predict: the loader has no batches")
        return np.concatenate(outputs)

    def _average(self, loader, caller: str, stop=lambda: False):
        """Averages over a loader in evaluation mode, or None when `stop()` came true on the way."""
        sums = metric_functions.Average()
        with evaluating(self.model, self._autocast):
            for batch in loader:
                if stop():
                    return None
                inputs, target = split(batch, caller)
                output = self.model(inputs)
                n = len(inputs)
                sums.add("loss", self.loss(output, target), n)
                for name, metric in self.metrics.items():
                    sums.add(name, metric(output, target), n)
                sums.count += n
        if sums.count == 0:
            raise ValueError(f"{caller}: the {'validation ' if caller == 'fit' else ''}loader has no batches")
        return sums

    # ---- state -------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict:
        """Everything that decides how training goes on; what a checkpoint holds."""
        self.check_loss()
        progress = {"epoch": self.epoch, "step": self.step, "batch": self.batch, "validating": self._validating}
        progress.update(lr=self._lr, stop_reason=self.stop_reason, average=self.sums.state_dict())
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict() if self.optimizer is not None else None,
            "callbacks": {name: callback.state_dict() for name, callback in self._named_callbacks()},
            "loader": self._loader_state(),
            "random": self._pending_random or random.default_generator.state_dict(),
            "progress": progress,
            "history": [dict(row) for row in self.history],
        }

    def load_state_dict(self, state: dict) -> None:
        """Restore `state_dict()`. The loader's position and the random state take effect when `fit` starts.

        The model must fit; the state of callbacks that this Trainer does not have is left out.
        """
        self.model.load_state_dict(state["model"])
        if self.optimizer is not None and state["optimizer"] is not None:
            self.optimizer.load_state_dict(state["optimizer"])
        for name, callback in self._named_callbacks():
            if name in state["callbacks"]:
                callback.load_state_dict(state["callbacks"][name])
        progress = state["progress"]
        self.epoch, self.step, self.batch = progress["epoch"], progress["step"], progress["batch"]
        self._validating, self.stop_reason, self._lr = progress["validating"], progress["stop_reason"], progress["lr"]
        self.sums = metric_functions.Average(**progress["average"])
        self.history = [dict(row) for row in state["history"]]
        self._pending_loader, self._pending_random = state["loader"], state["random"]

    def _loader_state(self):
        if self._pending_loader is not None:  # loaded, and not yet handed to a loader
            return self._pending_loader
        return self._loader.state_dict() if hasattr(self._loader, "state_dict") else None

    def _named_callbacks(self):
        """(name, callback) for checkpoints: the class's name, numbered from the second of its kind."""
        seen: dict = {}
        for callback in self.callbacks:
            kind = type(callback).__name__
            seen[kind] = seen.get(kind, 0) + 1
            yield kind if seen[kind] == 1 else f"{kind}.{seen[kind]}", callback

    def _notify(self, hook: str, *args) -> None:
        # The last to be called at the start is the first at the end: a checkpoint is saved before early stopping puts
        # back the best weights, and holds those that training would go on with.
        order = reversed(self.callbacks) if hook in ("on_fit_end", "on_exit") else self.callbacks
        for callback in order:
            getattr(callback, hook)(self, *args)
