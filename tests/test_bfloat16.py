"""bfloat16: the dtype on every device, and mixed precision with `autocast`."""

import subprocess
import sys
import threading

import numpy as np
import pytest

import fastdl as fd
from fastdl import functional as F
from fastdl import nn
from small_nets import batch, small_net

BF16 = fd.bfloat16
ULP = 2.0**-8  # half a unit in the last place, relative


def values(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def host(t):
    return t.detach().cpu().data.astype(np.float32)


# The dtype


def test_rounding_is_to_the_nearest_even(device):
    bits = np.random.default_rng(0).integers(0, 2**32, 20_000, dtype=np.uint32)
    ties = (np.arange(0, 2**16, 7, dtype=np.uint32) << 16) | 0x8000
    x = np.concatenate([bits, ties, ties + 1, ties - 1]).view(np.float32)
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 3.4e38, 1e-40, -1e-45], np.float32)
    x = np.concatenate([x, special])
    with np.errstate(all="ignore"):
        want = x.astype(BF16)
    got = fd.tensor(x).bfloat16()
    assert got.dtype == BF16 and got.device == device
    number = ~np.isnan(x)
    np.testing.assert_array_equal(got.cpu().data[number].view(np.uint16), want[number].view(np.uint16))
    assert np.isnan(got.float().cpu().numpy()[~number]).all()
    np.testing.assert_array_equal(got.float().cpu().numpy()[number], want[number].astype(np.float32))


@pytest.mark.parametrize("dtype", ["float64", "int32", "int64", "uint8", "bool"])
def test_conversions(device, dtype):
    x = fd.tensor(np.array([0, 1, 2, 100, 200], dtype))
    y = x.to(BF16)
    assert y.dtype == BF16 and y.tolist() == [float(v) for v in x.tolist()]
    assert y.to(dtype).dtype == np.dtype(dtype) and y.to(dtype).tolist() == x.tolist()


def test_making_and_showing(device):
    x = fd.tensor([1.0, 2.0, 3.3], dtype="bfloat16")
    assert x.tolist() == [1.0, 2.0, 3.296875] and x[2].item() == 3.296875 and isinstance(x[0].item(), float)
    where = ", device='cuda'" if device == "cuda" else ""
    assert repr(x) == f"tensor([1.      , 2.      , 3.296875], dtype=bfloat16{where})"
    assert x.is_floating_point() and x.bfloat16() is x and x.float().dtype == np.float32
    for made in (fd.zeros(2, dtype=BF16), fd.ones_like(x), fd.full((2,), 7, dtype="bfloat16"), fd.rand(3, dtype=BF16)):
        assert made.dtype == BF16 and made.device == device
    assert fd.tensor(np.ones(2, BF16)).dtype == BF16


