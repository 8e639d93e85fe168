"""Matrix product: the reference by hand, the compiled kernel by the reference in float64."""

import itertools
import re

import numpy as np
import pytest

from layouts import layouts, unchanged
from tolerances import assert_close

FLOATS = ("float32", "float64")
# (m, n, k): nothing, one, primes, around the vector widths, tile heights (6, 14) and k-blocks (512) of the engine
SIZES = (
    (0, 3, 2), (3, 0, 2), (3, 2, 0), (1, 1, 1), (1, 17, 5), (7, 1, 3), (13, 11, 7), (5, 15, 16), (6, 16, 17),
    (14, 31, 33), (15, 32, 31), (29, 33, 9), (2, 65, 64), (113, 97, 5), (3, 4, 385), (16, 34, 577),
    (1, 64, 800), (9, 18, 1601),
)  # fmt: skip
BATCHES = (((), ()), ((2,), ()), ((), (3,)), ((2, 1), (1, 3)), ((2, 3), (3,)), ((0, 2), (1,)), ((1,), (0,)))


def operands(m, n, k, dtype, batch_a=(), batch_b=(), seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((*batch_a, m, k)).astype(dtype), rng.standard_normal((*batch_b, k, n)).astype(dtype)


def exact(a, b):
    """The product summed in float64, in the dtype of the operands."""
    return np.matmul(a.astype("float64"), b.astype("float64")).astype(a.dtype)


def check(kernels, a, b):
    with unchanged(a, b):
        got = kernels.gemm(a, b)
    assert_close(got, exact(a, b), "gemm", a.shape[-1] ** 0.5)


@pytest.mark.parametrize("dtype", FLOATS)
def test_by_hand(backend, dtype):
    a, b = np.array([[1, 2], [3, -4]], dtype), np.array([[5, 0, 1], [6, 7, -8]], dtype)
    np.testing.assert_array_equal(backend.gemm(a, b), [[17, 14, -15], [-9, -28, 35]])
    assert backend.gemm(a, b).dtype == dtype


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_sizes(backend, size, dtype):
    check(backend, *operands(*size, dtype))


@pytest.mark.parametrize("batches", BATCHES, ids=str)
def test_batches(backend, batches):
    check(backend, *operands(3, 5, 4, "float64", *batches))


@pytest.mark.parametrize("dtype", FLOATS)
def test_layouts(backend, dtype):
    a, b = operands(9, 33, 18, dtype, (2,), (2,))
    for first in layouts(a).values():
        for second in layouts(b).values():
            check(backend, first, second)


def test_transposed_and_repeated_operands(backend):
    a, b = operands(21, 21, 40, "float32")
    check(backend, b.T, a.T)
    check(backend, a, a.T)
    check(backend, np.broadcast_to(a[:1], a.shape), np.broadcast_to(b[:, :1], b.shape))


def test_special_values(backend):
    a = np.array([[np.inf, 1.0], [np.nan, 0.0], [-0.0, 1e-300]])
    b = np.array([[2.0], [3.0]])
    np.testing.assert_array_equal(backend.gemm(a, b), [[np.inf], [np.nan], [3e-300]])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_instruction_sets(cpu, isa, size, dtype):
    check(cpu, *operands(*size, dtype))


@pytest.mark.parametrize("transposed", list(itertools.product((False, True), repeat=2)), ids=str)
@pytest.mark.parametrize(
    "size", [(300, 300, 300), (1100, 65, 400), (20, 290, 1024), (300, 600, 10), (700, 1000, 1001)], ids=str
)
def test_transposed(cpu, isa, size, transposed):
    a, b = operands(*size, "float32")
    check(cpu, np.asarray(a, order="F") if transposed[0] else a, np.asarray(b, order="F") if transposed[1] else b)


@pytest.mark.parametrize(
    "size",
    [(300, 130, 70), (14, 500, 784), (1000, 3, 9), (33, 65, 1500), (901, 1100, 700), (300, 4200, 600)],
    ids=str,
)
def test_bits_do_not_depend_on_threads(cpu, threads, size):
    from fastdl import _cpu

    a, b = operands(*size, "float32")
    got = cpu.gemm(a, b)
    _cpu.set_num_threads(1)
    np.testing.assert_array_equal(got, cpu.gemm(a, b))
    check(cpu, a, b)


X = np.ones((2, 3))
BAD = (
    (([[1.0]], X), TypeError, "a must be a NumPy array, got list"),
    ((X, None), TypeError, "b must be a NumPy array, got NoneType"),
    ((X.astype("int64"), X), TypeError, "a must be float32 or float64, got int64"),
    ((X, X.astype("float16")), TypeError, "b must be float32 or float64, got float16"),
    ((X, X.T.astype("float32")), TypeError, "b must be float64 like a, got float32"),
    ((X[0], X.T), ValueError, "a must have at least 2 dimensions (..., M, K), got shape (3,)"),
    ((X, X[:, 0]), ValueError, "b must have at least 2 dimensions (..., K, N), got shape (2,)"),
    ((X, X), ValueError, "b expects 2 columns in a, a has 3 (a (2, 3), b (2, 3))"),
    ((np.ones((4, 2, 3)), np.ones((5, 3, 2))), ValueError,
     "a and b must have leading dimensions that broadcast, got (4, 2, 3) and (5, 3, 2)"),
)  # fmt: skip


@pytest.mark.parametrize("args, error, message", BAD, ids=[case[2] for case in BAD])
def test_bad_input(backend, args, error, message):
    with pytest.raises(error, match=f"^gemm: {re.escape(message)}$"):
        backend.gemm(*args)
