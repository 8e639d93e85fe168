"""Training on data that lies on the GPU: a captured step goes from the loader's cursor to the sums of metrics."""

import numpy as np
import pytest

import fastdl as fd
from fastdl import kernels, nn
from fastdl.data import ArrayDataset, DataLoader, Subset
from fastdl.train import LambdaCallback, Trainer, load_checkpoint, save_checkpoint

pytestmark = pytest.mark.usefixtures("cuda")


def data(n=70):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (n, 1, 8, 8), np.uint8)
    return ArrayDataset(images, images.mean((1, 2, 3)).astype(np.int64) % 3).to("cuda")


def training(dataset=None, metrics=("accuracy",), **options):
    fd.manual_seed(1)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, device="cuda"), nn.BatchNorm2d(4, device="cuda"), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2),
        nn.Linear(144, 3, device="cuda"),
    )  # fmt: skip
    loader = DataLoader(dataset or data(), 16, shuffle=True, scale=1 / 255, mean=0.5)
    optimizer = fd.optim.Adam(net.parameters(), lr=1e-2)
    return Trainer(net, optimizer, nn.functional.cross_entropy, metrics, **options), loader


def outcome(trainer):
    return trainer.history, [p.detach().cpu().numpy() for p in trainer.model.parameters()]


def assert_same(a, b):
    assert a[0] == b[0]
    for x, y in zip(a[1], b[1]):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("rows", ["all", "some"])
def test_it_is_the_training_of_steps_as_written(rows, precision):
    dataset = data() if rows == "all" else Subset(data(), np.arange(3, 60))
    results = []
    for capture in (True, False):
        trainer, loader = training(dataset, capture=capture, precision=precision)
        trainer.fit(loader, epochs=3)
        assert (trainer._steps.whole is not None) == capture
        results.append(outcome(trainer))
    assert_same(*results)
    assert all(0 < row["accuracy"] <= 1 and row["loss"] > 0 for row in results[0][0])


def test_a_replay_copies_nothing(monkeypatch):
    launched = []

    class Staging:
        def __init__(self, *given, real=kernels._cuda.Staging):
            self.real = real(*given)

        def enter(self, values, inputs):
            launched.append(f"{len(values)} numbers and {len(inputs)} inputs")
            self.real.enter(values, inputs)

        def results(self):
            made = self.real.results()
            launched.append(f"{len(made)} results")
            return made

    monkeypatch.setattr(kernels._cuda, "Staging", Staging)
    trainer, loader = training()
    trainer.fit(loader, epochs=3)  # the last batch of each is shorter: a step of its own, checked in the third
    launched.clear()
    names = ("gather_batch", "assign", "clone", "cast", "conv2d_forward", "write_words")
    for name in names:
        kernel = getattr(kernels._cuda, name)
        monkeypatch.setattr(kernels._cuda, name, lambda *a, f=kernel, n=name: launched.append(n) or f(*a))
    trainer.fit(loader, epochs=4)
    once = ["assign", "assign"]  # the order of the epoch, and the sums that it begins with
    assert launched == [*once, *["4 numbers and 0 inputs", "0 results"] * len(loader)]


def test_resuming_in_the_middle(tmp_path):
    straight, loader = training()
    straight.fit(loader, epochs=4)
    first, loader = training()
    first.fit(loader, steps=13)
    save_checkpoint(tmp_path / "x.safetensors", first)
    second, loader = training()
    load_checkpoint(tmp_path / "x.safetensors", second)
    second.fit(loader, epochs=4)
    assert_same(outcome(straight), outcome(second))


def test_metrics_of_ones_own_are_called_as_ever():
    seen = []

    def largest(output, target):
        seen.append(output.cpu().numpy().max())
        return float(seen[-1])

    trainer, loader = training(metrics={"largest": largest})
    trainer.fit(loader, epochs=2)
    assert len(seen) == 2 * len(loader) and trainer._steps.whole is None
    assert trainer.history[0]["largest"] > 0


def test_data_on_the_host_are_copied_batch_by_batch():
    trainer, _ = training()
    host = ArrayDataset(*(kernels.to_host(a) for a in data().arrays))
    loader = DataLoader(host, 16, shuffle=True, scale=1 / 255, device="cuda")
    assert not loader.on_gpu and DataLoader(data(), 16).on_gpu and not DataLoader(data(), 16, device="cpu").on_gpu
    trainer.fit(loader, epochs=1)
    assert trainer._steps.whole is None and trainer._steps.captured.programs > 0


def test_another_loader_is_another_step():
    trainer, loader = training()
    trainer.fit(loader, epochs=2)
    other = DataLoader(ArrayDataset(data().arrays[0], data().arrays[1] * 0).to("cuda"), 16, scale=1 / 255, mean=0.5)
    trainer.fit(other, epochs=12)
    assert trainer.history[-1]["accuracy"] > 0.9


def test_running_values_and_a_loss_that_is_not_finite():
    seen = []
    callback = LambdaCallback(on_step_end=lambda trainer: seen.append(trainer.running["loss"]))
    trainer, loader = training(callbacks=[callback])
    trainer.fit(loader, epochs=1)
    assert len(seen) == len(loader) and seen[-1] == trainer.history[0]["loss"]
    trainer, _ = training(data(200))
    trainer.optimizer.param_groups[0]["lr"] = 1e38
    with pytest.raises(FloatingPointError, match="the loss became"):
        trainer.fit(DataLoader(data(200), 1, scale=1 / 255), epochs=4)
    assert trainer.step < 130  # it is looked at every 64 steps


def test_sizes_and_current_batch():
    loader = DataLoader(data(), 16, shuffle=True, scale=1 / 255)
    for _ in range(2):
        state = loader.state_dict()
        batches = list(loader)
        loader.load_state_dict(state)
        sizes = []
        for size, (images, labels) in zip(loader.iter_sizes(), batches):
            x, y = loader.current_batch(size)
            np.testing.assert_array_equal(x.cpu().numpy(), images.cpu().numpy())
            assert y.tolist() == labels.tolist()
            sizes.append(size)
        assert sizes == [16, 16, 16, 16, 6]


def test_sums_are_the_same_whenever_they_are_read():
    results = []
    for look in (True, False):
        callback = LambdaCallback(on_step_end=lambda trainer: trainer.running)
        trainer, loader = training(callbacks=[callback] if look else [])
        trainer.fit(loader, epochs=3)
        results.append(outcome(trainer))
    assert_same(*results)


def test_the_host_may_take_over_within_an_epoch():
    """The sums of an epoch go on where a loader's data lie elsewhere."""
    trainer, loader = training()
    trainer.fit(loader, steps=2)
    before = dict(trainer.sums.sums)
    host = ArrayDataset(*(kernels.to_host(a) for a in data().arrays))
    trainer.fit(DataLoader(host, 16, shuffle=True, scale=1 / 255, device="cuda"), steps=3)
    after = trainer.sums.sums
    assert trainer.sums.count == 48 and after["loss"] > before["loss"] > 0 and after["accuracy"] >= before["accuracy"]


def test_a_step_on_the_host_does_not_follow_the_loader():
    loader = DataLoader(data(), 16)
    next(loader.iter_sizes())
    weight = fd.ones(3, device="cpu" if fd.get_device() == "cpu" else "numpy")
    step = fd.capture(lambda w: (loader.current_batch(16), w * 2)[1])
    if fd.get_device() == "cpu":
        with pytest.raises(fd.CaptureError, match="a batch of data in the host's memory"):
            step(weight)
