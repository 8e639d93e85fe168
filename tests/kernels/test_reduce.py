"""Reductions: worked values, PyTorch, every axis and layout, accuracy, threads and instruction sets, bad
input.
"""

import itertools
import math
import re

import numpy as np
import pytest

from layouts import layouts, unchanged
from on_gpu import skip_where_unseen
from tolerances import assert_close

FLOATS = ("float32", "float64")
nan, inf = np.nan, np.inf
SHAPES = ((), (1,), (17,), (5, 7), (1, 9), (9, 1), (33, 65), (2, 3, 4, 5), (3, 16, 2, 2), (2, 1, 3, 1, 4))
LENGTHS = (1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 127, 129, 255, 257, 1023, 1025, 4095, 4097, 70_001)
EXTREMA = ("max", "min")


def values(shape, dtype="float32", seed=0):
    return np.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def all_axes(ndim):
    """None, every subset of the axes, and a set counted from the end."""
    yield None
    for count in range(ndim + 1):
        yield from itertools.combinations(range(ndim), count)
    if ndim > 1:
        yield (-1, 0)


@pytest.mark.parametrize("dtype", FLOATS)
def test_worked_values(backend, dtype):
    x = np.array([[1, 2, 3], [4, 5, -6]], dtype)
    for got, want in (
        (backend.sum(x, None, False), 9),
        (backend.sum(x, (0,), False), [5, 7, -3]),
        (backend.sum(x, (-1,), True), [[6], [3]]),
        (backend.sum(x, (), False), x),
        (backend.mean(x, None, True), [[1.5]]),
        (backend.mean(x, (1,), False), [2, 1]),
        (backend.sum_to(x, (3,)), [5, 7, -3]),
        (backend.sum_to(x, (2, 1)), [[6], [3]]),
        (backend.sum_to(x, ()), 9),
        (backend.max(x, 0, False)[0], [4, 5, 3]),
        (backend.max(x, None, True)[0], [[5]]),
        (backend.min(x, 1, True)[0], [[1], [-6]]),
    ):
        assert_close(got, np.array(want, dtype), "reduce")
    for got, want in (
        (backend.max(x, 0, False)[1], [1, 1, 0]),
        (backend.max(x, None, True)[1], [[4]]),
        (backend.min(x, 1, True)[1], [[0], [2]]),
        (backend.min(x, None, False)[1], 5),
        (backend.argmax(x, 1), [2, 1]),
        (backend.argmax(x, None), 4),
        (backend.argmin(x, -2), [0, 0, 1]),
    ):
        assert_close(got, np.array(want, "int64"), "reduce")
    assert backend.sum_squares(x) == 91 and backend.sum_squares(x).shape == ()
    dx = backend.max_backward(np.array([1, 2], dtype), np.array([2, 1]), (2, 3), 1)
    assert_close(dx, np.array([[0, 0, 1], [0, 2, 0]], dtype), "reduce")


@pytest.mark.parametrize("dtype", FLOATS)
def test_nan_wins_and_the_first_of_equals(backend, dtype):
    for repeat in (1, 37):
        x = np.repeat(np.array([[1, nan, 3, nan], [2, 5, 5, 2], [-inf, -inf, -inf, -inf]], dtype), repeat, axis=1)
        value, index = backend.max(x, 1, False)
        assert_close(value, np.array([nan, 5, -inf], dtype), "reduce")
        assert index.tolist() == [repeat, repeat, 0]
        value, index = backend.min(x, 1, False)
        assert_close(value, np.array([nan, 2, -inf], dtype), "reduce")
        assert index.tolist() == [repeat, 0, 0]
        assert backend.max(x, None, False)[1] == repeat
        assert backend.argmin(x[1:].T, 0).tolist() == [0, 0]
        assert np.isnan(backend.max(x.T, 0, True)[0][0, 0])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kernel", ["sum", "mean"])
def test_sum_and_mean_against_torch(reference, kernel, dtype):
    torch = pytest.importorskip("torch")
    for shape in SHAPES:
        x = values(shape, dtype)
        for axes, keepdims in itertools.product(all_axes(x.ndim), (False, True)):
            if axes != ():  # PyTorch reads () as "all"
                want = getattr(torch, kernel)(torch.tensor(x), axes, keepdims).numpy()
                assert_close(getattr(reference, kernel)(x, axes, keepdims), want, "reduce", scale=x.size**0.5)