FUNCTIONS = {
    "add": lambda x, y: x + y,
    "number": lambda x, y: 2 * x - 1.5,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / (y + 3),
    "pow": lambda x, y: (x + 4) ** 2,
    "sum": lambda x, y: x.sum(1),
    "mean": lambda x, y: x.mean(),
    "max": lambda x, y: x.max(1).values,
    "exp": lambda x, y: x.exp(),
    "relu": lambda x, y: F.relu(x),
    "gelu": lambda x, y: F.gelu(x),
    "softmax": lambda x, y: F.softmax(x, 1),
    "matmul": lambda x, y: x @ y.T,
    "linear": lambda x, y: F.linear(x, y),
    "where": lambda x, y: fd.where(x > 0, x, y),
    "cat": lambda x, y: fd.cat([x, y]),
    "index": lambda x, y: x[1:, ::2],
    "mse": lambda x, y: F.mse_loss(x, y),
    "layout": lambda x, y: x.reshape(2, 3, 7).transpose(0, 2).contiguous(),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_round_what_float32_gives(device, name):
    """Within half a unit of bfloat16 per operation, gradients too."""
    function = FUNCTIONS[name]
    low = [fd.tensor(values(6, 7, seed=s).astype(BF16), requires_grad=True) for s in (1, 2)]
    wide = [x.detach().float().requires_grad_() for x in low]
    y, want = function(*low), function(*wide)
    assert y.dtype == BF16 and y.device == device
    tolerance = 4 * ULP
    np.testing.assert_allclose(host(y), host(want), rtol=tolerance, atol=tolerance * np.abs(host(want)).max())
    weight = fd.tensor(values(*want.shape, seed=3).astype(BF16)).float()
    (y.float() * weight).sum().backward()
    (want * weight).sum().backward()
    for a, b in zip(low, wide):
        assert (a.grad is None) == (b.grad is None)
        if a.grad is not None:
            assert a.grad.dtype == BF16
            np.testing.assert_allclose(
                host(a.grad), host(b.grad), rtol=tolerance, atol=4 * tolerance * np.abs(host(b.grad)).max()
            )


def test_comparisons_and_places_are_exact(device):
    x = fd.tensor(values(40).astype(BF16))
    assert (x > 0).tolist() == [v > 0 for v in x.tolist()]
    assert x.argmax().item() == int(np.argmax(host(x)))


def test_dtypes_do_not_mix_unasked(device):
    x, y = fd.ones(2, 3, dtype=BF16), fd.ones(2, 3)
    with pytest.raises(TypeError, match="add: other must be bfloat16 like input, got float32; convert one"):
        x + y
    with pytest.raises(TypeError, match="matmul: other must be bfloat16 like input, got float32"):
        x @ y.T
    with pytest.raises(TypeError, match="weight must be bfloat16 like x, got float32"):
        F.linear(x, y)
    with pytest.raises(TypeError, match="must be float32 like x, got bfloat16|input must be bfloat16|x must be"):
        F.linear(y, x)


def test_in_place(device):
    x = fd.tensor(values(5).astype(BF16))
    before = host(x)
    x += 1
    x.mul_(2).clamp_(0, 3)
    x[1] = 7
    want = np.clip(((before + 1).astype(BF16).astype(np.float32) * 2).astype(BF16).astype(np.float32), 0, 3)
    want[1] = 7
    np.testing.assert_array_equal(host(x), want)
    x.copy_(fd.ones(5))
    assert x.dtype == BF16 and x.tolist() == [1.0] * 5


def test_a_model_of_bfloat16(device):
    net = small_net(device="cuda" if device == "cuda" else None)
    x, _ = batch(4)
    x = x.to("cuda") if device == "cuda" else x
    want = net.eval()(x)
    net.bfloat16()
    y = net(x.bfloat16())
    assert y.dtype == BF16 and {p.dtype for p in net.parameters()} == {BF16}
    np.testing.assert_allclose(host(y), host(want), atol=0.05)
    y.float().sum().backward()
    assert {p.grad.dtype for p in net.parameters()} == {BF16}
    with pytest.raises(TypeError, match="params must be float32 or float64, got bfloat16 at 0"):
        fd.optim.SGD(net.parameters(), lr=0.1)


def test_layers_that_are_made_so(device):
    where = "cuda" if device == "cuda" else None
    norm = nn.BatchNorm2d(4, dtype=BF16, device=where)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, dtype=BF16, device=where), norm, nn.ReLU(), nn.Flatten(),
                        nn.Linear(64, 5, dtype="bfloat16", device=where))  # fmt: skip
    assert {t.dtype for t in (*net.parameters(), norm.running_mean, norm.running_var)} == {BF16}
    assert nn.Embedding(3, 2, dtype=BF16).weight.dtype == BF16
    y = net(fd.tensor(values(2, 3, 6, 6).astype(BF16)))
    y.sum().backward()
    assert y.dtype == BF16 and {p.grad.dtype for p in net.parameters()} == {BF16}
    fd.manual_seed(0)
    drawn = nn.Linear(50, 40, dtype=BF16).weight.tolist()
    assert max(map(max, drawn)) < 1 / 50**0.5 + 1e-3 and min(map(min, drawn)) < -0.9 / 50**0.5


