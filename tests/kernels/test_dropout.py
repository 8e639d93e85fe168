"""Dropout: the mask word by word, channels-last numbering, statistics, layouts, bad input."""

import math
import re

import numpy as np
import pytest

from layouts import layouts, unchanged
from tolerances import assert_close

FLOATS = ("float32", "float64")
nan, inf = math.nan, math.inf
SIZES = (0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 67, 127, 131, 257, 70_001)
SHAPES = (
    (),
    (0, 3),
    (1, 1),
    (13, 17),
    (3, 5, 7),
    (2, 3, 4, 5),
    (3, 16, 2, 7),
    (2, 1, 3, 1),
    (0, 3, 4, 5),
    (1, 2, 1, 3, 1, 2),
)


def values(shape, dtype, seed):
    return np.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def expected(backend, x, p, seed, counter):
    """The definition, with the words from random_words (proved in test_philox)."""
    words = backend.random_words(seed, counter, x.size)
    if x.ndim == 4:
        n, c, h, w = x.shape
        words = words.reshape(n, h, w, c).transpose(0, 3, 1, 2)
    kept = words.reshape(x.shape) < math.floor((1 - p) * 2**32)
    return x * np.where(kept, x.dtype.type(1 / (1 - p)), x.dtype.type(0))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_mask(backend, reference, p, dtype):
    for shape in (*SIZES, *SHAPES):
        x = values(shape, dtype, 1)
        with unchanged(x):
            got = backend.dropout(x, p, 2**40 + 3, 2**33 + 1)
        assert_close(got, np.asarray(expected(reference, x, p, 2**40 + 3, 2**33 + 1), dtype), "dropout")


def test_hand_worked(backend):
    """The first words of stream (0, 0) are 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8."""
    got = backend.dropout(np.array([1, 2, 3, 4], "float32"), 0.5, 0, 0)
    assert got.tolist() == [2, 0, 0, 0]
    got = backend.dropout(np.array([1, 2, 3, 4], "float32"), 0.25, 0, 0)  # keep below 0xc0000000
    assert_close(got, np.array([4 / 3, 0, 4, 16 / 3], "float32"), "dropout")


def test_first_word_is_the_bound(backend):
    """keep iff word < floor((1 - p) * 2**32): a bound equal to the word drops it, one more keeps it."""
    word = 0x6627E8D5
    x = np.ones(1)
    assert backend.dropout(x, 1 - word / 2**32, 0, 0)[0] == 0
    assert backend.dropout(x, 1 - (word + 1) / 2**32, 0, 0)[0] > 0


@pytest.mark.parametrize("dtype", FLOATS)
def test_nothing_and_everything_dropped(backend, dtype):
    x = values((7, 5), dtype, 1)
    x[0, :3] = inf, nan, -0.0
    for p in (0, 0.0, 1e-17):
        assert backend.dropout(x, p, 1, 2).tobytes() == x.tobytes()
    for p in (1, 1.0):
        assert not backend.dropout(x, p, 1, 2).any()


@pytest.mark.parametrize("p", [0.2, 0.5])
def test_rate_and_mean(backend, p):
    """n = 2**17 draws: the rate lies within 5 standard deviations, and the mean of ones stays about 1."""
    got = backend.dropout(np.ones(2**17, "float32"), p, 5, 0)
    deviation = math.sqrt(p * (1 - p) / 2**17)
    assert abs((got == 0).mean() - p) < 5 * deviation
    assert abs(got.mean() - 1) < 5 * deviation / (1 - p)


def test_streams_differ(backend):
    x = np.ones(1000, "float32")
    masks = {backend.dropout(x, 0.5, seed, counter).tobytes() for seed in (0, 1, 2**32) for counter in (0, 1, 2**32)}
    assert len(masks) == 9


@pytest.mark.parametrize("shape", [(67,), (3, 5), (2, 3, 4, 5), (2, 3, 4, 5, 2)], ids=str)
def test_layouts(backend, reference, shape):
    x = values(shape, "float32", 1)
    want = reference.dropout(x, 0.4, 7, 9)
    for view in layouts(x).values():
        with unchanged(view):
            assert_close(backend.dropout(view, 0.4, 7, 9), want, "dropout")


def test_memory_order_of_the_result(cpu):
    x = np.moveaxis(values((2, 4, 5, 3), "float32", 1), -1, 1)
    assert cpu.dropout(x, 0.5, 0, 0).strides == x.strides
    assert cpu.dropout(np.ascontiguousarray(x), 0.5, 0, 0).strides == x.strides


@pytest.mark.parametrize("dtype", FLOATS)
def test_dropped_not_a_number(backend, dtype):
    """The mask multiplies: NaN and infinity stay visible wherever they stand."""
    x = np.full(64, nan, dtype)
    assert np.isnan(backend.dropout(x, 0.5, 0, 0)).all()
    assert np.isnan(backend.dropout(np.full(64, inf, dtype), 0.5, 0, 0)).any()


@pytest.mark.parametrize("dtype", FLOATS)
def test_instruction_sets(cpu, reference, isa, dtype):
    for shape in (1, 3, 15, 17, 67, 500, (2, 3, 4, 5)):
        x = values(shape, dtype, 1)
        assert_close(cpu.dropout(x, 0.3, 5, 6), reference.dropout(x, 0.3, 5, 6), "dropout")


def test_threads_do_not_change_bits(cpu, reference, threads):
    x = values((301, 1009), "float32", 1)
    assert cpu.dropout(x, 0.3, 5, 6).tobytes() == reference.dropout(x, 0.3, 5, 6).tobytes()


x4 = np.zeros(3, "float32")
INVALID = (
    (([1.0], 0.5, 0, 0), TypeError, "dropout: x must be a NumPy array, got list"),
    ((np.zeros(3, "int32"), 0.5, 0, 0), TypeError, "dropout: x must be float32 or float64, got int32"),
    ((x4, nan, 0, 0), ValueError, "dropout: p must be finite, got nan"),
    ((x4, -0.1, 0, 0), ValueError, "dropout: p must be in [0, 1], got -0.1"),
    ((x4, 1.5, 0, 0), ValueError, "dropout: p must be in [0, 1], got 1.5"),
    ((x4, 0.5, -1, 0), ValueError, "dropout: seed must lie in [0, 18446744073709551616), got -1"),
    ((x4, 0.5, 0, 2**64), ValueError, f"dropout: counter must lie in [0, 18446744073709551616), got {2**64}"),
    ((x4, 0.5, 0.0, 0), TypeError, "dropout: seed must be an int, got float"),
    ((x4, 0.5, 0, None), TypeError, "dropout: counter must be an int, got NoneType"),
)


@pytest.mark.parametrize("args, error, message", INVALID)
def test_invalid(backend, args, error, message):
    with pytest.raises(error, match="^" + re.escape(message) + "$"):
        backend.dropout(*args)