@pytest.mark.parametrize("kernel", EXTREMA)
def test_extrema_against_torch(reference, kernel):
    torch = pytest.importorskip("torch")
    for shape in SHAPES:
        x = values(shape)
        for axis, keepdims in itertools.product(range(-x.ndim, x.ndim), (False, True)):
            value, index = getattr(reference, kernel)(x, axis, keepdims)
            want = getattr(torch, kernel)(torch.tensor(x), axis, keepdims)
            assert_close(value, want.values.numpy(), "reduce")
            assert_close(index, want.indices.numpy(), "reduce")


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kernel", ["sum", "mean"])
def test_sum_and_mean(backend, reference, kernel, dtype):
    for shape in SHAPES:
        x = values(shape, dtype)
        for axes, keepdims in itertools.product(all_axes(x.ndim), (False, True)):
            with unchanged(x):
                got = getattr(backend, kernel)(x, axes, keepdims)
            assert_close(got, getattr(reference, kernel)(x, axes, keepdims), "reduce", scale=x.size**0.5)


@pytest.mark.parametrize("dtype", FLOATS)
def test_lengths(backend, reference, dtype):
    for n in LENGTHS:
        x = values(n, dtype, n)
        scale = n**0.5
        assert_close(backend.sum(x, None, False), reference.sum(x, None, False), "reduce", scale)
        assert backend.sum_squares(x) == pytest.approx(reference.sum_squares(x), rel=1e-12)
        for kernel in EXTREMA:
            assert getattr(backend, kernel)(x, None, False) == getattr(reference, kernel)(x, None, False)
        if n < 2000:
            x = values((n, 3), dtype, n)
            for axis, view in itertools.product((0, 1), (x, x.T)):
                assert_close(backend.sum(view, (axis,), False), reference.sum(view, (axis,), False), "reduce", scale)
                assert_close(backend.argmax(view, axis), reference.argmax(view, axis), "reduce")


@pytest.mark.parametrize("shape", [(6,), (5, 7), (3, 4, 5), (2, 3, 4, 5)], ids=str)
def test_layouts(backend, reference, shape):
    x = values(shape)
    for name, view in layouts(x).items():
        with unchanged(view):
            for axes in all_axes(x.ndim):
                assert_close(backend.sum(view, axes, False), reference.sum(x, axes, False), "reduce"), name
            for kernel, axis in itertools.product(EXTREMA, (None, *range(x.ndim))):
                got, want = (
                    getattr(backend, kernel)(view, axis, True),
                    getattr(reference, kernel)(x, axis, True),
                )
                assert_close(got[0], want[0], "reduce"), name
                assert_close(got[1], want[1], "reduce"), name
            assert backend.sum_squares(view) == pytest.approx(reference.sum_squares(x), rel=1e-12)
            assert_close(backend.sum_to(view, shape[1:]), reference.sum_to(x, shape[1:]), "reduce")


def test_broadcast_view(backend):
    x = np.broadcast_to(np.array([[1.0], [2.0]]), (2, 1000))
    assert backend.sum(x, None, False) == 3000 and backend.sum(x, (1,), False).tolist() == [1000, 2000]
    assert backend.sum_squares(x) == 5000


SUM_TO = (
    ((3, 5), (3, 5)), ((3, 5), (5,)), ((3, 5), (1, 5)), ((3, 5), (3, 1)), ((3, 5), ()), ((3, 5), (1,)),
    ((2, 3, 4, 5), (3, 1, 1)), ((2, 3, 4, 5), (1, 3, 1, 1)), ((2, 3, 4, 5), (4, 1)), ((0, 3), (3,)),
    ((0, 3), (0, 1)), ((1, 3), (1, 1)), ((1, 3), (1, 3)), ((), ()), ((1, 1), ()), ((64, 10), (10,)),
    ((100, 500), (500,)),
    ((3, 0), (1, 0)), ((2, 1, 4), (2, 1, 1)),
)  # fmt: skip


@pytest.mark.parametrize("case", SUM_TO, ids=str)
def test_sum_to_is_the_gradient_of_broadcasting(backend, case):
    shape, target = case
    x = values(shape, "float64")
    got = backend.sum_to(x, target)
    # <broadcast(v), x> = <v, sum_to(x)> for every v
    v = values(target, "float64", 1)
    assert got.shape == target and got.dtype == x.dtype
    assert np.vdot(np.broadcast_to(v, shape), x) == pytest.approx(np.vdot(v, got), rel=1e-12, abs=1e-12)
    assert not np.shares_memory(got, x)


