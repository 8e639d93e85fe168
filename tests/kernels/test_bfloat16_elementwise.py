"""Activations, arithmetic and sums of bfloat16: what float32 gives, rounded once."""

import numpy as np
import pytest

from fastdl import kernels
from fastdl.kernels import numpy as reference

BF16 = kernels.use_bfloat16()
SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-30, -1e30, 3.0, -0.5]


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(BF16)


def special(n, seed):
    x = random(n, seed=seed)
    x[: min(n, len(SPECIAL))] = SPECIAL[:n]
    return x


def wide(value):
    if isinstance(value, tuple):
        return tuple(map(wide, value))
    return value.astype(np.float32) if isinstance(value, np.ndarray) and value.dtype == BF16 else value


def assert_rounded_once(got, want):
    """At most one unit of bfloat16 from float32's result, and nearly always none."""
    assert got.dtype == (BF16 if want.dtype == np.float32 else want.dtype) and got.shape == want.shape
    if got.dtype != BF16:
        return np.testing.assert_array_equal(got, want)
    with np.errstate(all="ignore"):
        rounded = want.astype(BF16)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(rounded))
    number = ~np.isnan(rounded)
    a, b = (x[number].view(np.int16).astype(np.int32) for x in (got, rounded))
    a, b = (np.where(x < 0, -(x & 0x7FFF), x) for x in (a, b))  # in the order of the numbers
    assert np.abs(a - b).max(initial=0) <= 1
    assert (a != b).mean() <= 0.02 if a.size > 100 else (a != b).sum() <= 2


UNARY = {
    "relu_forward": (), "sigmoid_forward": (), "tanh_forward": (), "leaky_relu_forward": (0.1,), "elu_forward": (0.7,),
    "softplus_forward": (1.5, 20.0), "gelu_forward": ("none",), "negative": (), "exp": (), "log": (), "sqrt": (),
    "absolute": (), "sign": (), "clip": (-0.5, 0.75),
}  # fmt: skip
BINARY = {
    "relu_backward": (), "sigmoid_backward": (), "tanh_backward": (), "leaky_relu_backward": (0.1,),
    "elu_backward": (0.7,), "softplus_backward": (1.5, 20.0), "gelu_backward": ("tanh",), "add": (), "subtract": (),
    "multiply": (), "divide": (), "power": (), "maximum": (), "minimum": (), "equal": (), "not_equal": (), "less": (),
    "less_equal": (), "greater": (), "greater_equal": (),
}  # fmt: skip


def call(module, name, *args):
    with np.errstate(all="ignore"):
        return getattr(module, name)(*args)


@pytest.mark.parametrize("n", [1, 7, 8, 9, 1000, 20_001])
@pytest.mark.parametrize("name", UNARY)
def test_functions_of_one_array(bfloat16, name, n):
    x = special(n, 1)
    assert_rounded_once(call(bfloat16, name, x, *UNARY[name]), call(reference, name, wide(x), *UNARY[name]))


@pytest.mark.parametrize("n", [1, 7, 8, 9, 1000, 20_001])
@pytest.mark.parametrize("name", BINARY)
def test_functions_of_two_arrays(bfloat16, name, n):
    a, b = special(n, 1), np.roll(special(n, 2), 1)
    got = call(bfloat16, name, a, b, *BINARY[name])
    assert_rounded_once(got, call(reference, name, wide(a), wide(b), *BINARY[name]))


@pytest.mark.parametrize("first", [0, 1, 3])
def test_arrays_that_begin_anywhere(bfloat16, first):
    x, y = random(1030), random(1030, seed=1)
    a, b = x[first : first + 1024], y[:1024]
    assert_rounded_once(bfloat16.add(a, b), wide(a) + wide(b))
    assert_rounded_once(bfloat16.relu_forward(a), np.maximum(wide(a), 0))
    np.testing.assert_array_equal(bfloat16.cast(a, "float32"), wide(a))


