"""Captured steps follow the settings of the modules they call: attributes, replaced and added layers, hooks."""

import gc
import weakref

import numpy as np
import pytest

import fastdl as fd
from fastdl import nn
from fastdl.train import LambdaCallback, Trainer


def build(device):
    fd.manual_seed(5)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))
    return model.to(device)


def losses(device, changes, captured):
    """The losses of eight steps with the statistics after them, and the step; changes: functions of the model, by the
    step before which they are called."""
    model = build(device)
    optimizer = fd.optim.SGD(model.parameters(), lr=0.1)

    def step(x, y):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    step = fd.capture(step) if captured else step
    rng = np.random.default_rng(2)
    x = fd.tensor(rng.standard_normal((16, 6), np.float32)).to(device)
    y = fd.tensor(rng.integers(0, 3, 16)).to(device)
    found = []
    for i in range(8):
        changes.get(i, lambda model: None)(model)
        found.append(step(x, y).item())
    return [*found, model[1].running_mean.tolist()], step


def set_to(index, name, value):
    return lambda model: setattr(model[index], name, value)


def replace(index, make):
    return lambda model: setattr(model, str(index), make())


def stretch(model):
    model[3].shape = (1, (2, 3))
    model[3].shape = (1, (2, 4))
    model[3].p = 0.1


