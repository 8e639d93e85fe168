"""fastdl.capture: what a captured step returns in unusual cases, and what it does after a comparison failed."""

import numpy as np
import pytest

import fastdl as fd
from fastdl import nn
from fastdl.nn import functional as F

pytestmark = pytest.mark.skipif(fd.get_device() != "cpu", reason="needs the compiled kernels")


def values(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


@pytest.mark.parametrize(
    "part",
    [lambda x: x.reshape(-1), lambda x: x[1], lambda x: x[:, 1:3], lambda x: x.T, lambda x: x],
    ids=("reshaped", "row", "columns", "transposed", "whole"),
)
def test_a_part_of_an_argument_comes_back_as_such(part):
    captured = fd.capture(part)
    for seed in range(5):
        x = values(3, 4, seed=seed)
        got = captured(fd.tensor(x)).numpy()
        assert got.shape == part(x).shape
        np.testing.assert_array_equal(got, part(x))


def test_an_empty_batch():
    model = nn.Linear(3, 4)

    @fd.capture
    def step(x, y):
        model.weight.grad = None
        loss = F.cross_entropy(model(x), y, reduction="sum")
        loss.backward()
        return loss

    for _ in range(4):
        assert step(fd.tensor(values(0, 3)), fd.tensor(np.zeros(0, np.int64))).numpy() == 0
        np.testing.assert_array_equal(model.weight.grad.numpy(), np.zeros((4, 3)))


def test_a_program_that_was_refuted_is_not_replayed():
    first, second = fd.tensor(values(4)), fd.tensor(values(4, seed=1))
    factor = [1.0]

    @fd.capture
    def step(x):
        return x * factor[0]

    for _ in range(3):
        np.testing.assert_array_equal(step(first).numpy(), first.numpy())
    factor[0] = 3.0
    with pytest.raises(fd.CaptureError, match="gave other bits"):
        step(second)
    np.testing.assert_array_equal(step(first).numpy(), (first * 3.0).numpy())


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool", "float64"])
def test_copies_of_another_dtype_are_replayed(device, dtype):
    there = fd.zeros(3)

    @fd.capture
    def step(x):
        return there.copy_(x) * 2

    for i in range(5):
        x = np.array([i, i + 1, i + 2]).astype(dtype)
        assert step(fd.tensor(x)).tolist() == (2.0 * x).tolist() and there.tolist() == x.tolist()
    assert there.copy_(x.astype(np.float16)).tolist() == x.tolist()
