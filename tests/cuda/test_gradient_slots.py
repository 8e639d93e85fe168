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
