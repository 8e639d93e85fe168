"""The loop: what it computes, when it stops, what it refuses, and that going on is the same as not stopping."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest

import fastdl as fd
from fastdl import nn, optim, train
from fastdl.train import LambdaCallback, Trainer
from small_nets import batch, small_net


def test_fit_learns_and_keeps_a_history(problem):
    p = problem()
    history = p.fit(epochs=12)
    assert [row["epoch"] for row in history] == list(range(1, 13))
    assert [row["step"] for row in history] == list(range(10, 121, 10))
    assert list(history[0]) == ["epoch", "step", "lr", "loss", "accuracy", "val_loss", "val_accuracy"]
    assert history[-1]["val_loss"] < 0.85 * history[0]["val_loss"]
    assert history[0]["lr"] == pytest.approx(0.02 * 0.8)
    assert history is p.trainer.history
    assert p.trainer.samples == 480 and p.trainer.samples_per_second > 0


def test_evaluate_is_the_mean_over_samples(problem):
    p = problem()
    p.model.eval()
    logits = p.model(fd.tensor(p.x[:15])).detach().numpy().astype(np.float64)
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(15), p.y[:15]]
    p.model.train()
    got = p.trainer.evaluate(p.validation)  # batches of 7, 7 and 1
    assert got["accuracy"] == np.mean(logits.argmax(1) == p.y[:15])
    assert got["loss"] == pytest.approx(losses.mean(), rel=1e-6)


def test_predict_takes_arrays_and_loaders(problem):
    p = problem()
    p.model.eval()
    want = p.model(fd.tensor(p.x[:15])).detach().numpy()
    p.model.train()
    np.testing.assert_allclose(p.trainer.predict(p.validation), want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(p.trainer.predict(p.x[:15], batch_size=4), want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(p.trainer.predict(fd.tensor(p.x[:15])), want, rtol=1e-5, atol=1e-6)


def test_evaluation_restores_every_mode(problem):
    p = problem()
    p.model.train()
    p.model[1].eval()
    p.trainer.evaluate(p.validation)
    p.trainer.predict(p.x)
    assert [module.training for module in p.model] == [True, False, True, True, True]


def test_evaluation_draws_no_random_numbers_and_leaves_no_gradients(problem):
    p = problem()
    before = fd.random.default_generator.state_dict()
    p.trainer.evaluate(p.validation)
    assert fd.random.default_generator.state_dict() == before
    assert all(parameter.grad is None for parameter in p.model.parameters())


@pytest.mark.parametrize("parts", [(3, 4), (1, 5, 6), (14, 15, 40), (10, 20, 40), (39, 40)])
def test_steps_in_parts_are_the_same_as_at_once(problem, same_bits, parts):
    whole, pieces = problem(), problem()
    want = whole.fit(steps=parts[-1])
    fd.random.default_generator.load_state_dict(_state_after_build(problem))
    for steps in parts:
        got = pieces.fit(steps=steps)
    assert got == want
    same_bits(pieces.weights(), whole.weights())


def _state_after_build(problem):
    problem()
    return fd.random.default_generator.state_dict()


def test_epochs_and_steps_are_totals(problem):
    p = problem()
    p.fit(epochs=2)
    p.fit(epochs=2)
    assert (p.trainer.epoch, p.trainer.step) == (2, 20)
    p.fit(epochs=5, steps=23)
    assert (p.trainer.epoch, p.trainer.step, p.trainer.batch) == (2, 23, 3)
    assert [row["step"] for row in p.trainer.history] == [10, 20, 23]
    p.fit(steps=23)
    assert [row["step"] for row in p.trainer.history] == [10, 20, 23]
    p.fit(steps=30)
    assert [(row["epoch"], row["step"]) for row in p.trainer.history] == [(1, 10), (2, 20), (3, 30)]
    assert p.trainer.epoch == 3


def test_plain_lists_are_loaders_too(problem, same_bits):
    batches = [(fd.tensor(np.ones((2, 6), np.float32) * i), fd.tensor(np.array([0, 1]))) for i in range(5)]
    whole, pieces = problem(), problem()
    start = fd.random.default_generator.state_dict()
    whole.trainer.fit(batches, epochs=2)
    fd.random.default_generator.load_state_dict(start)
    pieces.trainer.fit(batches, steps=3)
    pieces.trainer.fit(batches, epochs=2)
    same_bits(pieces.weights(), whole.weights())
    assert "val_loss" not in whole.trainer.history[0]


def test_schedule_by_epoch_and_by_step(problem):
    p = problem(scheduler_every="epoch")
    p.fit(epochs=8)
    assert [round(row["lr"] / 0.02, 6) for row in p.trainer.history] == [1] * 7 + [0.8]
    p = problem(scheduler_every="step")
    p.fit(steps=15)
    assert p.trainer.lr == pytest.approx(0.02 * 0.8**2)


def test_gradient_is_clipped(problem):
    x = fd.tensor(np.full((4, 1), 100.0, np.float32))
    y = fd.tensor(np.zeros((4, 1), np.float32))
    model = nn.Linear(1, 1)
    before = model.weight.detach().numpy().copy(), model.bias.detach().numpy().copy()
    trainer = Trainer(model, optim.SGD(model.parameters(), lr=1.0), nn.functional.mse_loss, max_grad_norm=0.5)
    trainer.fit([(x, y)], steps=1)
    moved = [model.weight.detach().numpy() - before[0], model.bias.detach().numpy() - before[1]]
    assert math.hypot(*(float(m.item()) for m in moved)) == pytest.approx(0.5, rel=1e-4)


def test_callbacks_are_called_in_order(problem):
    seen = []

    def hooks(tag):
        names = ("on_fit_start", "on_epoch_start", "on_step_end", "on_fit_end", "on_exit")
        found = {name: lambda trainer, name=name: seen.append((tag, name, trainer.step)) for name in names}
        found["on_epoch_end"] = lambda trainer, row: seen.append((tag, "on_epoch_end", row["step"]))
        return LambdaCallback(**found)

    late, early = hooks("late"), hooks("early")
    late.priority = 70
    p = problem(callbacks=[late, early], batch_size=20)
    p.fit(epochs=1)
    names = ["on_fit_start", "on_epoch_start", "on_step_end", "on_step_end", "on_epoch_end"]
    steps = [0, 0, 1, 2, 2]
    want = [(tag, name, step) for name, step in zip(names, steps) for tag in ("early", "late")]
    want += [(tag, name, 2) for name in ("on_fit_end", "on_exit") for tag in ("late", "early")]
    assert seen == want


def test_a_callback_can_stop_within_an_epoch_for_good(problem):
    stop = LambdaCallback(on_step_end=lambda trainer: trainer.stop("enough") if trainer.step == 13 else None)
    p = problem(callbacks=[stop])
    p.fit(epochs=5)
    assert (p.trainer.step, p.trainer.stop_reason, p.trainer.interrupted) == (13, "enough", False)
    assert [row["step"] for row in p.trainer.history] == [10, 13]
    p.fit(epochs=5)
    assert p.trainer.step == 13


def test_on_exit_is_called_after_an_error(problem):
    seen = []

    def fail(trainer):
        raise ZeroDivisionError

    p = problem(callbacks=[LambdaCallback(on_step_end=fail, on_exit=lambda trainer: seen.append("exit"))])
    with pytest.raises(ZeroDivisionError):
        p.fit(epochs=1)
    assert seen == ["exit"]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy warns where the compiled backend does not
def test_a_loss_that_is_not_finite_ends_training(problem):
    p = problem()
    p.x[3] = np.inf
    with pytest.raises(FloatingPointError, match=r"the loss became (nan|inf) at step \d+ \(epoch 1\)"):
        p.fit(epochs=1)


def test_metrics_can_be_functions(problem):
    def margin(output, target):
        return float(np.abs(output.detach().numpy()).max())

    p = problem(metrics=["accuracy", margin])
    p.fit(epochs=1)
    assert {"accuracy", "margin", "val_margin"} <= p.trainer.history[0].keys()
    p = problem(metrics={"top": train.accuracy})
    p.fit(epochs=1)
    assert {"top", "val_top"} <= p.trainer.history[0].keys()


@pytest.mark.parametrize(
    "output, target, want",
    [
        ([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]], [1, 1, 1], [True, False, True]),
        ([[0.4], [-0.4], [2.0]], [[1.0], [1.0], [0.0]], [True, False, False]),
        ([0.4, -0.4], [1, 0], [True, True]),
    ],
)
def test_accuracy(output, target, want):
    assert train.accuracy(np.array(output), np.array(target)).tolist() == want


@pytest.mark.parametrize("output, target", [((4, 3), (3,)), ((4, 3), (4, 3)), ((2, 3, 4), (2,)), ((4,), (3,))])
def test_accuracy_refuses_shapes(output, target):
    with pytest.raises(ValueError, match="accuracy: output must be"):
        train.accuracy(np.zeros(output), np.zeros(target, np.int64))


def _model():
    return nn.Linear(6, 2)


@pytest.mark.parametrize(
    "make, error, text",
    [
        (lambda: Trainer(3), TypeError, "model must be an nn.Module, got int"),
        (lambda: Trainer(_model(), loss=3), TypeError, "loss must be a function or module, got int"),
        (lambda: Trainer(_model(), metrics=["acuracy"]), ValueError, "metrics must be among accuracy, got 'acuracy'"),
        (lambda: Trainer(_model(), metrics="accuracy"), TypeError, "metrics must be a list or dict, got str"),
        (lambda: Trainer(_model(), metrics={"a": 1}), TypeError, "metric 'a' must be a function, got int"),
        (lambda: Trainer(_model(), max_grad_norm=0.0), ValueError, "max_grad_norm must be positive, got 0.0"),
        (lambda: Trainer(_model(), max_grad_norm=math.nan), ValueError, "max_grad_norm must be positive, got nan"),
        (lambda: Trainer(_model(), callbacks=[print]), TypeError, "callbacks must be Callbacks"),
        (lambda: Trainer(_model(), scheduler=1, scheduler_every="batch"), ValueError, "every must be 'epoch'"),
        (lambda: Trainer(_model()).evaluate([]), ValueError, "evaluate: the Trainer needs a loss"),
        (lambda: Trainer(_model(), loss=print).evaluate([]), ValueError, "evaluate: the loader has no batches"),
        (lambda: Trainer(_model(), loss=print).evaluate([1]), TypeError, r"a batch must be a pair.*got int"),
        (lambda: Trainer(_model()).predict([]), ValueError, "predict: the loader has no batches"),
        (lambda: Trainer(_model()).predict(np.zeros((0, 6))), ValueError, "at least one sample, got shape"),
        (lambda: Trainer(_model()).predict(np.zeros((2, 6)), 0), ValueError, "batch_size must be a positive"),
        (lambda: Trainer(_model()).fit([], epochs=1), ValueError, "the Trainer needs an optimizer and a loss"),
    ],
)
def test_what_a_trainer_refuses(make, error, text):
    with pytest.raises(error, match=text):
        make()


@pytest.mark.parametrize(
    "arguments, error, text",
    [
        ({}, ValueError, "epochs or steps must be given"),
        ({"epochs": 0}, ValueError, "epochs must be a positive integer, got 0"),
        ({"epochs": -3}, ValueError, "epochs must be a positive integer, got -3"),
        ({"steps": 2.5}, ValueError, "steps must be a positive integer, got 2.5"),
        ({"steps": True}, ValueError, "steps must be a positive integer, got True"),
        ({"epochs": "3"}, ValueError, "epochs must be a positive integer, got '3'"),
        ({"epochs": 1, "train": []}, ValueError, "the training loader has no batches"),
        ({"epochs": 1, "train": iter(())}, ValueError, "the training loader has no batches"),
        ({"epochs": 1, "train": 7}, TypeError, "train must be a loader of batches, got int"),
        ({"epochs": 1, "train": [(1, 2, 3)]}, TypeError, "a batch must be a pair .*, got 3 items"),
        ({"epochs": 1, "validation": []}, ValueError, "the validation loader has no batches"),
    ],
)
def test_what_fit_refuses(problem, arguments, error, text):
    p = problem()
    with pytest.raises(error, match=text):
        p.trainer.fit(**{"train": p.train, **arguments})


def test_training_needs_numpy_only(tmp_path):
    """Without rich, safetensors, matplotlib and tensorboardX the plain Trainer, its rows and its CSV log still work."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "for name in ('rich', 'safetensors', 'matplotlib', 'tensorboardX'):\n"
        "    sys.modules[name] = None\n"
        "import numpy as np, fastdl as fd\n"
        "from fastdl import nn, optim, data, train\n"
        "x = np.eye(6, dtype=np.float32)\n"
        "loader = data.DataLoader(data.ArrayDataset(x, np.arange(6) % 2), batch_size=2, shuffle=True)\n"
        "model = nn.Linear(6, 2)\n"
        "callbacks = [train.ProgressBar(), train.CSVLogger('log.csv'), train.EarlyStopping()]\n"
        "loss = nn.CrossEntropyLoss()\n"
        "trainer = train.Trainer(model, optim.SGD(model.parameters(), lr=0.5), loss, ['accuracy'], callbacks)\n"
        "print(trainer.fit(loader, loader, epochs=30)[-1]['val_accuracy'])\n"
    )
    where = {**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(fd.__file__))}
    command = [sys.executable, "-W", "ignore", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=where)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "1.0"
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 31