def test_data_sets(device):
    images, labels = values(10, 3, 4, 4).astype(BF16), np.arange(10)
    dataset = fd.data.ArrayDataset(images, labels).to(device)
    batches = list(fd.data.DataLoader(dataset, batch_size=4))
    assert [x.dtype for x, _ in batches] == [BF16] * 3 and batches[0][0].device == device
    np.testing.assert_array_equal(np.concatenate([host(x) for x, _ in batches]), images.astype(np.float32))
    assert "bfloat16[3, 4, 4]" in repr(fd.data.ArrayDataset(fd.ones(2, 3, 4, 4, dtype=BF16)))
    with pytest.raises(TypeError, match="array 0 must be uint8, float32 or float64 to be converted, got bfloat16"):
        fd.data.DataLoader(dataset, scale=0.5)


def test_saving(tmp_path):
    state = {"a": fd.tensor([1.0, 3.3], dtype=BF16), "b": fd.ones(2)}
    fd.save(state, tmp_path / "x.safetensors")
    loaded = fd.load(tmp_path / "x.safetensors")
    assert loaded["a"].dtype == BF16 and loaded["a"].tolist() == state["a"].tolist() and loaded["b"].tolist() == [1, 1]
    net = nn.Linear(2, 1, bias=False)
    net.load_state_dict({"weight": state["a"].reshape(1, 2)})
    assert net.weight.dtype == np.float32 and net.weight.tolist() == [[1.0, 3.296875]]


# autocast


def test_what_autocast_computes_in(device):
    x, w = fd.tensor(values(4, 8)), fd.tensor(values(5, 8))
    images, filters = fd.tensor(values(2, 3, 6, 6)), fd.tensor(values(4, 3, 3, 3))
    labels = fd.tensor([0, 1, 2, 3])
    with fd.autocast():
        assert fd.is_autocast_enabled()
        y, z = F.linear(x, w), F.conv2d(images, filters)
        for low in (y, z, x @ w.T, fd.mm(x, w.T), F.relu(y), F.max_pool2d(z, 2), y.reshape(-1), y + y, y.mean()):
            assert low.dtype == BF16
        bn = nn.BatchNorm2d(4, device=x.device)
        assert bn(z).dtype == BF16 and bn.running_mean.dtype == np.float32
        wide = (
            F.softmax(y, 1), F.log_softmax(y, 1), F.cross_entropy(y, labels), F.mse_loss(y, y), F.l1_loss(y, x[:, :5]),
            y.sum(), y.exp(), y.float().abs().log(), y**2, x + 1, F.relu(x), y + x[:, :5],
        )  # fmt: skip
        assert {t.dtype for t in wide} == {np.dtype(np.float32)}
    assert not fd.is_autocast_enabled() and F.linear(x, w).dtype == np.float32


def test_gradients_of_weights_are_float32(device):
    x, w, b = (fd.tensor(values(*s, seed=i), requires_grad=True) for i, s in enumerate(((6, 7), (4, 7), (4,))))
    with fd.autocast():
        y = F.linear(x, w, b)
    assert y.dtype == BF16 and "Linear" in repr(y)
    y.float().sum().backward()
    assert {t.grad.dtype for t in (x, w, b)} == {np.dtype(np.float32)}
    low = host(x).astype(BF16).astype(np.float32)
    np.testing.assert_allclose(host(w.grad), np.broadcast_to(low.sum(0), (4, 7)), rtol=1e-5, atol=1e-5)
    assert b.grad.tolist() == [6.0] * 4  # counted in float32


