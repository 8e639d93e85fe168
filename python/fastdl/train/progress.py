"""The progress of training: a table row per epoch and, on a terminal, a live bar under it."""

from __future__ import annotations

import os
import shutil
import sys
import time

from .callbacks import Callback

_REFRESH = 0.1  # seconds between two drawings of the bar
_ROWS = 25  # about so many rows are printed for a long run


class ProgressBar(Callback):
    """Show loss, metrics and samples per second: a table row per epoch, and a live bar on a terminal (needs rich).

    Without rich, or where the output is no terminal, only the rows are printed. A run of very many epochs prints every
    n-th row.

    unit: what a sample is called, e.g. "images". Default "samples".
    file: default sys.stdout.
    """

    priority = 90  # after everything that may take part in an epoch's row, before the checkpoint

    def __init__(self, unit: str = "samples", file=None):
        self.unit, self.file = unit, file
        self._bar = None

    def on_fit_start(self, trainer) -> None:
        """Print the head of the table and start the bar."""
        self._start = self._drawn = time.perf_counter()
        self._mark = (trainer.samples, trainer.seconds)
        self._best: dict = {}
        self._first_step = trainer.step
        self._total = _total_steps(trainer)
        epochs = _total_epochs(trainer)
        self._every = max(1, -(-(epochs or 1) // _ROWS)) if (epochs or 0) > 2 * _ROWS else 1
        self._epochs = epochs
        self._last_row: tuple | None = None
        file = self.file or sys.stdout
        self._bar = _bar_for(file)
        self._print = self._bar.print if self._bar else lambda text, style: print(text, file=file, flush=True)
        self._head(trainer)
        if self._bar:
            self._bar.start(self._total)

    def on_step_end(self, trainer) -> None:
        """Redraw the bar, ten times a second at most."""
        if self._bar is None:
            return
        now = time.perf_counter()
        if now - self._drawn >= _REFRESH:
            self._drawn = now
            self._draw(trainer, now)

    def on_epoch_end(self, trainer, row) -> None:
        """Print the epoch's row."""
        samples, seconds = trainer.samples - self._mark[0], trainer.seconds - self._mark[1]
        speed = f"{samples / seconds:,.0f}" if seconds else ""
        elapsed = time.perf_counter() - self._start
        cells = [self._label(row["epoch"])]
        cells += [_number(name, row.get(name)) for name in self._names]
        cells += [speed, _clock(elapsed)]
        text = "  ".join(cell.rjust(width) for cell, width in zip(cells, self._widths))
        style = "bold" if self._improved(row) else None
        if row["epoch"] % self._every == 0 or row["epoch"] == 1 or row["epoch"] > trainer.epoch:
            self._print(text, style)
            self._mark = (trainer.samples, trainer.seconds)
            self._last_row = None
        else:
            self._last_row = (text, style)
        if self._bar:
            self._draw(trainer, time.perf_counter())

    def on_fit_end(self, trainer) -> None:
        """Print the last row, if it was left out, and why training ended early."""
        if self._last_row:
            self._print(*self._last_row)
        if trainer.interrupted:
            self._print(f"interrupted after step {trainer.step:,}", "yellow")
        elif trainer.stop_reason:
            self._print(f"stopped early: {trainer.stop_reason}", "yellow")

    def on_exit(self, trainer) -> None:
        """Remove the bar and give the terminal back."""
        if self._bar:
            self._bar.stop()
            self._bar = None

    def _head(self, trainer) -> None:
        names = ["loss", *(name for name in trainer.metrics if name != "loss")]
        # The names come from the trainer: whether there is validation is known after the first epoch only.
        self._names = [*names, *(f"val_{name}" for name in names)]
        heads = ["epoch", *(name.replace("_", " ") for name in self._names), f"{self.unit}/s", "time"]
        least = [len(self._label(self._epochs or 999)), *(8 for _ in self._names), 9, 6]
        self._widths = [max(len(head), width) for head, width in zip(heads, least)]
        self._print("  ".join(head.rjust(width) for head, width in zip(heads, self._widths)), "dim")

    def _label(self, epoch: int) -> str:
        return f"{epoch}/{self._epochs}" if self._epochs else str(epoch)

    def _improved(self, row: dict) -> bool:
        """Whether the validation loss (or else the loss) is the lowest so far."""
        name = "val_loss" if "val_loss" in row else "loss"
        better = row[name] < self._best.get(name, float("inf"))
        if better:
            self._best[name] = row[name]
        return better

    def _draw(self, trainer, now: float) -> None:
        seconds = now - self._start
        done = trainer.step - self._first_step
        left = ""
        if self._total and done:
            left = _clock(seconds * (self._total - trainer.step) / done) + " left"
        short = {"accuracy": "acc"}
        figures = "  ".join(f"{short.get(k, k)} {_number(k, v)}" for k, v in trainer.running.items())
        speed = f"{trainer.samples_per_second:,.0f} {self.unit}/s"
        epoch = min(trainer.epoch + 1, self._epochs or trainer.epoch + 1)
        self._bar.draw(trainer.step, f"epoch {self._label(epoch)}", figures, speed, left)


class _Bar:
    """The live bar, drawn by rich at the foot of the terminal."""

    def __init__(self, console):
        from rich.progress import BarColumn, Progress, TextColumn

        self._console = console
        self._progress = Progress(
            TextColumn("{task.fields[epoch]}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[figures]}"),
            TextColumn("{task.fields[speed]}", style="cyan"),
            TextColumn("{task.fields[left]}", style="dim"),
            console=console,
            auto_refresh=False,
            transient=True,
            expand=True,
        )

    def print(self, text: str, style) -> None:
        from rich.text import Text

        self._console.print(Text(text, style=style or "", no_wrap=True, overflow="ignore"), crop=False)

    def start(self, total) -> None:
        self._fit()
        self._progress.start()
        self._task = self._progress.add_task("", total=total, epoch="", figures="", speed="", left="")

    def draw(self, step: int, epoch: str, figures: str, speed: str, left: str) -> None:
        self._fit()
        fields = {"epoch": epoch, "figures": figures, "speed": speed, "left": left}
        self._progress.update(self._task, completed=step, refresh=True, **fields)

    def stop(self) -> None:
        self._progress.stop()

    def _fit(self) -> None:
        """Leave room for the ^C that a terminal echoes: a full line would be pushed up and stay."""
        self._console.width = max(shutil.get_terminal_size().columns - 3, 20)


def _bar_for(file):
    """A bar if `file` is a terminal and rich is there, else None."""
    if not (hasattr(file, "isatty") and file.isatty()) or os.environ.get("TERM") == "dumb":
        return None
    try:
        from rich.console import Console
    except ImportError:
        return None
    return _Bar(Console(file=file))


def _total_steps(trainer) -> int | None:
    """How many steps the run takes, or None where the loader's length is not known."""
    steps = trainer.target_steps
    if trainer.target_epochs is not None and trainer.steps_per_epoch is not None:
        whole = trainer.target_epochs * trainer.steps_per_epoch
        steps = whole if steps is None else min(steps, whole)
    return steps


def _total_epochs(trainer) -> int | None:
    epochs, total = trainer.target_epochs, _total_steps(trainer)
    if total is not None and trainer.steps_per_epoch is not None:
        epochs = -(-total // trainer.steps_per_epoch)
    return epochs


def _number(name: str, value) -> str:
    """A figure as a person reads it: 97.2 % for accuracies, four digits for the rest."""
    if value is None:
        return "-"
    if name.endswith("accuracy"):
        return f"{100 * value:.2f} %"
    return f"{value:.4f}" if 1e-3 <= abs(value) < 1e4 or value == 0 else f"{value:.2e}"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
