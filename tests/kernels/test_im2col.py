"""Unfold and fold: the reference by hand, adjointness, PyTorch; the compiled kernels by the reference, to the bit."""

import re

import numpy as np
import pytest

from layouts import layouts, unchanged

FLOATS = ("float32", "float64")
# image, kernel_size, dilation, padding, stride
WINDOWS = (
    ((4, 5), (2, 3), (1, 1), (0, 0), (1, 1)), ((5, 4), (3, 3), (1, 1), (1, 1), (1, 1)),
    ((1, 1), (1, 1), (1, 1), (0, 0), (1, 1)), ((1, 1), (2, 2), (1, 1), (1, 1), (1, 1)),
    ((9, 8), (3, 2), (1, 1), (1, 0), (2, 3)), ((8, 9), (2, 3), (3, 2), (2, 1), (1, 2)),
    ((3, 17), (1, 4), (1, 2), (0, 5), (3, 1)), ((17, 16), (2, 2), (1, 1), (0, 0), (5, 4)),
    ((2, 2), (2, 2), (3, 3), (1, 1), (1, 1)),  # every tap but none of the image
    ((2, 3), (1, 1), (1, 1), (4, 4), (2, 3)),  # whole windows in the padding
    ((0, 3), (1, 2), (1, 1), (1, 0), (1, 1)),  # no image, windows in its padding
)  # fmt: skip
PLANES = ((0, 3), (2, 0), (1, 1), (2, 3), (1, 17))
GROUPS = ((2, 4), (1, 8), (3, 16))  # of planes and channels, as the GPU's threads take them together


