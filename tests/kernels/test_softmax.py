"""Softmax and log-softmax: worked values, finite differences, PyTorch, axes, layouts, extremes, bad input."""

import math
import re

import numpy as np
import pytest

from differences import assert_gradient
from layouts import layouts, unchanged
from tolerances import assert_close

FLOATS = ("float32", "float64")
KERNELS = ("softmax", "log_softmax")
nan, inf = math.nan, math.inf
SIZES = (1, 2, 3, 4, 7, 8, 9, 10, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 130, 257)
SHAPES = (
    (5,),
    (0,),
    (0, 3),
    (3, 0),
    (2, 0, 3),
    (1, 1),
    (13, 17),
    (2, 3, 4, 5),
    (3, 16, 2, 7),
    (2, 1, 3, 1, 2),
)


def values(shape, dtype, seed):
    return np.asarray(3 * np.random.default_rng(seed).standard_normal(shape), dtype)


def forward(backend, kernel, x, axis):
    return getattr(backend, f"{kernel}_forward")(x, axis)


def backward(backend, kernel, dy, y, axis):
    return getattr(backend, f"{kernel}_backward")(dy, y, axis)


@pytest.mark.parametrize("dtype", FLOATS)
def test_worked_values(backend, dtype):
    x = np.log(np.array([[1, 2, 5], [1, 1, 2]], dtype))
    want = np.array([[0.125, 0.25, 0.625], [0.25, 0.25, 0.5]], dtype)
    assert_close(backend.softmax_forward(x, 1), want, "softmax")
    assert_close(backend.log_softmax_forward(x, -1), np.log(want), "softmax")
    assert_close(backend.softmax_forward(x.T.copy(), 0), want.T, "softmax")
    dy = np.array([[8, 0, 0], [0, 4, 4]], dtype)
    assert_close(
        backend.softmax_backward(dy, want, 1),
        np.array([[0.875, -0.25, -0.625], [-0.75, 0.25, 0.5]], dtype),
        "softmax",
    )
    assert_close(
        backend.log_softmax_backward(dy, np.log(want), 1),
        np.array([[7, -2, -5], [-2, 2, 0]], dtype),
        "softmax",
        scale=8,
    )


@pytest.mark.parametrize("dtype", FLOATS)
def test_extremes(backend, dtype):
    x = np.array([[1e4, 1e4, -1e4], [-1e4, -1e4, -1e4], [0, -inf, -inf], [1, -inf, 1], [1e-42, 0, -1e-42]], dtype)
    want = np.array([[0.5, 0.5, 0], [1 / 3] * 3, [1, 0, 0], [0.5, 0, 0.5], [1 / 3] * 3], dtype)
    log_want = np.array(
        [[-math.log(2), -math.log(2), -2e4 - math.log(2)], [-math.log(3)] * 3, [0, -inf, -inf],
         [-math.log(2), -inf, -math.log(2)],
         [-math.log(3)] * 3], dtype
    )  # fmt: skip
    for axis, turn in ((1, lambda a: a), (0, lambda a: a.T.copy())):
        assert_close(turn(backend.softmax_forward(turn(x), axis)), want, "softmax")
        assert_close(turn(backend.log_softmax_forward(turn(x), axis)), log_want, "softmax")
        for bad in ([-inf, -inf, -inf], [0, inf, 1], [0, nan, 1], [nan, -inf, inf], [inf, inf, inf]):
            bad = np.array([[1, 2, 3], bad, [4, 5, 6]], dtype)
            for kernel in KERNELS:
                got = turn(forward(backend, kernel, turn(bad), axis))
                assert np.isnan(got).tolist() == [[False] * 3, [True] * 3, [False] * 3]


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("kernel", KERNELS)
def test_finite_differences(reference, kernel, axis):
    x, dy = values((3, 4, 5), "float64", 1), values((3, 4, 5), "float64", 2)
    got = backward(reference, kernel, dy, forward(reference, kernel, x, axis), axis)
    assert_gradient(got, lambda x: forward(reference, kernel, x, axis), x, dy)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_against_torch(reference, kernel, dtype):
    torch = pytest.importorskip("torch")
    x, dy = values((3, 4, 5), dtype, 1), values((3, 4, 5), dtype, 2)
    for axis in (0, 1, 2, -1):
        tx = torch.tensor(x, requires_grad=True)
        ty = getattr(torch, kernel)(tx, axis)
        ty.backward(torch.tensor(dy))
        y = forward(reference, kernel, x, axis)
        assert_close(y, ty.detach().numpy(), "softmax")
        assert_close(backward(reference, kernel, dy, y, axis), tx.grad.numpy(), "softmax", scale=4)


