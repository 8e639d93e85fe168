"""Ctrl-C: training ends after the running step, saves, and can go on; the handler of before is put back."""

import os
import signal
import threading
import warnings

import numpy as np
import pytest

import fastdl as fd
from fastdl.train import Checkpoint, LambdaCallback, ProgressBar, load_checkpoint
from fastdl.train.interrupt import CatchInterrupt

pytestmark = pytest.mark.filterwarnings("ignore:fit. interrupted:RuntimeWarning")


def _interrupt(*_):
    os.kill(os.getpid(), signal.SIGINT)


def _at_step(step):
    return LambdaCallback(on_step_end=lambda trainer: _interrupt() if trainer.step == step else None)


@pytest.fixture
def handler():
    """A handler of our own, to see that it is put back and never called."""

    def fail(*_):
        raise AssertionError("the handler of before was called")

    before = signal.signal(signal.SIGINT, fail)
    yield fail
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("step", [1, 13, 20])
def test_ends_after_the_running_step_and_goes_on_to_the_same_bits(problem, tmp_path, handler, same_bits, step):
    pytest.importorskip("safetensors")
    path = tmp_path / "c.safetensors"
    whole = problem()
    whole.fit(epochs=4)

    cut = problem(callbacks=[_at_step(step), Checkpoint(path)])
    cut.fit(epochs=4)
    assert cut.trainer.interrupted and cut.trainer.step == step and cut.trainer.stop_reason is None
    assert signal.getsignal(signal.SIGINT) is handler
    assert [row["step"] for row in cut.trainer.history] == list(range(10, step, 10))

    rest = problem()
    load_checkpoint(path, rest.trainer)
    rest.fit(epochs=4)
    assert not rest.trainer.interrupted
    assert rest.trainer.history == whole.trainer.history
    same_bits(rest.weights(), whole.weights())


def test_within_validation_the_epoch_stays_open(problem, tmp_path, handler, same_bits):
    pytest.importorskip("safetensors")
    path = tmp_path / "c.safetensors"
    whole = problem()
    whole.fit(epochs=3)

    cut = problem(callbacks=[Checkpoint(path)])

    def interrupt_in_second_validation(output, target):
        if not cut.model.training and cut.trainer.step == 20:
            _interrupt()
        return 0.0

    cut.trainer.metrics["spy"] = interrupt_in_second_validation
    cut.fit(epochs=3)
    assert cut.trainer.interrupted
    assert (cut.trainer.epoch, cut.trainer.step, len(cut.trainer.history)) == (1, 20, 1)

    rest = problem()
    load_checkpoint(path, rest.trainer)
    rest.fit(epochs=3)
    same_bits(rest.weights(), whole.weights())
    assert [row["val_loss"] for row in rest.trainer.history] == [row["val_loss"] for row in whole.trainer.history]


def test_an_interrupted_trainer_goes_on_in_the_same_process(problem, handler, same_bits):
    whole = problem()
    start = fd.random.default_generator.state_dict()
    whole.fit(epochs=2)
    fd.random.default_generator.load_state_dict(start)
    cut = problem(callbacks=[_at_step(7)])
    cut.fit(epochs=2)
    assert cut.trainer.step == 7
    cut.fit(epochs=2)
    assert not cut.trainer.interrupted
    same_bits(cut.weights(), whole.weights())


def test_the_second_one_raises_at_once(problem, handler):
    def twice(trainer):
        _interrupt()
        assert trainer.step == 1
        _interrupt()
        raise AssertionError("not reached")

    p = problem(callbacks=[LambdaCallback(on_step_end=twice)])
    with pytest.raises(KeyboardInterrupt):
        p.fit(epochs=2)
    assert signal.getsignal(signal.SIGINT) is handler


def test_an_interrupt_in_the_very_last_step_is_too_late(problem, handler):
    p = problem(callbacks=[LambdaCallback(on_epoch_end=_interrupt)])
    p.trainer.fit(p.train, epochs=1)
    assert not p.trainer.interrupted and p.trainer.epoch == 1


def test_an_ignored_signal_stays_ignored(problem):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        p = problem(callbacks=[_at_step(3)])
        p.fit(epochs=1)
        assert p.trainer.epoch == 1 and not p.trainer.interrupted
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_fit_works_outside_the_main_thread(problem):
    p = problem()
    thread = threading.Thread(target=p.fit, kwargs={"epochs": 2})
    thread.start()
    thread.join(60)
    assert p.trainer.epoch == 2
    assert np.isfinite(p.trainer.history[-1]["loss"])


def test_the_handler_is_put_back_after_an_error(handler):
    with pytest.raises(ZeroDivisionError):
        with CatchInterrupt() as interrupt:
            _interrupt()
            assert interrupt.requested
            raise ZeroDivisionError
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.parametrize("bar", [False, True])
def test_it_is_said_once(problem, handler, capsys, bar):
    cut = problem(callbacks=[_at_step(3), *([ProgressBar()] if bar else [])])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cut.fit(epochs=4)
    said = [str(w.message) for w in caught if "interrupted" in str(w.message)]
    assert said == ([] if bar else ["fit: interrupted after step 3; fit again goes on there"])
    assert ("interrupted after step 3" in capsys.readouterr().out) == bar