def values(shape, dtype="float64", seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def columns_and_back(kernels, x, window):
    """The columns of x and their sum back into an image."""
    with unchanged(x):
        cols = kernels.im2col(x, *window)
    with unchanged(cols):
        return cols, kernels.col2im(cols, x.shape[2:], *window)


def test_by_hand(backend):
    x = np.arange(1.0, 7).reshape(1, 1, 2, 3)
    cols = backend.im2col(x, (2, 2), (1, 1), (0, 0), (1, 1))
    np.testing.assert_array_equal(cols, [[[1, 2], [2, 3], [4, 5], [5, 6]]])
    np.testing.assert_array_equal(
        backend.col2im(cols, (2, 3), (2, 2), (1, 1), (0, 0), (1, 1)), [[[[1, 4, 3], [4, 10, 6]]]]
    )
    padded = backend.im2col(x, (1, 2), (1, 2), (1, 1), (3, 2))
    np.testing.assert_array_equal(padded, np.zeros((1, 2, 4)))
    shifted = backend.im2col(x, (1, 2), (1, 2), (0, 1), (1, 2))
    np.testing.assert_array_equal(shifted, [[[0, 2, 0, 5], [2, 0, 5, 0]]])


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_fold_is_the_adjoint_of_unfold(backend, window):
    x = values((2, 3, *window[0]))
    cols = backend.im2col(x, *window[1:])
    other = values(cols.shape, seed=1)
    back = backend.col2im(other, window[0], *window[1:])
    assert back.shape == x.shape
    np.testing.assert_allclose(np.vdot(cols, other), np.vdot(x, back), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("window", WINDOWS[:8], ids=str)
def test_against_torch(backend, window):
    torch = pytest.importorskip("torch")
    x = values((2, 3, *window[0]))
    cols, back = columns_and_back(backend, x, window[1:])
    want = torch.nn.functional.unfold(torch.tensor(x), *window[1:])
    np.testing.assert_array_equal(cols, want)
    np.testing.assert_allclose(back, torch.nn.functional.fold(want, window[0], *window[1:]), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_compiled(cpu, reference, window, dtype):
    for planes in PLANES:
        x = values((*planes, *window[0]), dtype)
        for got, want in zip(columns_and_back(cpu, x, window[1:]), columns_and_back(reference, x, window[1:])):
            assert got.dtype == want.dtype and got.shape == want.shape
            np.testing.assert_array_equal(got, want)
            if got.ndim == 4:
                assert got.transpose(0, 2, 3, 1).flags.c_contiguous


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_groups(backend, reference, window, dtype):
    for planes in GROUPS:
        x = values((*planes, *window[0]), dtype)
        for got, want in zip(columns_and_back(backend, x, window[1:]), columns_and_back(reference, x, window[1:])):
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("planes", [(4, 9), (1, 7)], ids=str)
def test_more_columns_than_threads(backend, reference, planes):
    """A thread of the GPU takes several taps: three and two of nine."""
    x = values((*planes, 110, 109), "float32")
    window = ((3, 3), (1, 1), (1, 1), (1, 1))
    for got, want in zip(columns_and_back(backend, x, window), columns_and_back(reference, x, window)):
        np.testing.assert_array_equal(got, want)


def test_layouts(backend):
    x = values((2, 3, 5, 6), "float32")
    window = ((2, 3), (1, 2), (1, 1), (2, 1))
    cols, back = columns_and_back(backend, x, window)
    for array in layouts(x).values():
        np.testing.assert_array_equal(columns_and_back(backend, array, window)[0], cols)
    for array in layouts(cols).values():
        np.testing.assert_array_equal(backend.col2im(array, (5, 6), *window), back)


def test_instruction_sets_and_threads(cpu, reference, isa, threads):
    x = values((3, 37, 16, 17), "float32")
    window = ((3, 3), (1, 1), (1, 1), (1, 1))
    for got, want in zip(columns_and_back(cpu, x, window), columns_and_back(reference, x, window)):
        np.testing.assert_array_equal(got, want)


X = np.ones((2, 3, 5, 6))
COLS = np.ones((2, 12, 20))
ONE, TWO, NIL = (1, 1), (2, 2), (0, 0)
BAD = (
    ("im2col", ([1.0], TWO, ONE, NIL, ONE), TypeError, "x must be a NumPy array, got list"),
    ("im2col", (X.astype("uint8"), TWO, ONE, NIL, ONE), TypeError, "x must be float32 or float64, got uint8"),
    ("im2col", (X[0], TWO, ONE, NIL, ONE), ValueError, "x must have 4 dimensions (N, C, H, W), got shape (3, 5, 6)"),
    ("im2col", (X, 2, ONE, NIL, ONE), TypeError, "kernel_size must be a pair of ints, got 2"),
    ("im2col", (X, (2, 2, 2), ONE, NIL, ONE), TypeError, "kernel_size must be a pair of ints, got (2, 2, 2)"),
    ("im2col", (X, (0, 1), ONE, NIL, ONE), ValueError, "kernel_size must be positive, got (0, 1)"),
    ("im2col", (X, TWO, (1, 0), NIL, ONE), ValueError, "dilation must be positive, got (1, 0)"),
    ("im2col", (X, TWO, ONE, (-1, 0), ONE), ValueError, "padding must be at least 0, got (-1, 0)"),
    ("im2col", (X, TWO, ONE, NIL, (1, -1)), ValueError, "stride must be positive, got (1, -1)"),
    ("im2col", (X, TWO, ONE, (0, 2**31), ONE), ValueError, "padding must be at most 2147483647, got (0, 2147483648)"),
    ("im2col", (X, TWO, ONE, NIL, (2**80, 1)), ValueError,
     "stride must be at most 2147483647, got (1208925819614629174706176, 1)"),
    ("im2col", (X, (3, 3), (1, 3), (0, 0), ONE), ValueError,
     "kernel_size (3, 3) with dilation (1, 3) must fit into the padded input, got (5, 6)"),
    ("im2col", (X, (8, 2), ONE, (1, 1), ONE), ValueError,
     "kernel_size (8, 2) with dilation (1, 1) must fit into the padded input, got (7, 8)"),
    ("col2im", (None, (5, 6), TWO, ONE, NIL, ONE), TypeError, "cols must be a NumPy array, got NoneType"),
    ("col2im", (COLS[0], (5, 6), TWO, ONE, NIL, ONE), ValueError,
     "cols must have 3 dimensions (N, C*kh*kw, L), got shape (12, 20)"),
    ("col2im", (COLS, (5, -6), TWO, ONE, NIL, ONE), ValueError, "output_size must be at least 0, got (5, -6)"),
    ("col2im", (COLS, (5, 6), (5, 1), ONE, NIL, ONE), ValueError,
     "cols must have a multiple of 5 rows (kernel_size), got shape (2, 12, 20)"),
    ("col2im", (COLS, (5, 5), TWO, ONE, NIL, ONE), ValueError,
     "cols must have 16 columns (4 x 4 windows), got shape (2, 12, 20)"),
    ("col2im", (COLS, (1, 6), TWO, ONE, NIL, ONE), ValueError,
     "kernel_size (2, 2) with dilation (1, 1) must fit into the padded input, got (1, 6)"),
)  # fmt: skip


@pytest.mark.parametrize("kernel, args, error, message", BAD, ids=[f"{c[0]}: {c[3]}" for c in BAD])
def test_bad_input(backend, kernel, args, error, message):
    with pytest.raises(error, match=f"^{kernel}: {re.escape(message)}$"):
        getattr(backend, kernel)(*args)