def check(backend, reference, kernel, x, dy, axis):
    y = forward(reference, kernel, x, axis)
    with unchanged(x, dy, y):
        assert_close(forward(backend, kernel, x, axis), y, "softmax")
        dx = backward(backend, kernel, dy, y, axis)
    # The sum over a line of n entries of size 3 carries the rounding of its terms.
    scale = 3 * max(x.shape[axis], 1) ** 0.5
    assert_close(dx, backward(reference, kernel, dy, y, axis), "softmax", scale=scale)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_sizes_and_shapes(backend, reference, kernel, dtype):
    for n in SIZES:
        for shape, axis in (((n,), 0), ((3, n), 1), ((n, 3), 0), ((n, 19), 0)):
            check(backend, reference, kernel, values(shape, dtype, 1), values(shape, dtype, 2), axis)
    for shape in SHAPES:
        for axis in range(-len(shape), len(shape)):
            check(backend, reference, kernel, values(shape, dtype, 1), values(shape, dtype, 2), axis)
    for shape in ((300, 700), (5, 10_007)):
        for axis in (0, 1):
            check(backend, reference, kernel, values(shape, dtype, 1), values(shape, dtype, 2), axis)


@pytest.mark.parametrize("shape", [(6,), (3, 5), (2, 3, 4, 5)], ids=str)
@pytest.mark.parametrize("kernel", KERNELS)
def test_layouts(backend, reference, kernel, shape):
    x, dy = values(shape, "float32", 1), values(shape, "float32", 2)
    for axis in range(len(shape)):
        y = forward(reference, kernel, x, axis)
        dx = backward(reference, kernel, dy, y, axis)
        for view in layouts(x).values():
            with unchanged(view):
                assert_close(forward(backend, kernel, view, axis), y, "softmax")
        for dy_view in layouts(dy).values():
            for y_view in layouts(y).values():
                with unchanged(dy_view, y_view):
                    assert_close(backward(backend, kernel, dy_view, y_view, axis), dx, "softmax", scale=8)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_instruction_sets(cpu, reference, isa, kernel, dtype):
    for shape in ((5, 10), (3, 1), (3, 17), (3, 33), (2, 100), (7, 3, 5)):
        for axis in range(len(shape)):
            check(cpu, reference, kernel, values(shape, dtype, 1), values(shape, dtype, 2), axis)


@pytest.mark.parametrize("dtype", FLOATS)
def test_extremes_on_every_instruction_set(cpu, isa, dtype):
    test_extremes(cpu, dtype)


def test_threads_do_not_change_bits(cpu, threads):
    from fastdl import _cpu

    arrays = [(values(shape, "float32", 1), values(shape, "float32", 2)) for shape in ((701, 307), (3, 90_001))]

    def run():
        results = []
        for x, dy in arrays:
            for kernel in KERNELS:
                for axis in (0, 1):
                    y = forward(cpu, kernel, x, axis)
                    results += [y.tobytes(), backward(cpu, kernel, dy, y, axis).tobytes()]
        return results

    got = run()
    _cpu.set_num_threads(1)
    assert got == run()


x4, x8 = np.zeros((2, 3), "float32"), np.zeros((2, 3), "float64")
INVALID = (
    ("softmax_forward", ([[1.0]], 0), TypeError, "softmax_forward: x must be a NumPy array, got list"),
    ("softmax_forward", (np.zeros(3, "int32"), 0), TypeError,
     "softmax_forward: x must be float32 or float64, got int32"),
    ("softmax_forward", (x4, 2), ValueError, "softmax_forward: axis must lie in [-2, 2), got 2"),
    ("softmax_forward", (x4, -3), ValueError, "softmax_forward: axis must lie in [-2, 2), got -3"),
    ("softmax_forward", (np.zeros((), "float32"), 0), ValueError,
     "softmax_forward: x must have at least 1 dimension, got shape ()"),
    ("softmax_backward", (x8, x4, 0), TypeError, "softmax_backward: dy must be float32 like y, got float64"),
    ("softmax_backward", (x4[:1], x4, 0), ValueError,
     "softmax_backward: dy must have shape (2, 3), got (1, 3)"),
    ("softmax_backward", (None, x4, 0), TypeError,
     "softmax_backward: dy must be a NumPy array, got NoneType"),
    ("softmax_backward", (x4, x4, 5), ValueError, "softmax_backward: axis must lie in [-2, 2), got 5"),
    ("log_softmax_forward", (None, 0), TypeError,
     "log_softmax_forward: x must be a NumPy array, got NoneType"),
    ("log_softmax_forward", (x4, 9), ValueError, "log_softmax_forward: axis must lie in [-2, 2), got 9"),
    ("log_softmax_backward", (x4, "y", 0), TypeError,
     "log_softmax_backward: y must be a NumPy array, got str"),
    ("log_softmax_backward", (x4.T, x4, 0), ValueError,
     "log_softmax_backward: dy must have shape (2, 3), got (3, 2)"),
)  # fmt: skip


@pytest.mark.parametrize("kernel, args, error, message", INVALID)
def test_invalid(backend, kernel, args, error, message):
    with pytest.raises(error, match="^" + re.escape(message) + "$"):
        getattr(backend, kernel)(*args)
