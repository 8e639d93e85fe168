"""Gradients on the GPU are written where the optimizer keeps them, if nothing else is added to them."""

import numpy as np
import pytest

import fastdl as fd
from fastdl import functional as F
from fastdl import kernels, nn
from small_nets import batch, small_net

pytestmark = pytest.mark.usefixtures("cuda")


@pytest.fixture
def copies(monkeypatch):
    """The shapes of gradients that were copied into a slot."""
    seen, assign = [], kernels._cuda.assign
    monkeypatch.setattr(kernels._cuda, "assign", lambda out, x: seen.append(x.shape) or assign(out, x))
    return seen


def gradients(device, steps):
    """The gradients of a small network and its optimizer after steps(net, optimizer, loss)."""
    net = small_net(device)
    optimizer = fd.optim.SGD(net.parameters(), lr=0.1)
    x, labels = (t.to(device) for t in batch())

    def loss():
        return F.cross_entropy(net(x), labels)

    steps(net, optimizer, loss)
    return [p.grad.cpu().numpy() for p in net.parameters()], [p.detach().cpu().numpy() for p in net.parameters()]


def once(net, optimizer, loss):
    loss().backward()


def twice(net, optimizer, loss):
    loss().backward()
    (loss() * 2).backward()


def again(net, optimizer, loss):
    value = loss()
    value.backward(retain_graph=True)
    value.backward()


def into_zeros(net, optimizer, loss):
    loss().backward()
    optimizer.zero_grad(set_to_none=False)
    loss().backward()


def used_twice(net, optimizer, loss):
    layer = net[5]
    x = fd.ones(3, 64, device=layer.weight.device)
    (loss() + (F.linear(x, layer.weight) ** 2).mean() + layer.bias.sum()).backward()


def stepped(net, optimizer, loss):
    for _ in range(3):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    loss().backward()


@pytest.mark.parametrize("steps", [once, twice, again, into_zeros, used_twice, stepped])
def test_they_are_the_cpus(steps):
    for got, want in zip(gradients("cuda", steps), gradients("cpu", steps)):
        for a, b in zip(got, want):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("low", [False, True], ids=["float32", "bfloat16"])
def test_nothing_is_copied(copies, low):
    def step(net, optimizer, loss):
        with fd.autocast(enabled=low):
            value = loss()
        copies.clear()
        value.backward()
        flat = optimizer._buffers[0][0]
        assert all(p.grad.data is slot for p, slot in zip(net.parameters(), flat.slots))

    gradients("cuda", step)
    assert not copies


def test_without_an_optimizer_each_gradient_has_memory_of_its_own():
    layer = nn.Linear(3, 2, device="cuda")
    x = fd.ones(4, 3, device="cuda")
    layer(x).sum().backward()
    first = layer.weight.grad
    layer.zero_grad()
    (layer(x) * 2).sum().backward()
    assert first.tolist() == [[4.0] * 3] * 2 and layer.weight.grad.tolist() == [[8.0] * 3] * 2


def test_a_kept_gradient_as_an_input():
    layer = nn.Linear(4, 4, bias=False, device="cuda")
    optimizer = fd.optim.SGD(layer.parameters(), lr=0.1)
    layer(fd.ones(2, 4, device="cuda")).sum().backward()
    kept, values = layer.weight.grad, layer.weight.grad.tolist()
    for use in (lambda: F.linear(kept, layer.weight).sum().backward(),
                lambda: layer(fd.ones(4, 4, device="cuda")).backward(fd.tensor(values, device="cuda"))):
        optimizer.zero_grad()
        use()
    assert np.isfinite(layer.weight.grad.cpu().numpy()).all()


def test_filters_are_channels_last_and_travel_as_ever():
    """In memory alone: what is saved, loaded and handed out is in the order of (O, C, kh, kw)."""

    def made(device=None):
        net = nn.Sequential(nn.Conv2d(3, 4, (2, 3), device=device), nn.ReLU(), nn.Conv2d(4, 2, 2, device=device))
        return net, fd.optim.Adam(net.parameters(), lr=0.1)

    fd.manual_seed(1)
    (here, optimizer), (net, ours) = made(), made("cuda")
    net.load_state_dict(here.state_dict())
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 6)).astype(np.float32)
    for model, update in ((here, optimizer), (net, ours)):
        for _ in range(2):
            update.zero_grad()
            (model(fd.tensor(x, device=model[0].weight.device)) ** 2).mean().backward()
            update.step()
    weight, expected = net[0].weight, here[0].weight
    assert weight.data.strides == weight.grad.data.strides == (72, 4, 36, 12)
    np.testing.assert_allclose(weight.detach().cpu().numpy(), expected.detach().numpy(), rtol=1e-4, atol=1e-5)
    here.load_state_dict(net.state_dict())
    optimizer.load_state_dict(ours.state_dict())
    ours.load_state_dict(optimizer.state_dict())
    for name in ("exp_avg", "exp_avg_sq"):
        np.testing.assert_array_equal(ours.state[weight][name].cpu().numpy(), optimizer.state[expected][name].numpy())
    np.testing.assert_array_equal(expected.detach().numpy(), weight.detach().cpu().numpy())
