"""Numbers beside tensors of bfloat16: taken in float32, and only the result is rounded."""

import numpy as np
import pytest

import fastdl as fd
from fastdl import functional as F

BF16 = fd.bfloat16


def values(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def host(t):
    return t.detach().cpu().data.astype(np.float32)


WITH_NUMBERS = {
    "x + n": lambda x, n: x + n, "x - n": lambda x, n: x - n, "n - x": lambda x, n: n - x, "x * n": lambda x, n: n * x,
    "x / n": lambda x, n: x / n, "n / x": lambda x, n: n / x,
}  # fmt: skip
IN_PLACE = {
    "x += n": lambda x, n: x.add_(n), "x -= n": lambda x, n: x.sub_(n), "x *= n": lambda x, n: x.mul_(n),
    "x /= n": lambda x, n: x.div_(n),
}  # fmt: skip


@pytest.mark.parametrize("name", [*WITH_NUMBERS, *IN_PLACE])
def test_numbers_are_not_rounded_first(device, name):
    """Nor in backward: what float32 gives, rounded once."""
    function, n = {**WITH_NUMBERS, **IN_PLACE}[name], 0.1
    x = fd.tensor(values(20, 50).astype(BF16), requires_grad=name in WITH_NUMBERS)
    wide = x.detach().float().requires_grad_(name in WITH_NUMBERS)
    y, want = function(x, n), function(wide, n)
    assert y.dtype == BF16 and (y is x or name in WITH_NUMBERS)
    np.testing.assert_array_equal(host(y), host(want.bfloat16()))
    if name in ("x * n", "x / n"):
        y.backward(fd.ones_like(y))
        want.backward(fd.ones_like(want))
        np.testing.assert_array_equal(host(x.grad), host(wide.grad.bfloat16()))


def test_numbers_before_bfloat16_is_in_use(monkeypatch):
    x = fd.ones(2, dtype=np.float64)
    monkeypatch.setattr(fd.kernels, "bfloat16", None)  # to which the dtype float64 is equal
    assert (0.1 * x).tolist() == [0.1, 0.1] and (x + 0.1).tolist() == [1.1, 1.1]


def test_captured_steps_take_numbers_the_same_way(device):
    def step(x):
        return (x * 0.1 + 0.3).relu() - 0.7

    x, captured = fd.tensor(values(20, 50).astype(BF16)), fd.capture(step)
    want = host(step(x))
    for _ in range(4):
        np.testing.assert_array_equal(host(captured(x)), want)


def test_numbers_as_in_pytorch(device):
    """PyTorch rounds the number first in powers and comparisons; in + and - on the host as well, but not on a GPU."""
    torch = pytest.importorskip("torch")
    x = fd.tensor(values(20, 50).astype(BF16))
    theirs = torch.tensor(host(x)).bfloat16()
    for function in (lambda x: x * 0.1, lambda x: x / 0.3, lambda x: abs(x) ** 2.3, lambda x: x < 0.1):
        np.testing.assert_array_equal(host(function(x)), function(theirs).float().numpy())
    for function in (lambda x: x.mul_(0.1), lambda x: x.div_(0.3)):
        np.testing.assert_array_equal(host(function(x.clone())), function(theirs.clone()).float().numpy())
    assert (fd.tensor([0.1], dtype=BF16) == 0.1).item() and (torch.tensor([0.1]).bfloat16() == 0.1).item()


def test_numbers_of_numpy(device):
    n, x = BF16.type(1.5), fd.tensor([1.0, 2.0])
    low = x.bfloat16()
    for y in (x * n, n * x, low * n, low + (n - 1), low.clamp(n, n), fd.full((2,), n), low.clone().fill_(n), low**n):
        assert y.dtype in (BF16, np.float32)
    assert (low * n).tolist() == [1.5, 3.0] == (n * x).tolist() and (x == n).tolist() == [False, False]
    ints = fd.tensor([1, 2])
    assert (ints * n).tolist() == [1.5, 3.0] and fd.where(ints > 1, n, n).tolist() == [1.5, 1.5]
    low[0] = n
    assert low.masked_fill(low > n, n).tolist() == [1.5, 1.5] and F.leaky_relu(-x, n).tolist() == [-1.5, -3.0]
    assert fd.where(ints > 1, np.float32(0.5), np.float32(1)).tolist() == [1.0, 0.5]