def test_empty(backend):
    x = np.zeros((0, 3), "float32")
    assert backend.sum(x, None, False) == 0 and backend.sum(x, (0,), False).tolist() == [0, 0, 0]
    assert backend.sum(x, (1,), True).shape == (0, 1)
    assert np.isnan(backend.mean(x, None, False)) and np.isnan(backend.mean(x, (0,), False)).all()
    assert backend.sum_squares(x) == 0
    assert backend.max(x, 1, False)[0].shape == (0,) and backend.argmin(x, 1).shape == (0,)
    dx = backend.max_backward(np.zeros(0, "float32"), np.zeros(0, "int64"), (0, 3), 1)
    assert dx.shape == (0, 3)


def test_special_values(backend):
    for repeat in (1, 40):
        x = np.repeat(np.array([inf, -inf, 1], "float32"), repeat)
        assert np.isnan(backend.sum(x, None, False))
        assert backend.sum(x[:repeat], None, False) == inf
        assert backend.max(x, None, False)[0] == inf and backend.argmin(x, None) == repeat
        assert backend.sum_squares(x) == inf
    assert backend.sum_squares(np.full(100, 1e30, "float32")) == pytest.approx(1e62)  # beyond float32's range


@pytest.mark.parametrize("dtype, bound", [("float32", 1e-6), ("float64", 1e-12)])
def test_long_sums_stay_accurate(backend, dtype, bound):
    """A running sum in the array's own dtype would be off by 1e-4 or so (float32) here."""
    x = np.random.default_rng(0).random((1 << 18, 2)).astype(dtype)
    exact = [math.fsum(x[:, 0].tolist()), math.fsum(x[:, 1].tolist())]
    np.testing.assert_allclose(backend.sum(x, (0,), False), exact, rtol=bound)
    np.testing.assert_allclose(backend.sum(np.ascontiguousarray(x.T), (1,), False), exact, rtol=bound)
    np.testing.assert_allclose(backend.mean(x, None, False), sum(exact) / x.size, rtol=bound)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kernel", EXTREMA)
def test_extrema_backward(backend, reference, kernel, dtype):
    for shape in SHAPES:
        x = values(shape, dtype)
        for axis, keepdims in itertools.product((None, *range(-x.ndim, x.ndim)), (False, True)):
            value, index = getattr(reference, kernel)(x, axis, keepdims)
            dy = values(value.shape, dtype, 1)
            with unchanged(dy, index):
                dx = backend.max_backward(dy, index, x.shape, axis)
            # the gradient lands on one element per result and nothing is lost
            assert_close(dx.sum(), dy.sum(dtype=dtype), "reduce", scale=8)
            assert (dx != 0).sum() <= dy.size
            assert_close(dx, reference.max_backward(dy, index, x.shape, axis), "reduce")
            assert_close(dx, backend.max_backward(dy, index.astype("int32"), x.shape, axis), "reduce")


def test_extrema_backward_finite_differences(reference):
    x = values((3, 4, 5), "float64")
    for axis in (None, 0, 1, 2):
        value, index = reference.max(x, axis, False)
        dy = values(value.shape, "float64", 1)
        dx = reference.max_backward(dy, index, x.shape, axis)
        for place in np.ndindex(x.shape):
            step = np.zeros_like(x)
            step[place] = 1e-6
            slope = np.sum(dy * (reference.max(x + step, axis, False)[0] - reference.max(x - step, axis, False)[0]))
            assert slope / 2e-6 == pytest.approx(dx[place], abs=1e-8)


def test_backward_of_strided_gradients(backend):
    x = values((4, 6))
    _, index = backend.max(x, 1, False)
    want = np.zeros((4, 6), "float32")
    want[range(4), index] = [1, 2, 3, 4]
    for dy in layouts(np.array([1, 2, 3, 4], "float32")).values():
        for i in layouts(index, ("contiguous", "reversed", "offset")).values():
            assert_close(backend.max_backward(dy, i, (4, 6), 1), want, "reduce")
    dy = np.broadcast_to(np.array(2.0, "float32"), (4,))
    assert backend.max_backward(dy, index, (4, 6), 1).sum() == 8


@pytest.mark.parametrize("dtype", FLOATS)
def test_instruction_sets(cpu, reference, isa, dtype):
    for shape in ((1,), (15,), (65,), (67, 33), (33, 67), (3, 16, 4, 4)):
        x = values(shape, dtype)
        for axes in all_axes(x.ndim):
            assert_close(cpu.sum(x, axes, False), reference.sum(x, axes, False), "reduce", scale=x.size**0.5)
        for kernel, axis in itertools.product(EXTREMA, (None, *range(x.ndim))):
            for got, want in zip(getattr(cpu, kernel)(x, axis, False), getattr(reference, kernel)(x, axis, False)):
                assert_close(got, want, "reduce")