CHANGES = {
    "p beside a tuple": stretch,
    "p": set_to(3, "p", 0.1),
    "eps": set_to(1, "eps", 0.5),
    "momentum": set_to(1, "momentum", 0.9),
    "a layer without parameters": replace(2, nn.Tanh),
    "a layer that is not the first of its kind": replace(3, lambda: nn.Dropout(0.2)),
    "one more": lambda model: model.append(nn.Tanh()),
    "one less": lambda model: delattr(model, "3"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("when", [1, 2, 5])
def test_changes_are_followed(device, change, when):
    wanted, got = (losses(device, {when: change}, captured) for captured in (False, True))
    assert got[0] == wanted[0]
    assert wanted[0] != losses(device, {}, False)[0]  # they matter


def test_layer_that_is_replaced_by_a_trained_one(device):
    def swap(model):
        model[4] = nn.Linear(8, 3).to(model[4].weight.device)

    wanted, got = (losses(device, {4: swap}, captured) for captured in (False, True))
    assert got[0] == wanted[0]


def test_setting_that_comes_back_finds_its_program(device):
    changes = {3: set_to(3, "p", 0.25), 5: set_to(3, "p", 0.5), 6: set_to(3, "p", 0.25)}
    wanted, got = (losses(device, changes, captured) for captured in (False, True))
    assert got[0] == wanted[0]
    if device != "numpy":
        assert got[1].programs == 2


def test_equal_settings_keep_the_program(device):
    changes = {i: set_to(3, "p", float("0.5")) for i in range(1, 8)}
    step = losses(device, changes, True)[1]
    if device != "numpy":
        assert step.programs == 1


class Counts(nn.Module):
    """Notes on itself what it sees, as user's modules do."""

    def __init__(self):
        super().__init__()
        self.layer, self.calls, self.scale, self.hidden = nn.Linear(4, 4), 0, 2.0, (fd.zeros(2), fd.zeros(2))

    def forward(self, x):
        self.calls += 1
        self.seen = x
        self.shapes, self.hidden = [x.shape], (x, x.detach())
        return self.layer(x) * self.scale


def test_what_forward_sets_itself_records_nothing(device):
    model = Counts().to(device)
    step = fd.capture(lambda x: model(x).sum())
    x = fd.ones(3, 4, device=device)
    first = step(x).item()
    for _ in range(4):
        model(x)  # as an evaluation between steps
        assert step(x).item() == first
    assert step.programs == (device != "numpy")
    model.scale = 4.0
    assert step(x).item() == 2 * first


def test_hook_that_is_added_is_refused():
    if fd.get_device() != "cpu":
        pytest.skip("needs the compiled kernels")
    model = build("cpu")
    step = fd.capture(lambda x: model(x).sum())
    x = fd.ones(16, 6)
    for _ in range(3):
        step(x)
    handle = model[0].register_forward_hook(lambda module, args, output: None)
    with pytest.raises(fd.CaptureError, match="hooks on Linear"):
        step(x)
    handle.remove()
    step(x)


def test_programs_do_not_keep_the_model(device):
    model = build(device)
    step = fd.capture(lambda x: model(x).sum())
    for _ in range(3):
        step(fd.ones(16, 6, device=device))
    found = weakref.ref(model)
    model = step = None
    gc.collect()
    assert found() is None


class Learner:
    def __init__(self, device):
        self.model = build(device)
        self.captured = fd.capture(self.as_written)

    def as_written(self, x):
        return self.model(x).sum()

    step = fd.capture(as_written)


def test_methods_are_captured_for_each_object(device):
    learner, x = Learner(device), fd.ones(16, 6, device=device)
    learner.model.eval()
    for _ in range(4):
        assert learner.captured(x).item() == learner.as_written(x).item()
    with pytest.raises(TypeError, match="as_written is a method; .* self.as_written = fd.capture"):
        learner.step(x)


class Nested(nn.Module):
    """Layers in containers, which are never called, a layer of which only a setting is read, a tensor that is none of
    the module's."""

    def __init__(self):
        super().__init__()
        self.layers, self.table = nn.ModuleList([nn.Linear(4, 4)]), nn.ModuleDict({"a": nn.Identity()})
        self.drop, self.scale = nn.Dropout(0.0), fd.tensor([2.0])

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.table["a"](x) * self.scale * (1.0 - self.drop.p)


NESTED = {
    "append": lambda model: model.layers.append(nn.Tanh()),
    "set": lambda model: model.layers.__setitem__(0, nn.Tanh()),
    "table": lambda model: model.table.__setitem__("a", nn.Tanh()),
    "setting": lambda model: setattr(model.drop, "p", 0.5),
    "tensor": lambda model: setattr(model, "scale", model.scale * 2),
}


@pytest.mark.parametrize("change", NESTED.values(), ids=NESTED)
def test_what_is_below_and_not_called(device, change):
    fd.manual_seed(0)
    model = Nested().to(device)
    model.scale = model.scale.to(device)
    step, x = fd.capture(lambda x: model(x).sum()), fd.ones(3, 4, device=device)
    for _ in range(4):
        before = step(x).item()
    change(model)
    for _ in range(3):
        assert step(x).item() == model(x).sum().item() != before


def test_hook_on_a_layer_that_is_fused(device):
    """On the GPU the ReLU after a batch norm has no call of its own."""
    model = build(device).eval()
    step, x = fd.capture(lambda x: model(x).sum(), fallback=True), fd.ones(16, 6, device=device)
    for _ in range(4):
        step(x)
    model[2].register_forward_hook(lambda module, args, output: output * 3.0)
    if device == "numpy":
        assert step(x).item() == model(x).sum().item()
        return
    with pytest.warns(RuntimeWarning, match="hooks on ReLU"):
        assert step(x).item() == model(x).sum().item()


def test_a_trainer_follows_what_a_callback_sets(device):
    """A schedule of dropout, as one writes it."""
    rng = np.random.default_rng(1)
    batch = [fd.tensor(a).to(device) for a in (rng.standard_normal((16, 6), np.float32), rng.integers(0, 3, 16))]
    histories = []
    for capture in (True, False):
        model = build(device)
        fall = LambdaCallback(on_epoch_end=lambda trainer, row: setattr(trainer.model[3], "p", 0.5 / row["epoch"]))
        optimizer = fd.optim.SGD(model.parameters(), lr=0.1)
        trainer = Trainer(model, optimizer, nn.functional.cross_entropy, callbacks=[fall], capture=capture)
        histories.append(trainer.fit([tuple(batch)] * 3, epochs=6))
    assert histories[0] == histories[1]


def test_an_input_that_requires_a_gradient_has_a_program_of_its_own(device):
    """Also where it is the very tensor of the calls before."""

    def function(x):
        y = (x * x).sum()
        if x.requires_grad:
            y.backward()
        return y * (3 if x.requires_grad else 2)

    step, x = fd.capture(function), fd.tensor([1.0, 2.0]).to(device)
    for _ in range(5):
        assert step(x).item() == 10
    x.requires_grad_()
    for k in range(1, 6):
        assert step(x).item() == 15
        assert x.grad.tolist() == [2 * k, 4 * k]
    x.requires_grad_(False)
    assert step(x).item() == 10