def test_against_torch():
    torch = pytest.importorskip("torch")
    x, w, b, k = values(8, 16), values(5, 16, seed=1), values(5, seed=2), values(6, 1, 3, 3, seed=3)

    def run(lib, make, autocast):
        tensors = [make(a) for a in (x, w, b, k)]
        f = lib.nn.functional
        with autocast:
            y = f.linear(tensors[0], tensors[1], tensors[2])
            image = f.relu(f.conv2d(tensors[0].reshape(8, 1, 4, 4), tensors[3], padding=1))
            loss = f.mse_loss(y.float(), y.float() * 0 + 1) + image.float().mean()
        loss.backward()
        return [y.float(), image.float(), *(t.grad for t in tensors)]

    got = run(fd, lambda a: fd.tensor(a, requires_grad=True), fd.autocast())
    want = run(torch, lambda a: torch.tensor(a, requires_grad=True), torch.autocast("cpu", torch.bfloat16))
    for a, t in zip(got, want):
        t = t.detach().numpy()
        np.testing.assert_allclose(host(a), t, rtol=3 * ULP, atol=3 * ULP * np.abs(t).max())


def test_where_and_when_it_is_on():
    x, w = fd.tensor(values(4, 8)), fd.tensor(values(5, 8))

    @fd.autocast()
    def low():
        return F.linear(x, w).dtype

    assert low() == BF16 and F.linear(x, w).dtype == np.float32
    with fd.autocast(), fd.autocast(enabled=False):
        assert F.linear(x, w).dtype == np.float32 and not fd.is_autocast_enabled()
    with fd.autocast("cuda"):
        assert F.linear(x, w).dtype == np.float32
    with fd.autocast("cpu", dtype=fd.bfloat16) as context:
        assert F.linear(x, w).dtype == BF16
        with context:
            pass
        assert F.linear(x, w).dtype == BF16
        other = []
        thread = threading.Thread(target=lambda: other.append(fd.is_autocast_enabled()))
        thread.start()
        thread.join()
        assert other == [False]
    with pytest.raises(ZeroDivisionError), fd.autocast():
        raise ZeroDivisionError
    assert not fd.is_autocast_enabled()
    with fd.autocast():
        assert F.linear(x.double(), w.double()).dtype == np.float64


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"device_type": "gpu"}, ValueError, "device_type must be None, 'cuda', 'cpu' or 'numpy', got 'gpu'"),
        ({"dtype": "float16"}, ValueError, "dtype must be bfloat16, got float16"),
        ({"dtype": 3}, ValueError, "dtype must be bfloat16, got 3"),
        ({"dtype": np.float32}, ValueError, "dtype must be bfloat16, got float32"),
        ({"enabled": 1}, TypeError, "enabled must be a bool, got int"),
    ],
)
def test_bad_arguments(arguments, error, text):
    with pytest.raises(error, match=f"autocast: {text}"):
        fd.autocast(**arguments)
    with pytest.raises(TypeError, match="decorated object must be callable"):
        fd.autocast()(3)


def test_a_weight_changed_before_backward_is_noticed(device):
    x, w = fd.tensor(values(4, 8), requires_grad=True), fd.tensor(values(5, 8), requires_grad=True)
    with fd.autocast():
        y = F.linear(F.relu(x), w)
        z = F.relu(y)
    z.detach().add_(1)
    with pytest.raises(RuntimeError, match="in-place operation modified it"):
        z.sum().backward()


def train(device, capture, steps=6, low=True):
    net = small_net(device="cuda" if device == "cuda" else None)
    optimizer = fd.optim.Adam(net.parameters(), lr=1e-2)
    x, labels = batch()
    if device == "cuda":
        x, labels = x.cuda(), labels.cuda()

    def step(x, labels):
        optimizer.zero_grad()
        with fd.autocast(enabled=low):
            loss = F.cross_entropy(net(x), labels)
        loss.backward()
        optimizer.step()
        return loss

    step = fd.capture(step) if capture else step
    losses = [step(x, labels).item() for _ in range(steps)]
    return losses, [host(p) for p in net.parameters()], {p.dtype for p in net.parameters()}


