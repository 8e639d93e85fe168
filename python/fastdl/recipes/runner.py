"""Train a recipe into a run folder: settings, history, pictures, weights, checkpoint."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import time

from .. import __version__, get_device, random, save, set_device
from .. import train as training
from ..serialization import write_text
from . import describe, get
from .settings import Settings
from .task import Task, make_optimizer, make_scheduler

CONFIG, CHECKPOINT, HISTORY = "config.json", "checkpoint.safetensors", "history.csv"
MODEL, CURVES, FIRST_LAYER = "model.safetensors", "curves.png", "first_layer.png"


def run(
    name: str,
    settings: Settings,
    *,
    out=None,
    device: str | None = None,
    capture: bool | None = None,
    resume: bool = False,
    callbacks=(),
    started=None,
) -> dict:
    """Train the recipe `name` and return the result, a dict ready for JSON.

    out: the run folder; default runs/<recipe>-<timestamp>. It must not hold a run already, except to resume it.
    device: "numpy", "cpu" or "cuda"; default: the one in use.
    capture: replay the training step as a recorded program; None: where `Trainer` does by default.
    resume: go on from the checkpoint in `out`, with these settings (of which only epochs and steps may have changed).
    callbacks: more callbacks; a ProgressBar among them replaces the usual one.
    started: called with (task, trainer, folder) before training begins or goes on.

    The result has recipe, settings, device, version, folder, parameters, epochs, steps, resumed_at (the step that this
    process went on from), seconds, samples_per_second, unit, interrupted, stopped, and train, validation and test with
    loss and metrics. `train` is the running average of the last epoch, with dropout; the others are measured at the
    end. After Ctrl-C, validation and test are None.
    """
    require_extras()
    if device is not None:
        set_device(device)
    folder = os.fspath(out) if out is not None else None
    if resume and not os.path.isfile(os.path.join(folder, CONFIG)):
        raise FileNotFoundError(f"{folder} holds no run to resume: it has no {CONFIG}")
    # Read the data before a folder is made: most mistakes show here.
    random.manual_seed(settings.seed)
    task = get(name).build(settings)
    trainer = make_trainer(task, settings, capture)
    if not resume:
        folder = make_folder(name, folder)
    _write_config(folder, name, settings, task)
    trainer.callbacks = sorted([*trainer.callbacks, *_callbacks(folder, settings, task, callbacks)], key=_priority)
    checkpoint = os.path.join(folder, CHECKPOINT)
    if resume and os.path.exists(checkpoint):
        training.load_checkpoint(checkpoint, trainer)
    if started is not None:
        started(task, trainer, folder)
    start, resumed_at = time.perf_counter(), trainer.step
    epochs = None if settings.steps is not None else settings.epochs
    trainer.fit(task.train, task.validation, epochs=epochs, steps=settings.steps)
    seconds = time.perf_counter() - start
    result = _result(name, settings, folder, task, trainer, seconds)
    result["resumed_at"] = resumed_at
    if not trainer.interrupted:
        result["validation"] = trainer.evaluate(task.validation)
        result["test"] = trainer.evaluate(task.test)
        save(task.model.state_dict(), os.path.join(folder, MODEL))
        training.plots.curves(trainer.history, os.path.join(folder, CURVES), title=describe(name))
        training.plots.first_layer(task.model, os.path.join(folder, FIRST_LAYER), image_shape=task.image_shape)
    return result


def make_trainer(task: Task, settings: Settings, capture: bool | None = None) -> training.Trainer:
    """The Trainer of a task, without callbacks that write files."""
    optimizer = make_optimizer(settings, task.model.parameters())
    total = settings.steps or settings.epochs * len(task.train)
    early = []
    if settings.patience is not None:
        early = [training.EarlyStopping(patience=settings.patience, restore_best=True)]
    return training.Trainer(
        task.model,
        optimizer,
        task.loss,
        task.metrics,
        callbacks=early,
        scheduler=make_scheduler(settings, optimizer, total),
        scheduler_every="step",
        max_grad_norm=settings.max_grad_norm,
        capture=capture,
        precision=settings.precision,
    )


def make_folder(name: str, out: str | None) -> str:
    """Make and return the run folder: `out`, or runs/<recipe>-<timestamp> (numbered if two start in one second)."""
    if out is not None:
        if os.path.exists(os.path.join(out, CONFIG)):
            raise FileExistsError(f"{out} already holds a run; resume it or choose another folder")
        os.makedirs(out, exist_ok=True)
        return out
    base = os.path.join("runs", f"{name}-{time.strftime('%Y%m%d-%H%M%S')}")
    number = 1
    while True:
        folder = base if number == 1 else f"{base}-{number}"
        try:
            os.makedirs(folder)
            return folder
        except FileExistsError:
            number += 1


def read_config(folder: str) -> tuple[str, dict]:
    """(recipe, settings) of a run folder; FileNotFoundError or ValueError saying what is wrong."""
    path = os.path.join(folder, CONFIG)
    try:
        with open(path, encoding="utf-8") as file:
            config = json.load(file)
        return config["recipe"], dict(config["settings"])
    except FileNotFoundError:
        raise FileNotFoundError(f"{folder} holds no run to resume: it has no {CONFIG}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {error!r}") from error


def require_extras() -> None:
    """Raise ImportError, before any work, when a package that a run folder needs is missing."""
    from importlib.util import find_spec

    missing = [package for package in ("safetensors", "matplotlib") if find_spec(package) is None]
    if missing:
        raise ImportError(f'training a recipe needs {" and ".join(missing)}: pip install "fastdl[train]"')


def json_text(value) -> str:
    """Strict JSON, indented: NaN and infinities, which JSON does not have, become null."""

    def clean(node):
        if isinstance(node, dict):
            return {key: clean(item) for key, item in node.items()}
        if isinstance(node, (list, tuple)):
            return [clean(item) for item in node]
        return None if isinstance(node, float) and not math.isfinite(node) else node

    return json.dumps(clean(value), indent=2, allow_nan=False) + "\n"


def _write_config(folder: str, name: str, settings: Settings, task: Task) -> None:
    config = {"recipe": name, "settings": dataclasses.asdict(settings), "device": get_device(), "fastdl": __version__}
    # What a person needs to use the weights elsewhere.
    config |= {"model": type(task.model).__name__, "input": task.conversion}
    write_text(os.path.join(folder, CONFIG), json_text(config))


def _callbacks(folder: str, settings: Settings, task: Task, more) -> list:
    checkpoint = training.Checkpoint(
        os.path.join(folder, CHECKPOINT), settings.checkpoint_epochs, settings.checkpoint_steps
    )
    found = [training.CSVLogger(os.path.join(folder, HISTORY)), checkpoint, *more]
    if settings.tensorboard:
        found.append(training.TensorBoardLogger(folder))
    if not any(isinstance(callback, training.ProgressBar) for callback in more):
        found.append(training.ProgressBar(unit=task.unit))
    return found


def _count(model) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _priority(callback) -> int:
    return callback.priority


def _result(name: str, settings: Settings, folder: str, task: Task, trainer, seconds: float) -> dict:
    row = trainer.history[-1] if trainer.history else {}
    return {
        "recipe": name,
        "settings": dataclasses.asdict(settings),
        "device": get_device(),
        "version": __version__,
        "folder": folder,
        "parameters": _count(task.model),
        "epochs": trainer.epoch,
        "steps": trainer.step,
        "seconds": seconds,
        "resumed_at": 0,
        "samples_per_second": trainer.samples_per_second,
        "unit": task.unit,
        "interrupted": trainer.interrupted,
        "stopped": trainer.stop_reason,
        "train": {key: row[key] for key in ("loss", *trainer.metrics) if key in row},
        "validation": None,
        "test": None,
    }
