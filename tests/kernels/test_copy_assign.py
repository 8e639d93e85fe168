"""assign: every layout on both sides, broadcasting, overlap, and bad input in the same words on every backend."""

import re

import numpy as np
import pytest

from layouts import layouts, unchanged

SHAPES = [(), (1,), (0, 3), (17,), (3, 5), (2, 3, 4), (2, 3, 7, 5), (2, 16, 4, 4), (8, 48, 40, 40)]
GUARDED = ("gapped", "unaligned")  # these surround the values with NaN
BROADCAST = [((3, 5), (5,)), ((3, 5), (3, 1)), ((2, 3, 4, 5), (3, 1, 1)), ((4,), ()), ((0, 2), (2,))]


def values(shape, dtype="float32", seed=0):
    return np.asarray(np.random.default_rng(seed).integers(0, 250, shape), dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64", "uint8", "bool"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_layout(backend, shape, dtype):
    x = values(shape, dtype)
    names = ("contiguous", "fortran", "channels-last", "reversed", "offset", *(GUARDED if x.dtype.kind == "f" else ()))
    for source in layouts(x, names).values():
        for out in layouts(np.zeros(shape, dtype), names).values():
            with unchanged(source):
                assert backend.assign(out, source) is None
            np.testing.assert_array_equal(out, x, strict=True)


@pytest.mark.parametrize(
    "shape, small", [((3, 5), (5,)), ((3, 5), (3, 1)), ((2, 3, 4, 5), (3, 1, 1)), ((4,), ()), ((0, 2), (2,))]
)
def test_broadcasting(backend, shape, small):
    x, out = values(small), values(shape, seed=1)
    backend.assign(out, x)
    np.testing.assert_array_equal(out, np.broadcast_to(x, shape), strict=True)


def test_only_the_slice_is_written(backend):
    base = values((6, 8))
    want = base.copy()
    want[1:5:2, ::-3] = 7
    backend.assign(base[1:5:2, ::-3], np.array(7, np.float32))
    np.testing.assert_array_equal(base, want)


@pytest.mark.parametrize(
    "to, of",
    [(np.s_[1:], np.s_[:-1]), (np.s_[:-1], np.s_[1:]), (np.s_[::-1], np.s_[:]), (np.s_[::2], np.s_[:500])],
    ids=["up", "down", "reversed", "spread"],
)
def test_overlap(backend, to, of):
    base = values((1000,))
    want = base.copy()
    want[to] = base[of].copy()
    backend.assign(base[to], base[of])
    np.testing.assert_array_equal(base, want)


def test_transpose_onto_itself(backend):
    base = values((40, 40))
    want = base.T.copy()
    backend.assign(base, base.T)
    np.testing.assert_array_equal(base, want)


def read_only():
    return np.broadcast_to(np.zeros((1, 3), np.float32), (2, 3))


BAD = [
    ([1.0], np.zeros(1), TypeError, "assign: out must be a NumPy array, got list"),
    (np.zeros(1), 1.0, TypeError, "assign: x must be a NumPy array, got float"),
    (np.zeros(1), np.zeros(1, np.float32), TypeError, "assign: x must be float64 like out, got float32"),
    (np.zeros((2, 3)), np.zeros((2, 1, 3)), ValueError, "x must broadcast to out, got shape (2, 1, 3), out (2, 3)"),
    (np.zeros((2, 3)), np.zeros(2), ValueError, "assign: x must broadcast to out, got shape (2,), out (2, 3)"),
    (np.zeros((1, 3)), np.zeros((2, 3)), ValueError, "x must broadcast to out, got shape (2, 3), out (1, 3)"),
    (read_only(), np.zeros(3, np.float32), ValueError, "assign: out must be writeable, got a read-only array"),
]


@pytest.mark.parametrize("out, x, error, message", BAD, ids=[row[3][:40] for row in BAD])
def test_bad_input(backend, out, x, error, message):
    with pytest.raises(error, match=re.escape(message)):
        backend.assign(out, x)
