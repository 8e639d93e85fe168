"""Checkpoints: killed anywhere, resumed to the same bits; damaged files are refused."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

import fastdl as fd
from fastdl import nn, optim, serialization, train
from fastdl.train import Checkpoint, LambdaCallback, load_checkpoint, save_checkpoint

safetensors = pytest.importorskip("safetensors.numpy")

SCRIPT = Path(__file__).with_name("interrupted_run.py")
FILES = ("model.safetensors", "history.csv", "checkpoint.safetensors")


def _run(folder, *arguments, **options):
    command = [sys.executable, "-W", "ignore", str(SCRIPT), str(folder), *arguments]
    where = {**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(fd.__file__))}
    return subprocess.Popen(command, text=True, env=where, **options)


def _finish(folder) -> dict:
    """Run to the end and return the files it leaves."""
    process = _run(folder)
    assert process.wait(timeout=120) == 0
    return {name: (folder / name).read_bytes() for name in FILES}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """What a run leaves that nobody disturbs."""
    return _finish(tmp_path_factory.mktemp("whole"))


def _kill_after(folder, step: int) -> None:
    """Kill a run with SIGKILL at some moment after it has announced `step`: in the step that follows, its checkpoint,
    the validation or the log."""
    process = _run(folder, "wait", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        for line in process.stdout:
            process.stdin.write("\n")
            process.stdin.flush()
            if int(line) >= step:
                break
    finally:
        process.kill()
        code = process.wait(timeout=60)
        process.stdout.close()
        process.stdin.close()
    assert code == -9


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_killed_run_resumes_to_the_same_bits(tmp_path, uninterrupted, seed):
    draw = random.Random(seed)
    first = draw.randrange(4, 40)
    second = draw.randrange(first, 47)
    print(f"killed after steps {first} and {second}")
    _kill_after(tmp_path, first)
    assert (tmp_path / "checkpoint.safetensors").exists()
    _kill_after(tmp_path, second)
    assert _finish(tmp_path) == uninterrupted


def test_killed_while_it_writes(tmp_path, uninterrupted):
    """The half-written file is not mistaken for a checkpoint, and is gone after the next run."""
    _kill_after(tmp_path, 6)
    path = tmp_path / "checkpoint.safetensors"
    half = tmp_path / ".checkpoint.safetensors.1.tmp"
    half.write_bytes(path.read_bytes()[:1000])
    assert _finish(tmp_path) == uninterrupted
    assert not half.exists()


def test_a_checkpoint_holds_everything(problem, tmp_path, same_bits):
    path = tmp_path / "c.safetensors"
    whole = problem()
    whole.fit(epochs=6)
    state = fd.random.default_generator.state_dict()

    first = problem()
    first.fit(steps=26)
    save_checkpoint(path, first.trainer)
    fd.manual_seed(99)
    second = problem(seed=5)
    load_checkpoint(path, second.trainer)
    second.train.generator.manual_seed(77)
    assert (second.trainer.epoch, second.trainer.step, second.trainer.batch) == (2, 26, 6)
    second.fit(epochs=6)
    same_bits(second.weights(), whole.weights())
    assert second.trainer.history == whole.trainer.history
    assert fd.random.default_generator.state_dict() == state
    assert second.trainer.lr == whole.trainer.lr


def test_every_epoch_and_every_few_steps(problem, tmp_path):
    path = tmp_path / "c.safetensors"
    seen = []

    class Spy(Checkpoint):
        def _save(self, trainer):
            super()._save(trainer)
            other = problem()
            load_checkpoint(path, other.trainer)
            seen.append((other.trainer.step, other.trainer.epoch))

    problem(callbacks=[Spy(path, every_epochs=2, every_steps=7)]).fit(steps=22)
    assert seen == [(7, 0), (14, 1), (20, 2), (21, 2), (22, 2)]


def test_arrays_are_tensors_and_nothing_is_pickled(problem, tmp_path):
    path = tmp_path / "c.safetensors"
    p = problem()
    p.fit(epochs=1)
    save_checkpoint(path, p.trainer)
    names = safetensors.load_file(path).keys()
    assert {"model.0.weight", "model.1.running_mean", "optimizer.state.0.exp_avg"} <= set(names)
    assert b"pickle" not in path.read_bytes()


@pytest.fixture
def saved(problem, tmp_path):
    """(path, bytes) of a checkpoint."""
    path = tmp_path / "c.safetensors"
    p = problem()
    p.fit(epochs=1)
    save_checkpoint(path, p.trainer)
    return path, path.read_bytes()


@pytest.mark.parametrize(
    "change, text",
    [
        (lambda raw: b"", "truncated or no safetensors file"),
        (lambda raw: raw[: len(raw) // 2], "truncated or no safetensors file"),
        (lambda raw: raw[:-1], "truncated or no safetensors file"),
        (lambda raw: b"\x00" * 4096, "truncated or no safetensors file"),
        (lambda raw: raw[:-3] + b"abc", "does not match its checksum"),
        (lambda raw: raw.replace(b'\\"step\\": 10', b'\\"step\\": 11', 1), "does not match its checksum"),
        (lambda raw: raw.replace(b'\\"checkpoint\\"', b'\\"checkp0int\\"'), "does not match its checksum"),
    ],
)
def test_damaged_checkpoints_are_refused(problem, saved, same_bits, change, text):
    path, raw = saved
    changed = change(raw)
    assert changed != raw
    path.write_bytes(changed)
    p = problem()
    before = p.weights()
    with pytest.raises(ValueError, match=text) as caught:
        load_checkpoint(path, p.trainer)
    assert str(path) in str(caught.value)
    same_bits(p.weights(), before)
    assert p.trainer.step == 0


def test_files_that_are_no_checkpoint(problem, tmp_path):
    p = problem()
    with pytest.raises(FileNotFoundError):
        load_checkpoint(tmp_path / "c.safetensors", p.trainer)
    fd.save(p.model.state_dict(), tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match="m.safetensors: not a checkpoint"):
        load_checkpoint(tmp_path / "m.safetensors", p.trainer)
    serialization.write_file(tmp_path / "e.safetensors", {}, {"checkpoint": {"model": {}}})
    with pytest.raises(ValueError, match="e.safetensors: damaged checkpoint: it must hold callbacks, history"):
        load_checkpoint(tmp_path / "e.safetensors", p.trainer)
    serialization.write_file(tmp_path / "j.safetensors", {}, {"checkpoint": {"model": {"@": "x"}}})
    with pytest.raises(ValueError, match="j.safetensors: damaged file: its state"):
        load_checkpoint(tmp_path / "j.safetensors", p.trainer)
    safetensors.save_file({}, tmp_path / "h.safetensors", metadata={"fastdl": "{"})
    with pytest.raises(ValueError, match="h.safetensors: damaged file: its header"):
        load_checkpoint(tmp_path / "h.safetensors", p.trainer)


def test_a_checkpoint_of_another_model_or_optimizer(problem, saved):
    path, _ = saved
    model = nn.Linear(3, 3)
    with pytest.raises(ValueError, match="(?s)does not fit this training: .*0.weight"):
        load_checkpoint(path, train.Trainer(model, optim.SGD(model.parameters(), lr=0.1)))
    p = problem()
    parameters = list(p.model.parameters())
    trainer = train.Trainer(p.model, optim.Adam([{"params": parameters[:2]}, {"params": parameters[2:]}]))
    with pytest.raises(ValueError, match="does not fit this training"):
        load_checkpoint(path, trainer)
    with pytest.raises(ValueError, match="LRSchedule: every must be 'step' as saved"):
        load_checkpoint(path, problem(scheduler_every="epoch").trainer)


def test_another_loader_is_refused_when_training_goes_on(problem, saved):
    p = problem(batch_size=5)
    load_checkpoint(saved[0], p.trainer)
    with pytest.raises(ValueError, match="batch_size must be 5 as in this loader, got 4"):
        p.fit(epochs=2)


def test_a_run_that_stopped_early_stays_stopped(problem, tmp_path):
    path = tmp_path / "c.safetensors"
    stop = LambdaCallback(on_step_end=lambda trainer: trainer.stop("enough") if trainer.step == 13 else None)
    problem(callbacks=[stop, Checkpoint(path)]).fit(epochs=5)
    p = problem()
    load_checkpoint(path, p.trainer)
    p.fit(epochs=5)
    assert (p.trainer.step, p.trainer.stop_reason) == (13, "enough")
    assert [row["step"] for row in p.trainer.history] == [10, 13]


def test_the_checkpoint_holds_the_last_weights_not_the_best(problem, tmp_path, same_bits):
    """A run that put back its best weights can still be extended as if it had gone on at once."""
    path = tmp_path / "c.safetensors"
    best = [train.EarlyStopping(patience=100, restore_best=True)]
    whole, part = problem(callbacks=best), problem(callbacks=[*best, Checkpoint(path)])
    start = fd.random.default_generator.state_dict()
    whole.fit(epochs=7)
    fd.random.default_generator.load_state_dict(start)
    part.fit(epochs=4)
    more = problem(callbacks=[train.EarlyStopping(patience=100, restore_best=True)])
    load_checkpoint(path, more.trainer)
    more.fit(epochs=7)
    assert more.trainer.history == whole.trainer.history
    same_bits(more.weights(), whole.weights())
