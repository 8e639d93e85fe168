"""Weights in bfloat16 on the GPU: kept by the optimizer, never stale."""

import gc
import weakref

import numpy as np
import pytest

import fastdl as fd
from fastdl import functional as F
from fastdl import kernels, nn
from small_nets import batch, small_net

pytestmark = pytest.mark.usefixtures("cuda")


class Training:
    """A network on the GPU with its data and a step in bfloat16."""

    def __init__(self, optimizer=fd.optim.Adam, **options):
        self.net = small_net("cuda")
        self.optimizer = optimizer(self.net.parameters(), lr=1e-2, **options)
        self.flat = self.optimizer._buffers[0][0]
        self.x, self.labels = (t.cuda() for t in batch())

    def loss(self):
        with fd.autocast():
            return F.cross_entropy(self.net(self.x), self.labels)

    def step(self, x=None):
        self.optimizer.zero_grad()
        loss = self.loss()
        loss.backward()
        self.optimizer.step()
        return loss

    def assert_current(self):
        """A loss by the kept copies is that of weights rounded now."""
        kept = self.loss().item()
        homes = [p.__dict__.pop("_home") for p in self.net.parameters()]
        assert self.loss().item() == kept
        for p, home in zip(self.net.parameters(), homes):
            p._home = home


@pytest.fixture
def casts(monkeypatch):
    """The shapes of float32 arrays that were rounded, one after the other."""
    seen, cast = [], kernels._cuda.cast

    def counted(x, dtype):
        if dtype == "bfloat16":
            seen.append(x.shape)
        return cast(x, dtype)

    monkeypatch.setattr(kernels._cuda, "cast", counted)
    monkeypatch.setattr(kernels, "_rounding", {})
    return seen


@pytest.mark.parametrize("optimizer", [fd.optim.SGD, fd.optim.RMSprop, fd.optim.Adam])
def test_a_step_rounds_no_weight_by_itself(casts, optimizer):
    t = Training(optimizer)
    weights = {p.shape for p in t.net.parameters()}
    t.step()
    assert casts.count(t.flat.data.shape) == 1 and not weights & set(casts)
    casts.clear()
    t.step()
    assert casts.count(t.flat.data.shape) == 0 and not weights & set(casts)
    t.assert_current()
    rounded = t.flat.rounded
    np.testing.assert_array_equal(kernels.to_host(rounded), kernels.to_host(t.flat.data).astype(fd.bfloat16))


def test_the_same_training_as_without_an_optimizers_copy():
    kept, plain = Training(), Training()
    for p in plain.net.parameters():
        p._home = None
    for _ in range(4):
        assert kept.step().item() == plain.step().item()
    assert kept.flat.rounded is not None and plain.flat.rounded is None


CHANGES = {
    "in place": lambda t: t.net[0].weight.detach().mul_(2),
    "load": lambda t: t.net.load_state_dict({k: v * 2 for k, v in t.net.state_dict().items()}),
    "replaced": lambda t: setattr(t.net[0].weight, "data", t.net[0].weight.data * 2),
    "no gradient": lambda t: (t.optimizer.zero_grad(), t.net[5].weight.detach().add_(1), t.optimizer.step()),
    "a step in float32": lambda t: (t.optimizer.zero_grad(), F.cross_entropy(t.net(t.x), t.labels).backward(),
                                    t.optimizer.step()),
    "replaced, then a step": lambda t: (setattr(t.net[0].weight, "data", t.net[0].weight.data * 2), t.step()),
    "init": lambda t: nn.init.constant_(t.net[5].weight, 0.5),
}  # fmt: skip


# A captured step refuses to begin with parameters that were replaced.
CASES = [(name, captured) for name in CHANGES for captured in (False, True) if (name, captured) != ("replaced", True)]


@pytest.mark.parametrize(("name", "captured"), CASES)
def test_changes_from_outside_are_seen(name, captured):
    t, plain = Training(), Training()
    for p in plain.net.parameters():
        p._home = None
    step = fd.capture(t.step) if captured else t.step
    for k in range(7):
        assert step(t.x).item() == plain.step().item()
        if k in (0, 1, 2, 4):
            CHANGES[name](t)
            CHANGES[name](plain)
            for p in plain.net.parameters():
                p._home = None
            if not captured:
                t.assert_current()
    t.assert_current()
    for a, b in zip(t.net.parameters(), plain.net.parameters()):
        np.testing.assert_array_equal(a.detach().cpu().numpy(), b.detach().cpu().numpy())


def test_captured_steps_round_in_the_optimizer_alone(casts):
    t = Training()
    step = fd.capture(t.step)
    for _ in range(4):
        step(t.x)
    assert step.programs == 1
    casts.clear()
    for _ in range(3):
        step(t.x)
    assert not casts
    t.assert_current()


def test_a_weight_that_changed_before_backward_is_noticed():
    net = nn.Linear(3, 2, device="cuda")
    optimizer = fd.optim.SGD(net.parameters(), lr=0.1)
    with fd.autocast():
        loss = net(fd.ones(4, 3, device="cuda", requires_grad=True)).mean()
    loss.backward(retain_graph=True)
    optimizer.step()
    with pytest.raises(RuntimeError, match="Linear needs its input 'weight' as it was"):
        loss.backward()


def test_evaluation_after_training_uses_them(casts):
    t = Training()
    t.step()
    casts.clear()
    with fd.no_grad():
        t.loss()
    assert not {p.shape for p in t.net.parameters()} & set(casts)


def test_memory_goes_with_the_optimizer():
    t = Training()
    t.step()
    flat = weakref.ref(t.flat)
    gc.disable()
    try:
        t.flat = t.optimizer = None
        assert flat() is None
    finally:
        gc.enable()
    t.loss().backward()


def test_on_the_host_there_is_no_copy():
    net = nn.Linear(3, 2)
    optimizer = fd.optim.SGD(net.parameters(), lr=0.1)
    with fd.autocast():
        net(fd.ones(1, 3)).float().sum().backward()
    optimizer.step()
    assert optimizer._buffers[0][0].rounded is None


@pytest.mark.parametrize("where", ["first", "last"])
def test_a_step_that_changes_weights_by_itself_is_captured(where):
    def training():
        net = nn.Linear(6, 6, device="cuda")
        fd.manual_seed(3)
        net.reset_parameters()
        optimizer = fd.optim.SGD(net.parameters(), lr=0.5)

        def step(x):
            if where == "first":
                with fd.no_grad():
                    net.weight.clamp_(-0.05, 0.05)
            optimizer.zero_grad()
            with fd.autocast():
                loss = (net(x).float() ** 2).mean()
            loss.backward()
            optimizer.step()
            if where == "last":
                with fd.no_grad():
                    net.weight.clamp_(-0.05, 0.05)
                    with fd.autocast():
                        loss = loss + net(x).float().mean()
            return loss

        return net, step

    x = fd.tensor(np.random.default_rng(0).standard_normal((5, 6)).astype(np.float32), device="cuda")
    (net, step), (other, plain) = training(), training()
    captured = fd.capture(step)
    for k in range(7):
        assert captured(x).item() == plain(x).item()
        if k in (1, 2, 4):
            for n in (net, other):
                n.bias.detach().add_(0.25)
    np.testing.assert_array_equal(net.weight.detach().cpu().numpy(), other.weight.detach().cpu().numpy())
