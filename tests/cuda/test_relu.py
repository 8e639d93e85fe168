"""On the GPU layers make the ReLU after them, and max pooling the backward of the one before it: the same bits."""

import collections

import numpy as np
import pytest

import fastdl as fd
from fastdl import functional as F
from fastdl import kernels, nn

pytestmark = pytest.mark.usefixtures("cuda")


def tensor(*shape, seed=0):
    x = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return fd.tensor(x, device="cuda", requires_grad=True)


@pytest.fixture
def calls(monkeypatch):
    """How often the kernels of ReLU are called."""
    seen = collections.Counter()
    for name in ("relu_forward", "relu_backward"):
        kernel = getattr(kernels._cuda, name)
        monkeypatch.setattr(kernels._cuda, name, lambda *a, f=kernel, n=name: seen.update([n]) or f(*a))
    return seen


def conv(x, w, b, relu):
    return F.conv2d(x, w, b, padding=1, relu=True) if relu else F.relu(F.conv2d(x, w, b, padding=1))


def linear(x, w, b, relu):
    return F.linear(x, w, b, relu=True) if relu else F.relu(F.linear(x, w, b))


SHAPES = {conv: ((2, 3, 6, 6), (4, 3, 3, 3), (4,)), linear: ((5, 7), (3, 7), (3,))}


def gradients(loss, *leaves):
    for leaf in leaves:
        leaf.grad = None
    loss.backward()
    return [leaf.grad.cpu().numpy() for leaf in leaves]


@pytest.mark.parametrize("layer", SHAPES)
@pytest.mark.parametrize("low", [False, True])
def test_a_layer_with_relu(calls, layer, low):
    leaves = [tensor(*shape, seed=i) for i, shape in enumerate(SHAPES[layer])]
    results = []
    for relu in (True, False):
        with fd.autocast(enabled=low):
            y = layer(*leaves, relu)
        weights = fd.tensor(np.random.default_rng(9).standard_normal(y.shape).astype(np.float32), device="cuda")
        results.append([y.float().detach().cpu().numpy(), *gradients((y.float() * weights).sum(), *leaves)])
        assert (calls["relu_forward"], calls["relu_backward"]) == (not relu, 1)
        calls.clear()
    for a, b in zip(*results):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("layer", [conv, lambda x, w, b, relu: F.relu(x)])
def test_pooling_takes_relus_backward_along(calls, layer):
    leaves = [tensor(*shape, seed=i) for i, shape in enumerate(SHAPES[conv])]

    def loss(apart):
        y = layer(*leaves, True)
        y = y + 0 if apart else y
        return (F.max_pool2d(y, 2) ** 2).sum()

    used = leaves[:1] if layer is not conv else leaves
    got, together = gradients(loss(False), *used), calls["relu_backward"]
    want = gradients(loss(True), *used)
    assert together == 0 and calls["relu_backward"] == 1
    for a, b in zip(got, want):
        np.testing.assert_array_equal(a, b)


def test_not_where_others_read_what_relu_made(calls):
    x, w, b = (tensor(*shape, seed=i) for i, shape in enumerate(SHAPES[conv]))

    def loss(together):
        y = conv(x, w, b, True)
        if together:
            return F.max_pool2d(y, 2).sum() + F.max_pool2d(y, 3).sum() + (y * y).sum()
        a, c, e = (conv(x, w, b, True) for _ in range(3))
        return F.max_pool2d(a, 2).sum() + F.max_pool2d(c, 3).sum() + (e * e).sum()

    got = gradients(loss(True), x, w, b)
    assert calls["relu_backward"] == 1
    for a, e in zip(got, gradients(loss(False), x, w, b)):
        np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-5)
    for reverse in (False, True):  # one reader is done when the other's turn comes
        y = conv(x, w, b, True)
        terms = [F.max_pool2d(y, 2).sum(), (y * 2).sum()]
        got = gradients(terms[reverse] + terms[not reverse], x)[0]
        pooled = gradients(F.max_pool2d(conv(x, w, b, True), 2).sum(), x)[0]
        np.testing.assert_allclose(got, pooled + gradients((conv(x, w, b, True) * 2).sum(), x)[0], rtol=1e-5, atol=1e-5)


def test_going_back_twice(calls):
    x, w, b = (tensor(*shape, seed=i) for i, shape in enumerate(SHAPES[conv]))
    loss = F.max_pool2d(conv(x, w, b, True), 2).sum()
    loss.backward(retain_graph=True)
    first = x.grad.cpu().numpy().copy()
    x.grad = None
    loss.backward()
    np.testing.assert_array_equal(first, x.grad.cpu().numpy())
    assert not calls


def test_going_back_another_way(calls):
    x, w, b = (tensor(*shape, seed=i) for i, shape in enumerate(SHAPES[conv]))
    y = conv(x, w, b, True)
    pooled, other = F.max_pool2d(y, 2).sum(), (y * 2).sum()
    pooled.backward(retain_graph=True)
    got = gradients(other, x)[0]
    np.testing.assert_array_equal(got, gradients((conv(x, w, b, True) * 2).sum(), x)[0])


def test_what_pooling_made_must_not_change():
    x = tensor(1, 1, 4, 4)
    y = F.max_pool2d(F.relu(x), 2)
    z = (y * 1).sum()
    with fd.no_grad():
        y.add_(1)
    with pytest.raises(RuntimeError, match="in-place operation modified it"):
        z.backward()


def test_modules(calls):
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(18, 4), nn.ReLU())
    net.to("cuda")
    x = tensor(2, 1, 8, 8)
    fused = net(x)
    fused.sum().backward()
    assert calls == {"relu_backward": 1}  # the last one's
    seen = []
    handle = net[0].register_forward_hook(lambda module, args, y: seen.append(y.detach().cpu().numpy().min()))
    np.testing.assert_array_equal(net(x).detach().cpu().numpy(), fused.detach().cpu().numpy())
    assert seen[0] < 0 and calls["relu_forward"] == 1
    handle.remove()

    class Shifted(nn.Linear):
        def forward(self, x):
            return super().forward(x) - 100

    net[4] = Shifted(18, 4, device="cuda")
    assert not net(x).detach().cpu().numpy().any()


def test_lenet(calls):
    net = fd.models.LeNet5(image_size=8).to("cuda")
    F.cross_entropy(net(tensor(2, 1, 8, 8)), fd.tensor([1, 2], device="cuda")).backward()
    assert calls == {"relu_backward": 1}


def test_arguments():
    x, w, b = (tensor(*shape) for shape in SHAPES[linear])
    with pytest.raises(TypeError, match="linear: relu must be a bool, got int"):
        F.linear(x, w, b, relu=1)
    with pytest.raises(TypeError, match="linear: input must be a Tensor, got list"):
        F.linear([1.0], w, b, relu=True)
    with pytest.raises(TypeError, match="conv2d: relu must be a bool, got str"):
        F.conv2d(tensor(1, 1, 3, 3), tensor(1, 1, 2, 2), relu="yes")