def test_broadcasting_and_memory_orders(bfloat16):
    x, row, column = random(6, 5, 4, 3), random(3), random(5, 1, 1)
    last = x.transpose(0, 3, 1, 2)
    for a, b in ((x, row), (column, x), (x[::2], x[1::2]), (last, last), (x, x[:, :, ::-1])):
        assert_rounded_once(bfloat16.multiply(a, b), wide(a) * wide(b))
    assert_rounded_once(bfloat16.where(wide(x) > 0, x, row), np.where(wide(x) > 0, wide(x), wide(row)))
    y = bfloat16.relu_forward(last)
    assert y.strides == last.strides
    assert_rounded_once(y, np.maximum(wide(last), 0))


def test_in_place(bfloat16):
    x, y = random(3, 50), random(3, 50, seed=1)
    want = (wide(x) + wide(y)).astype(BF16)
    bfloat16.accumulate(x, y)
    np.testing.assert_array_equal(x, want)
    part = x[:, 1::2]
    scaled = (wide(part) * np.float32(0.3)).astype(BF16)
    bfloat16.scale(part, 0.3)
    np.testing.assert_array_equal(x[:, 1::2], scaled)
    np.testing.assert_array_equal(x[:, ::2], want[:, ::2])


@pytest.mark.parametrize("axes", [None, (0,), (1,), (2,), (0, 2), (1, 2), (0, 1, 2)], ids=str)
def test_sums(bfloat16, axes):
    x = random(17, 33, 40)
    for name in ("sum", "mean"):
        got = getattr(bfloat16, name)(x, axes, False)
        assert_rounded_once(got, np.asarray(getattr(reference, name)(wide(x), axes, False)))
    if axes == (0, 1):
        assert_rounded_once(bfloat16.sum_to(x, (40,)), reference.sum_to(wide(x), (40,)))


def test_sums_that_bfloat16_could_not_hold(bfloat16):
    x = np.ones(100_000, BF16)
    assert float(bfloat16.sum(x, None, False)) == float(np.float32(100_000).astype(BF16))
    assert float(bfloat16.mean(x, None, False)) == 1.0
    assert float(bfloat16.sum_squares(x)) == 100_000 and bfloat16.sum_squares(x).dtype == np.float64
    assert_rounded_once(bfloat16.sum_to(np.ones((300, 5), BF16), (5,)), np.full(5, 300, np.float32))
    empty = np.ones((0, 3), BF16)
    assert bfloat16.sum(empty, (0,), False).tolist() == [0, 0, 0] and np.isnan(bfloat16.mean(empty, (0,), False)).all()


@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide"])
def test_numbers_are_not_rounded_first(bfloat16, name):
    number, kernel = np.array(0.1, np.float32), getattr(bfloat16, name)
    for x in (special(1000, 1), random(5, 6)[:, ::2], random(2, 3, 4, 5).transpose(0, 3, 1, 2), random(), random(0, 2)):
        for a, b in ((x, number), (number, x)):
            with np.errstate(all="ignore"):
                assert_same_numbers(call(bfloat16, name, a, b), call(reference, name, wide(a), wide(b)).astype(BF16))
    for a, b in ((random(3), np.ones(1, np.float32)), (np.ones((1, 1), np.float32), random(3))):
        with pytest.raises(TypeError, match=f"{name}: (a|b) must be bfloat16 like|{name}: b must be float32 like a"):
            kernel(a, b)


def assert_same_numbers(got, want):
    assert got.dtype == want.dtype and got.shape == want.shape
    np.testing.assert_array_equal(wide(got), wide(want))


@pytest.mark.parametrize("name", ["power", "maximum", "less"])
def test_numbers_of_float32_elsewhere(bfloat16, name):
    with pytest.raises(TypeError, match=f"{name}: b must be bfloat16 like a, got float32"):
        getattr(bfloat16, name)(random(3), np.array(0.1, np.float32))


def test_dtypes_must_agree(bfloat16):
    x, y = random(4), np.ones(4, np.float32)
    for a, b, name in ((x, y, "b"), (y, x, "b")):
        with pytest.raises(TypeError, match=f"add: {name} must be|add: a must be"):
            bfloat16.add(a, b)
    with pytest.raises(TypeError, match="relu_backward: (dy|y) must be"):
        bfloat16.relu_backward(x, y)