def test_threads_do_not_change_bits(cpu, threads):
    from fastdl import _cpu

    arrays = (
        values((257, 1031)),
        values(300_007),
        values((7, 60_000)),
        values((60_000, 7)),
        values((65, 33, 8, 8)),
    )
    got = []
    for count in (threads, 1):
        _cpu.set_num_threads(count)
        results = [cpu.sum(x, axes, False).tobytes() for x in arrays for axes in all_axes(x.ndim)]
        results += [a.tobytes() for x in arrays for axis in (None, 0, -1) for a in cpu.max(x, axis, False)]
        results += [cpu.sum_squares(x) for x in arrays]
        got.append(results)
    assert got[0] == got[1]


f4, f43 = np.zeros(3, "float32"), np.zeros((4, 3), "float32")
INVALID = (
    ("sum", ([1.0], None, False), TypeError, "sum: x must be a NumPy array, got list"),
    ("mean", (np.zeros(3, "int64"), None, False), TypeError, "mean: x must be float32 or float64, got int64"),
    ("sum", (f43, (2,), False), ValueError, "sum: axes must lie in [-2, 2), got 2"),
    ("mean", (f43, (0, -3), False), ValueError, "mean: axes must lie in [-2, 2), got -3"),
    ("sum", (f43, (0, 0), False), ValueError, "sum: axes must not repeat, got (0, 0)"),
    ("sum", (f43, (1, -1), False), ValueError, "sum: axes must not repeat, got (1, -1)"),
    ("sum", (f43, (0, 0, 1), False), ValueError, "sum: axes must not repeat, got (0, 0, 1)"),
    ("sum", (f4, (-1, 0), False), ValueError, "sum: axes must not repeat, got (-1, 0)"),
    ("max", (None, 0, False), TypeError, "max: x must be a NumPy array, got NoneType"),
    ("max", (f43, 2, False), ValueError, "max: axis must lie in [-2, 2), got 2"),
    ("min", (f43, -3, True), ValueError, "min: axis must lie in [-2, 2), got -3"),
    ("max", (np.zeros((3, 0), "float32"), 1, False), ValueError,
     "max: x must have at least one element along axis 1, got shape (3, 0)"),
    ("argmin", (np.zeros((3, 0), "float32"), None), ValueError,
     "argmin: x must have at least one element, got shape (3, 0)"),
    ("argmax", (f4, 1), ValueError, "argmax: axis must lie in [-1, 1), got 1"),
    ("sum_to", (f43, (4,)), ValueError, "sum_to: shape must broadcast to x, got (4,), x (4, 3)"),
    ("sum_to", (f43, (1, 4, 3)), ValueError, "sum_to: shape must broadcast to x, got (1, 4, 3), x (4, 3)"),
    ("sum_to", (f43, (4, 0)), ValueError, "sum_to: shape must broadcast to x, got (4, 0), x (4, 3)"),
    ("sum_squares", (np.zeros(3, "float16"),), TypeError,
     "sum_squares: x must be float32 or float64, got float16"),
    ("max_backward", (f4, np.zeros(3, "float32"), (3, 2), 1), TypeError,
     "max_backward: index must be int32 or int64, got float32"),
    ("max_backward", (f4, np.zeros(3, "int64"), (2, 3), 1), ValueError,
     "max_backward: dy must have shape (2,) or (2, 1), got (3,)"),
    ("max_backward", (f4, np.zeros((3, 1), "int64"), (3, 2), 1), ValueError,
     "max_backward: index must have shape (3,), got (3, 1)"),
    ("max_backward", (f4, np.array([0, 2, 0]), (3, 2), 1), IndexError,
     "max_backward: index must lie in [0, 2), got 2"),
    ("max_backward", (f4, np.array([0, 1, -1]), (3, 2), 1), IndexError,
     "max_backward: index must lie in [0, 2), got -1"),
    ("max_backward", (f4, np.array([0, 1, 0]), (3, 2), 2), ValueError,
     "max_backward: axis must lie in [-2, 2), got 2"),
    ("max_backward", (f4, np.array([0, 1, 0]), (3, -2), 1), ValueError,
     "max_backward: shape must be at least 0, got (3, -2)"),
    ("max_backward", (np.zeros((), "float32"), np.array(6), (3, 2), None), IndexError,
     "max_backward: index must lie in [0, 6), got 6"),
)  # fmt: skip


@pytest.mark.parametrize("kernel, args, error, message", INVALID)
def test_invalid(backend, kernel, args, error, message):
    skip_where_unseen(backend, error)
    with pytest.raises(error, match="^" + re.escape(message) + "$"):
        getattr(backend, kernel)(*args)