def test_captured_is_eager_to_the_bit_and_near_float32(device):
    eager, weights, dtypes = train(device, capture=False)
    captured, again, _ = train(device, capture=True)
    assert eager == captured and dtypes == {np.dtype(np.float32)}
    for a, b in zip(weights, again):
        np.testing.assert_array_equal(a, b)
    wide, _, _ = train(device, capture=False, low=False)
    assert wide != eager
    np.testing.assert_allclose(eager, wide, rtol=0.03)


def test_a_captured_step_follows_autocast(device):
    x, w = fd.tensor(values(4, 8)), fd.tensor(values(5, 8))
    step = fd.capture(lambda x, w: F.linear(x, w))
    seen = []
    for _ in range(4):
        seen.append(step(x, w).dtype)
        with fd.autocast():
            seen.append(step(x, w).dtype)
    assert seen == [np.dtype(np.float32), BF16] * 4


def test_without_ml_dtypes():
    code = """
import sys
sys.modules["ml_dtypes"] = None
import fastdl as fd
for ask in (lambda: fd.bfloat16, fd.autocast, lambda: fd.ones(2).bfloat16()):
    try:
        ask()
    except ImportError as error:
        assert str(error) == "bfloat16 needs the package ml_dtypes: pip install ml_dtypes", error
    else:
        raise AssertionError
with fd.autocast(enabled=False):
    pass
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def test_it_is_not_loaded_unasked():
    code = "import sys, fastdl as fd; fd.ones(2) + 1; assert 'ml_dtypes' not in sys.modules"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)




def test_one_object_in_two_threads():
    context, inside, leave = fd.autocast(), threading.Event(), threading.Event()

    def other():
        with context:
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with fd.autocast(enabled=False), fd.autocast("cpu"):
        thread.start()
        inside.wait(10)
        with context:
            leave.set()
            thread.join()
        assert fd.functional.precision.mode.where == "cpu"
    assert not fd.is_autocast_enabled()


def test_what_promotes_within_autocast(device):
    x, w = fd.tensor(values(4, 8)), fd.tensor(values(8, 8))
    buffer = fd.zeros(4, 8)
    with fd.autocast():
        y = F.linear(x, w)
        exact = y + x
        assert fd.cat([y, x], 1).dtype == fd.stack([x, y]).dtype == np.float32
        y += x
        assert y.dtype == BF16 and F.linear(x, w).exp_().dtype == BF16
        buffer[:] = F.linear(x, w)
        y[0] = buffer[0]
    assert exact.dtype == buffer.dtype == np.float32 and y.dtype == BF16
    np.testing.assert_array_equal(host(y)[1:], host(exact.bfloat16())[1:])
    for mix in (lambda: fd.cat([y, x]), lambda: y.add_(x), lambda: buffer.__setitem__(0, y[0])):
        with pytest.raises(TypeError, match="must be"):
            mix()


def test_uniform_numbers_stay_below_one():
    x = fd.rand(50_000, dtype=BF16)
    assert host(x).max() == 255 / 256 and host(x).min() == 0
    assert abs(host(x).mean() - 0.5) < 0.01


def test_kernels_of_numbers_beside_bfloat16(device):
    layer = nn.Linear(4, 4).bfloat16()
    layer(fd.ones(2, 4, dtype=BF16)).sum().backward()
    for norm_type in (1.0, 2.0, float("inf")):
        total = nn.utils.clip_grad_norm_(layer.parameters(), 1.0, norm_type)
        assert np.isfinite(total.item())


def test_another_name_of_the_dtype():
    import ml_dtypes

    other = np.dtype(ml_dtypes.bfloat16).newbyteorder("=")
    x = fd.Tensor(np.ones(3, other))
    assert (x + 1).tolist() == [2, 2, 2]
