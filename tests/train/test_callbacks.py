"""Early stopping, best weights, CSV and TensorBoard logs."""

import csv
import math
import sys

import numpy as np
import pytest

import fastdl as fd
from fastdl.train import BestCheckpoint, Checkpoint, CSVLogger, EarlyStopping, LambdaCallback, LRSchedule
from fastdl.train import TensorBoardLogger as TensorBoard

pytest.importorskip("safetensors")


class Stage:
    """What a monitoring callback sees of a Trainer."""

    def __init__(self):
        self.model = fd.nn.Linear(1, 1)
        self.epoch = 0
        self.reason = None
        self.interrupted = False

    def stop(self, reason):
        self.reason = reason

    def run(self, callback, values, monitor="val_loss"):
        """Feed a row per value; the model's weight is the epoch. Returns the epoch in which training stopped."""
        for value in values:
            self.epoch += 1
            self.model.load_state_dict({"weight": np.full((1, 1), self.epoch), "bias": np.zeros(1)})
            callback.on_epoch_end(self, {"epoch": self.epoch, monitor: value})
            if self.reason:
                break
        callback.on_fit_end(self)
        return self.epoch


@pytest.mark.parametrize(
    "arguments, monitor, values, stops",
    [
        ({"patience": 2}, "val_loss", [3, 2, 2, 2, 1], 4),
        ({"patience": 2}, "val_loss", [3, 2, 2, 1, 2, 2, 0], 6),
        ({"patience": 1}, "val_loss", [3, 2, 1, 0], 4),
        ({"patience": 1, "min_delta": 0.5}, "val_loss", [3, 2.6, 2], 2),
        ({"patience": 1}, "val_accuracy", [0.5, 0.6, 0.6, 0.7], 3),
        ({"patience": 1, "mode": "min"}, "val_accuracy", [0.6, 0.5, 0.6], 3),
        ({"patience": 2}, "val_loss", [1, math.nan, math.nan, 0], 3),
    ],
)
def test_early_stopping(arguments, monitor, values, stops):
    stage = Stage()
    assert stage.run(EarlyStopping(monitor, **arguments), values, monitor) == stops


def test_early_stopping_puts_back_the_best_weights():
    stage = Stage()
    assert stage.run(EarlyStopping(patience=2, restore_best=True), [3, 1, 2, 2]) == 4
    assert stage.model.weight.item() == 2
    assert "since epoch 2" in stage.reason


def test_early_stopping_goes_on_from_its_state():
    stage = Stage()
    first = EarlyStopping(patience=3, restore_best=True)
    for epoch, value in enumerate([3, 1, 2], start=1):
        stage.epoch = epoch
        first.on_epoch_end(stage, {"epoch": epoch, "val_loss": value})
    second = EarlyStopping(patience=3, restore_best=True)
    second.load_state_dict(first.state_dict())
    assert stage.run(second, [2, 2, 0]) == 5


def test_early_stopping_does_not_count_an_epoch_that_was_cut_off():
    stage = Stage()
    callback = EarlyStopping(patience=1)
    callback.on_epoch_end(stage, {"epoch": 1, "val_loss": 1.0})
    assert callback.best is None


def test_best_checkpoint_keeps_the_best_weights(tmp_path):
    path = tmp_path / "best.safetensors"
    Stage().run(BestCheckpoint(path, "val_accuracy"), [0.2, 0.9, 0.4], "val_accuracy")
    assert fd.load(path)["weight"].item() == 2


def test_csv_holds_the_history(problem, tmp_path):
    path = tmp_path / "history.csv"
    p = problem(callbacks=[CSVLogger(path)])
    p.fit(epochs=2)
    p.fit(steps=27)
    p.fit(epochs=4)
    with open(path, newline="") as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    assert rows == p.trainer.history
    assert len(rows) == 4


def test_csv_is_on_disk_when_the_epoch_is_done(problem, tmp_path):
    path = tmp_path / "history.csv"
    lines = []
    look = LambdaCallback(on_epoch_end=lambda trainer, row: lines.append(len(path.read_text().splitlines())))
    problem(callbacks=[CSVLogger(path), look]).fit(epochs=3)
    assert lines == [2, 3, 4]


def test_tensorboard_writes_events(problem, tmp_path):
    pytest.importorskip("tensorboardX")
    p = problem(callbacks=[TensorBoard(tmp_path)])
    p.fit(epochs=2)
    (file,) = tmp_path.iterdir()
    content = file.read_bytes()
    for tag in (b"loss/train", b"loss/validation", b"accuracy/validation", b"lr", b"samples_per_second"):
        assert content.count(tag) == 2, tag


@pytest.mark.parametrize(
    "callback, module, text",
    [
        (TensorBoard, "tensorboardX", 'TensorBoard logs need tensorboardX: pip install "fastdl[train]"'),
        (Checkpoint, "safetensors.numpy", 'needs safetensors: pip install "fastdl[train]"'),
    ],
)
def test_missing_extras_are_named_before_training(problem, tmp_path, monkeypatch, callback, module, text):
    monkeypatch.setitem(sys.modules, module, None)
    p = problem(callbacks=[callback(tmp_path / "x")])
    with pytest.raises(ImportError) as caught:
        p.fit(epochs=1)
    assert text in str(caught.value)
    assert p.trainer.step == 0


@pytest.mark.parametrize(
    "make, error, text",
    [
        (lambda: EarlyStopping(patience=0), ValueError, "patience must be a positive integer, got 0"),
        (lambda: EarlyStopping(patience=1.5), ValueError, "patience must be a positive integer, got 1.5"),
        (lambda: EarlyStopping(min_delta=-1), ValueError, "min_delta must be finite and not negative, got -1"),
        (lambda: EarlyStopping(min_delta=math.nan), ValueError, "min_delta must be finite and not negative, got nan"),
        (lambda: EarlyStopping(mode="low"), ValueError, "EarlyStopping: mode must be 'auto', .*got 'low'"),
        (lambda: BestCheckpoint("x", mode="low"), ValueError, "BestCheckpoint: mode must be"),
        (lambda: Checkpoint("x", every_epochs=0), ValueError, "every_epochs must be a positive integer or None, got 0"),
        (lambda: Checkpoint("x", every_steps=-1), ValueError, "every_steps must be a positive integer or None, got -1"),
        (lambda: LRSchedule(None, "batch"), ValueError, "every must be 'epoch' or 'step', got 'batch'"),
        (lambda: LambdaCallback(on_fit_begin=print), TypeError, "no hook is called 'on_fit_begin'"),
        (lambda: LambdaCallback(state_dict=print), TypeError, "no hook is called 'state_dict'"),
    ],
)
def test_what_callbacks_refuse(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_an_unknown_monitor_is_named(problem):
    p = problem(callbacks=[EarlyStopping("val_acuracy")])
    with pytest.raises(ValueError, match="monitor must be one of epoch, step, .*val_accuracy, got 'val_acuracy'"):
        p.fit(epochs=1)


def test_a_checkpoint_needs_its_folder(problem, tmp_path):
    p = problem(callbacks=[Checkpoint(tmp_path / "nowhere" / "c.safetensors")])
    with pytest.raises(FileNotFoundError, match="path must lie in an existing folder"):
        p.fit(epochs=1)
    assert p.trainer.step == 0