@pytest.mark.skipif(fd.get_device() != "cpu", reason="needs the compiled kernels")
def test_a_captured_run_has_the_bits_of_one_as_written(problem, same_bits):
    def run(capture):
        p = problem(batch_size=7)  # the last batch of an epoch is smaller
        p.trainer.capture, p.trainer.max_grad_norm = capture, 0.5
        return p, p.fit(epochs=6)

    (captured, history), (written, want) = run(True), run(False)
    assert history == want
    same_bits(captured.weights(), written.weights())
    assert captured.trainer._steps.captured.programs == 2 and written.trainer._steps.captured is None


def test_an_overridden_step_runs_as_written(problem):
    calls = []

    class Counting(Trainer):
        def train_step(self, inputs, target):
            calls.append(len(inputs))
            return super().train_step(inputs, target)

    p = problem()
    trainer = Counting(p.model, p.optimizer, nn.CrossEntropyLoss())
    trainer.fit(p.train, steps=7)
    assert calls == [4] * 7


def test_a_step_that_cannot_be_captured_warns_and_trains(problem):
    p = problem()
    p.model.register_forward_hook(lambda *a: None)
    if fd.get_device() == "cpu":
        with pytest.warns(RuntimeWarning, match="hooks on Sequential"):
            p.fit(epochs=1)
    else:
        p.fit(epochs=1)
    assert p.trainer.step == 10


def test_bf16_trains_in_mixed_precision():
    def run(precision):
        fd.manual_seed(3)
        net = small_net()
        optimizer, loss = optim.Adam(net.parameters(), lr=1e-2), nn.functional.cross_entropy
        trainer = Trainer(net, optimizer, loss, ["accuracy"], precision=precision)
        x, labels = batch(24)
        trainer.fit([(x, labels)] * 4, [(x, labels)], epochs=3)
        seen = []
        net.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
        outputs = trainer.predict(x)
        assert trainer.evaluate([(x, labels)]).keys() == {"loss", "accuracy"} and not fd.is_autocast_enabled()
        assert outputs.dtype == np.float32 and {p.dtype for p in net.parameters()} == {np.dtype(np.float32)}
        return [row["loss"] for row in trainer.history], set(seen)

    wide, dtypes = run("fp32")
    low, low_dtypes = run("bf16")
    assert dtypes == {np.dtype(np.float32)} and low_dtypes == {fd.bfloat16}
    assert low != wide
    np.testing.assert_allclose(low, wide, rtol=0.05)
    with pytest.raises(ValueError, match="precision must be 'fp32' or 'bf16', got 'fp16'"):
        Trainer(small_net(), precision="fp16")
