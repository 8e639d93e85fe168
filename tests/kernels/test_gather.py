"""Gathering batches: worked values, every dtype, layout and thread count, bad input."""

import re

import numpy as np
import pytest

from layouts import layouts, unchanged
from on_gpu import skip_where_unseen
from tolerances import assert_close

DTYPES = ("uint8", "float32", "float64")
OUTPUTS = ("float32", "float64")
# Rows are samples: scalars, features and images around the vector widths, nothing at all.
SHAPES = (
    (5,), (5, 1), (5, 3), (7, 16), (4, 0), (6, 784), (5, 3, 17), (4, 1, 28, 28), (5, 3, 4, 4), (3, 15, 3, 5),
    (3, 16, 2, 3), (3, 17, 2, 3), (3, 3, 32, 32), (3, 65, 3, 3), (3, 2, 0, 4), (2, 2, 3, 2, 3),
)  # fmt: skip


def values(shape, dtype, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(dtype)


def constants(shape, per_channel):
    """(scale, mean, std) that bring 0..255 to a size of about one."""
    count = shape[1] if per_channel and len(shape) > 1 else 1
    return 1 / 255, np.linspace(0.1, 0.7, count), np.linspace(0.2, 0.4, count)


@pytest.mark.parametrize("dtype", OUTPUTS)
def test_by_hand(backend, dtype):
    data = np.array([[[[0]], [[10]]], [[[20]], [[30]]], [[[40]], [[255]]]], "uint8")
    mean, std = np.array([4.0, 5.0]), np.array([2.0, -4.0])
    y = backend.gather_batch(data, np.array([2, 0, 2]), 0.5, mean, std, dtype)
    assert_close(y, np.array([[8, -30.625], [-2, 0], [8, -30.625]], dtype).reshape(3, 2, 1, 1), "gather")
    one = np.ones(1)
    y = backend.gather_batch(data, np.array([1]), 1.0, one, one, dtype)
    assert_close(y, data[1:2].astype(dtype) - 1, "gather")
    rows = np.array([1.5, 2.5, 3.5])
    y = backend.gather_batch(rows, np.array([2, 1]), 2.0, one, one, dtype)
    assert_close(y, np.array([6, 4], dtype), "gather")


@pytest.mark.parametrize("per_channel", [False, True], ids=["one", "per-channel"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_against_the_formula(backend, dtype, shape, per_channel):
    data = values(shape, dtype)
    scale, mean, std = constants(shape, per_channel)
    for index in (np.array([], "int64"), np.array([0]), np.array([shape[0] - 1, 0, 0, 1])):
        along = (-1,) + (1,) * (len(shape) - 2) if len(shape) > 1 else (1,)
        exact = (data[index].astype("float64") * scale - mean.reshape(along)) / std.reshape(along)
        for output in OUTPUTS:
            with unchanged(data, index, mean, std):
                y = backend.gather_batch(data, index, scale, mean, std, output)
            # near 0 the error is that of the terms that cancel, mean / std
            assert_close(y, exact.astype(output), "gather", scale=np.abs(mean / std).max(initial=0))


@pytest.mark.parametrize("shape", [(9,), (5, 17), (5, 3, 4, 6), (4, 16, 3, 5), (3, 2, 2, 3, 2)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_layout(backend, reference, dtype, shape):
    data, index = values(shape, dtype), np.array([1, 2, 0, 2])
    scale, mean, std = constants(shape, True)
    want = reference.gather_batch(data, index, scale, mean, std, "float32")
    names = ["contiguous", "fortran", "channels-last", "reversed", "offset"]
    names += ["gapped", "unaligned"] * (dtype != "uint8")
    for view in layouts(data, names).values():
        with unchanged(view):
            got = backend.gather_batch(view, index, scale, mean, std, "float32")
        assert_close(got, want, "gather", scale=4)
    for strange in layouts(index, ("reversed", "offset")).values():
        got = backend.gather_batch(data, strange, scale, mean, std, "float32")
        assert_close(got, want, "gather", scale=4)
    wide = [layouts(a, ("reversed",))["reversed"] for a in (mean, std)]
    assert_close(backend.gather_batch(data, index, scale, *wide, "float32"), want, "gather", scale=4)


def test_images_are_channels_last(cpu):
    for shape in ((4, 3, 5, 6), (4, 1, 5, 6), (4, 16, 5, 6)):
        y = cpu.gather_batch(values(shape, "uint8"), np.array([1, 0]), *constants(shape, True), "float32")
        assert y.transpose(0, 2, 3, 1).flags.c_contiguous


def test_floats_pass_unscaled(backend):
    data = np.random.default_rng(0).standard_normal((9, 37)).astype("float32")
    index = np.array([3, 8, 3])
    y = backend.gather_batch(data, index, 1.0, np.zeros(1), np.ones(1), "float32")
    np.testing.assert_array_equal(y, data[index])


def test_nan_and_infinity_pass(backend):
    data = np.array([[np.nan, np.inf, -np.inf]] * 2, "float32")
    y = backend.gather_batch(data, np.array([1]), 2.0, np.ones(1), np.ones(1), "float64")
    np.testing.assert_array_equal(y, data[:1])


@pytest.mark.parametrize("dtype", DTYPES)
def test_same_bits_for_every_thread_count(isa, threads, cpu, reference, dtype):
    from fastdl import _cpu

    for shape in ((50, 1, 28, 28), (50, 3, 32, 32), (70, 1000), (50, 17, 16, 16)):
        data, index = values(shape, dtype), np.random.default_rng(1).integers(0, shape[0], 300)
        args = (data, index, *constants(shape, True), "float32")
        got = cpu.gather_batch(*args)
        _cpu.set_num_threads(1)
        assert got.tobytes() == cpu.gather_batch(*args).tobytes()
        _cpu.set_num_threads(threads)
        assert_close(got, reference.gather_batch(*args), "gather", scale=4)


D = np.zeros((4, 3, 2, 2), np.uint8)
I = np.array([0, 3])  # noqa: E741
N, S = np.zeros(1), np.ones(3)
F = "float32"
BAD = (
    (([1], I, 1.0, N, S, F), TypeError, "data must be a NumPy array, got list"),
    ((D.astype("int32"), I, 1.0, N, S, F), TypeError, "data must be uint8, float32 or float64, got int32"),
    ((np.zeros((), "uint8"), I, 1.0, N, S, F), ValueError,
     "data must have at least 1 dimension, got shape ()"),
    ((D, [0], 1.0, N, S, F), TypeError, "index must be a NumPy array, got list"),
    ((D, I.astype("int32"), 1.0, N, S, F), TypeError, "index must be int64, got int32"),
    ((D, I.reshape(1, 2), 1.0, N, S, F), ValueError, "index must have 1 dimensions (B,), got shape (1, 2)"),
    ((D, I + 1, 1.0, N, S, F), IndexError, "index must lie in [0, 4), got 4"),
    ((D, I - 1, 1.0, N, S, F), IndexError, "index must lie in [0, 4), got -1"),
    ((D[:0], I, 1.0, N, S, F), IndexError, "index must lie in [0, 0), got 0"),
    ((D, I, np.nan, N, S, F), ValueError, "scale must be finite, got nan"),
    ((D, I, 1.0, 0.0, S, F), TypeError, "mean must be a NumPy array, got float"),
    ((D, I, 1.0, N.astype(F), S, F), TypeError, "mean must be float64, got float32"),
    ((D, I, 1.0, np.zeros(2), S, F), ValueError, "mean must have shape (1,) or (3,), got (2,)"),
    ((D, I, 1.0, np.zeros((1, 1)), S, F), ValueError, "mean must have shape (1,) or (3,), got (1, 1)"),
    ((D, I, 1.0, np.array([np.inf]), S, F), ValueError, "mean must be finite, got inf"),
    ((D, I, 1.0, N, None, F), TypeError, "std must be a NumPy array, got NoneType"),
    ((D[:, 0, 0, 0], I, 1.0, N, S, F), ValueError, "std must have shape (1,) or (1,), got (3,)"),
    ((D, I, 1.0, N, np.array([1.0, 0.0, 2.0]), F), ValueError, "std must be finite and not 0, got 0"),
    ((D, I, 1.0, N, np.array([1.0, np.nan, 0.0]), F), ValueError, "std must be finite and not 0, got nan"),
    ((D, I, 1.0, N, S, "int8"), ValueError, "dtype must be one of 'float32', 'float64', got 'int8'"),
)  # fmt: skip


@pytest.mark.parametrize("args, error, message", BAD, ids=[case[2] for case in BAD])
def test_bad_input(backend, args, error, message):
    skip_where_unseen(backend, error)
    with pytest.raises(error, match=f"^{re.escape(f'gather_batch: {message}')}$"):
        backend.gather_batch(*args)
