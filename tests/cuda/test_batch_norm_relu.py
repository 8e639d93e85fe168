"""Batch norm with ReLU and a residual in its passes on the GPU, and who asks for it."""

import numpy as np
import pytest

import fastdl as fd
from fastdl import functional as F
from fastdl import kernels, models, nn

pytestmark = pytest.mark.usefixtures("cuda")


def images(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.fixture
def launched(monkeypatch):
    """The kernels of activations, sums and batch norm that ran, in order."""
    seen = []
    names = ("relu_forward", "relu_backward", "add", "accumulate", "batch_norm_forward", "batch_norm_backward")
    for name in (*names, "batch_norm_residual_backward"):
        kernel = getattr(kernels._cuda, name)
        monkeypatch.setattr(
            kernels._cuda, name, lambda *a, f=kernel, n=name, **k: seen.append(n) or f(*a, **k)
        )
    return seen


def run(device, fused, residual, affine=True):
    norm = nn.BatchNorm2d(5, affine=affine, device=device)
    if affine:
        with fd.no_grad():
            norm.weight.copy_(fd.tensor(images(5, seed=1), device=device))
            norm.bias.copy_(fd.tensor(images(5, seed=2), device=device))
    x, r = (fd.tensor(images(3, 5, 4, 6, seed=s), requires_grad=True, device=device) for s in (3, 4))
    r = r if residual else None
    if fused:
        y = norm(x, relu=True, residual=r)
    else:
        y = F.relu(norm(x) if r is None else norm(x) + r)
    weight = fd.tensor(images(3, 5, 4, 6, seed=5), device=device)
    (y * weight).sum().backward()
    tensors = [y, x.grad, norm.running_mean, norm.running_var, *(p.grad for p in norm.parameters())]
    return [t.detach().cpu().numpy() for t in (*tensors, *([] if r is None else [r.grad]))]


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("residual", [False, True])
def test_it_is_the_three_of_them(launched, residual, affine):
    for a, b in zip(run("cuda", True, residual, affine), run("cuda", False, residual, affine)):
        np.testing.assert_array_equal(a, b)
    assert launched[:2] == ["batch_norm_forward", f"batch_norm_{'residual_' if residual else ''}backward"]
    for a, b in zip(run("cuda", True, residual, affine), run("cpu", True, residual, affine)):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_in_bfloat16():
    norm = nn.BatchNorm2d(8, device="cuda")
    x, r = (fd.tensor(images(3, 8, 4, 4, seed=s), requires_grad=True, device="cuda") for s in (1, 2))
    y = norm(x.bfloat16(), relu=True, residual=r.bfloat16())
    assert y.dtype == fd.bfloat16
    want = F.relu(nn.BatchNorm2d(8, device="cuda")(x) + r)
    np.testing.assert_allclose(y.float().detach().cpu().numpy(), want.detach().cpu().numpy(), rtol=0.02, atol=0.02)
    y.float().sum().backward()
    assert x.grad.dtype == r.grad.dtype == norm.weight.grad.dtype == np.float32


def test_sequential_and_models_ask_for_it(launched):
    x = fd.tensor(images(2, 3, 8, 8), device="cuda")
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4), nn.Flatten()).to("cuda")
    net(x)
    assert launched == ["batch_norm_forward"] * 2
    launched.clear()
    net[2].register_forward_hook(lambda module, inputs, output: None)
    net(x)
    assert launched == ["batch_norm_forward", "relu_forward", "batch_norm_forward"]
    launched.clear()
    net.eval()(x)
    assert launched == ["relu_forward"]
    launched.clear()
    models.ResNetCifar(8).to("cuda")(fd.tensor(images(2, 3, 8, 8), device="cuda"))
    assert launched == ["batch_norm_forward"] * 9


def test_bad_arguments():
    norm, x = nn.BatchNorm2d(3, device="cuda"), fd.ones(2, 3, 4, 4, device="cuda")
    with pytest.raises(ValueError, match="batch_norm: relu must be True where there is a residual, got False"):
        norm(x, residual=x)
    with pytest.raises(ValueError, match=r"residual must have shape \(2, 3, 4, 4\), got \(2, 3, 4, 1\)"):
        norm(x, relu=True, residual=x[..., :1])
    with pytest.raises(TypeError, match="add: other must be float32 like input, got float64"):
        norm(x, relu=True, residual=x.double())
    with pytest.raises(TypeError, match="batch_norm: residual must be a Tensor, got int"):
        norm(x, relu=True, residual=1)


def test_a_residual_of_another_dtype_within_autocast():
    norm, x = nn.BatchNorm2d(4, device="cuda"), fd.tensor(images(2, 4, 3, 3), device="cuda")
    with fd.autocast():
        y = norm(x.bfloat16(), relu=True, residual=x)
    assert y.dtype == np.float32
    want = F.relu(nn.BatchNorm2d(4, device="cuda")(x) + x)
    np.testing.assert_allclose(y.detach().cpu().numpy(), want.detach().cpu().numpy(), rtol=0.02, atol=0.02)


def grads_of_uses(uses, fused, graph=False, dtype="float32"):
    """Gradients where y = relu(norm(x) + r) is used so many times."""
    norm = nn.BatchNorm2d(4, device="cuda")
    x, r = (fd.tensor(images(3, 4, 5, 2, seed=s), requires_grad=True, device="cuda") for s in (1, 2))
    low = [t.bfloat16() for t in (x, r)] if dtype == "bfloat16" else [x, r]
    y = norm(low[0], relu=True, residual=low[1]) if fused else F.relu(norm(low[0]) + low[1])
    weights = [fd.tensor(images(3, 4, 5, 2, seed=5 + use), device="cuda") for use in range(uses)]
    if dtype == "bfloat16":
        weights = [w.bfloat16() for w in weights]
    loss = sum((y * w).float().sum() for w in weights)
    for again in range(2 if graph else 1):
        loss.backward(retain_graph=graph and not again)
    return [t.grad.cpu().numpy() for t in (x, r, *norm.parameters())]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("uses", [1, 2, 3])
def test_gradients_of_several_uses(launched, uses, graph, dtype):
    """The last is added by the backward pass itself, to the same bits."""
    gots = grads_of_uses(uses, True, graph, dtype)
    assert launched.count("batch_norm_residual_backward") == (2 if graph else 1) and "relu_backward" not in launched
    for got, want in zip(gots, grads_of_uses(uses, False, graph, dtype)):
        np.testing.assert_array_equal(got, want)


def test_a_residual_network_adds_nothing_at_its_blocks(launched):
    """Two gradients meet at the input of each block; that of the first was made by a batch norm without residual."""
    net = models.ResNetCifar(20).to("cuda")
    x = fd.tensor(images(2, 3, 8, 8), device="cuda")
    net(x).sum().backward()
    launched.clear()
    net.zero_grad()
    net(x).sum().backward()
    backward = launched[launched.index("batch_norm_residual_backward") :]
    assert backward.count("batch_norm_residual_backward") == 9 and backward.count("relu_backward") == 0
    assert backward.count("add") + backward.count("accumulate") == 1
