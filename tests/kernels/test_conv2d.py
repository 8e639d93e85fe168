"""Convolution: the reference by hand, differences and PyTorch; the compiled kernels by the reference in float64."""

import itertools

import numpy as np
import pytest

from differences import assert_gradient
from layouts import layouts, unchanged
from tolerances import assert_close

FLOATS = ("float32", "float64")
ALL = (True, True, True)
ONE, TWO, NIL = (1, 1), (2, 2), (0, 0)
# image, kernel, stride, padding, dilation
WINDOWS = (
    ((5, 6), (3, 3), ONE, ONE, ONE), ((4, 7), (1, 1), ONE, NIL, ONE), ((1, 1), (1, 1), ONE, NIL, ONE),
    ((7, 5), (3, 2), TWO, ONE, ONE), ((6, 8), (2, 3), (3, 2), (0, 1), ONE), ((9, 7), (3, 2), (1, 2), (2, 1), (2, 3)),
    ((8, 9), (1, 1), (2, 3), NIL, ONE),  # most pixels of x are never read: their gradient is 0
    ((1, 17), (1, 5), ONE, (0, 2), ONE), ((17, 1), (4, 1), (2, 1), (3, 0), ONE), ((5, 5), (5, 5), ONE, NIL, ONE),
    ((3, 3), (2, 2), ONE, (4, 3), ONE),  # more padding than kernel: dx is read off a part of dy
    ((2, 2), (2, 2), ONE, ONE, (3, 3)),  # every tap lies in the padding
    ((2, 3), (1, 1), (5, 4), (3, 3), ONE), ((0, 2), (1, 2), ONE, (1, 1), ONE), ((16, 15), (3, 3), ONE, ONE, ONE),
    ((9, 11), (5, 5), ONE, TWO, ONE), ((12, 13), (7, 7), TWO, (3, 3), ONE),  # as first layers have them
)  # fmt: skip
# batch, channels, filters, groups: nothing, one, primes, around vector widths and tiles, depthwise
SIZES = (
    (0, 3, 4, 1), (2, 0, 3, 1), (2, 3, 0, 1), (1, 1, 1, 1), (2, 3, 5, 1), (1, 7, 16, 1), (2, 16, 17, 1), (1, 17, 31, 1),
    (3, 15, 33, 1), (1, 33, 8, 1), (2, 4, 6, 2), (1, 9, 3, 3), (2, 34, 64, 2), (2, 5, 5, 5), (1, 16, 16, 16),
    (3, 33, 33, 33), (1, 6, 12, 6),
    (2, 2, 8, 1), (2, 6, 16, 2),
    (7, 5, 17, 1), (15, 33, 9, 1), (29, 16, 34, 2),  # so many images that a tile takes one pixel of several
)  # fmt: skip


def arrays(size, window, dtype="float64", seed=0):
    """(x, weight, bias, dy), (stride, padding, dilation, groups)"""
    (n, c, o, groups), ((h, w), kernel, stride, padding, dilation) = size, window
    out = [
        (length + 2 * p - d * (k - 1) - 1) // s + 1
        for length, k, s, p, d in zip((h, w), kernel, stride, padding, dilation)
    ]
    rng = np.random.default_rng(seed)
    shapes = ((n, c, h, w), (o, c // groups, *kernel), (o,), (n, o, *out))
    return [rng.standard_normal(s).astype(dtype) for s in shapes], (stride, padding, dilation, groups)


def outcome(kernels, x, weight, bias, dy, attrs, need=ALL):
    """(y, dx, dweight, dbias)"""
    with unchanged(x, weight, bias, dy):
        y = kernels.conv2d_forward(x, weight, bias, *attrs)
        return y, *kernels.conv2d_backward(dy, x, weight, *attrs, need)


def check(kernels, reference, values, attrs, need=ALL):
    """Forward and backward against the reference in float64."""
    x, weight, bias, dy = values
    got = outcome(kernels, *values, attrs, need)
    want = outcome(reference, *(None if a is None else a.astype("float64") for a in values), attrs, need)
    pixels, taps = dy[:, :1].size, weight[0, 0].size if weight.size else 1
    lengths = (weight.shape[1] * taps, weight.shape[0] * taps, pixels, pixels)
    for a, b, length in zip(got, want, lengths):
        assert (a is None) == (b is None)
        if a is not None:
            assert_close(a, b.astype(x.dtype), "conv2d", length**0.5)
    return got


# the reference


@pytest.mark.parametrize("dtype", FLOATS)
def test_by_hand(backend, dtype):
    x = np.array([[[[1, 2, 3], [4, 5, 6]]]], dtype)
    weight = np.array([[[[1, 10], [100, 1000]]]], dtype)
    attrs = (ONE, NIL, ONE, 1)
    y = backend.conv2d_forward(x, weight, np.array([7], dtype), *attrs)
    np.testing.assert_array_equal(y, [[[[5428, 6539]]]])
    assert y.dtype == dtype
    dx, dweight, dbias = backend.conv2d_backward(np.array([[[[2, 3]]]], dtype), x, weight, *attrs, ALL)
    np.testing.assert_array_equal(dx, [[[[2, 23, 30], [200, 2300, 3000]]]])
    np.testing.assert_array_equal(dweight, [[[[8, 13], [23, 28]]]])
    np.testing.assert_array_equal(dbias, [5])


def test_attributes_by_hand(backend):
    x = np.arange(1.0, 17).reshape(1, 1, 4, 4)
    ones = np.ones((1, 1, 2, 2))
    strided = backend.conv2d_forward(x, ones, None, TWO, NIL, ONE, 1)
    np.testing.assert_array_equal(strided, [[[[14, 22], [46, 54]]]])
    dilated = backend.conv2d_forward(x, ones, None, ONE, NIL, TWO, 1)
    np.testing.assert_array_equal(dilated, [[[[24, 28], [40, 44]]]])
    padded = backend.conv2d_forward(x[:, :, :1, :2], ones, None, ONE, (1, 0), ONE, 1)
    np.testing.assert_array_equal(padded, [[[[3], [3]]]])
    pair = np.array([[[[2.0]], [[3.0]]]])
    weight = np.array([[[[10.0]]], [[[100.0]]]])
    np.testing.assert_array_equal(backend.conv2d_forward(pair, weight, None, ONE, NIL, ONE, 2), [[[[20]], [[300]]]])


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("window", WINDOWS[:13], ids=str)
def test_gradients_by_differences(reference, window, groups):
    (x, weight, bias, dy), attrs = arrays((2, 2, 2, groups), window)
    dx, dweight, dbias = reference.conv2d_backward(dy, x, weight, *attrs, ALL)
    assert_gradient(dx, lambda v: reference.conv2d_forward(v, weight, bias, *attrs), x, dy)
    assert_gradient(dweight, lambda v: reference.conv2d_forward(x, v, bias, *attrs), weight, dy)
    assert_gradient(dbias, lambda v: reference.conv2d_forward(x, weight, v, *attrs), bias, dy)


@pytest.mark.parametrize("window", [w for w in WINDOWS if min(w[0]) > 0], ids=str)
def test_against_torch(backend, window):
    torch = pytest.importorskip("torch")
    for size in ((2, 3, 5, 1), (1, 4, 6, 2), (2, 5, 5, 5)):
        values, attrs = arrays(size, window)
        tensors = [torch.tensor(a, requires_grad=True) for a in values[:3]]
        want = torch.nn.functional.conv2d(*tensors, *attrs)
        want.backward(torch.tensor(values[3]))
        wants = (want.detach(), *(t.grad for t in tensors))
        for got, expected in zip(outcome(backend, *values, attrs), wants):
            assert_close(got, expected.numpy(), "conv2d", 10)


# every backend


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_windows_and_sizes(backend, reference, window, dtype):
    for size in SIZES:
        check(backend, reference, *arrays(size, window, dtype))


@pytest.mark.parametrize("need", list(itertools.product((False, True), repeat=3)), ids=str)
def test_needed_gradients(backend, reference, need):
    values, attrs = arrays((2, 3, 5, 1), WINDOWS[0])
    values[2] = None
    check(backend, reference, values, attrs, need)


def check_relu(kernels, size, window, dtype):
    """With relu=True the bits are those of relu_forward; NaN stays, with and without bias."""
    (x, weight, bias, _), attrs = arrays(size, window, dtype)
    if x.size:
        x[0, 0, 0, 0] = np.nan
    for b in (bias, None):
        want = kernels.relu_forward(kernels.conv2d_forward(x, weight, b, *attrs))
        assert kernels.conv2d_forward(x, weight, b, *attrs, relu=True).tobytes() == want.tobytes()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_relu(backend, size, dtype):
    for window in (WINDOWS[0], WINDOWS[5]):
        check_relu(backend, size, window, dtype)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_relu_in_every_instruction_set(cpu, isa, size):
    check_relu(cpu, size, WINDOWS[14], "float32")


@pytest.mark.parametrize("groups", [1, 4])
def test_layouts(backend, reference, groups):
    values, attrs = arrays((2, 4, 8, groups), WINDOWS[3], "float32")
    for place in range(4):
        for array in layouts(values[place]).values():
            check(backend, reference, [*values[:place], array, *values[place + 1 :]], attrs)


def test_infinity_and_nan_stay_where_they_are(backend):
    """A border or a tile must not carry a special value to pixels that do not read it."""
    (x, weight, bias, dy), attrs = arrays((1, 2, 33, 1), ((9, 9), (3, 3), ONE, ONE, ONE))
    x[0, 1, 4, 4], dy[0, 5, 0, 0] = np.nan, np.inf
    with np.errstate(invalid="ignore"):  # infinity times a zero of the padding
        y, dx, dweight, dbias = outcome(backend, x, weight, bias, dy, attrs)
    touched = np.zeros((9, 9), bool)
    touched[3:6, 3:6] = True
    np.testing.assert_array_equal(np.isnan(y), np.broadcast_to(touched, y.shape))
    corner = np.zeros((9, 9), bool)
    corner[:2, :2] = True
    np.testing.assert_array_equal(~np.isfinite(dx), np.broadcast_to(corner, dx.shape))
    np.testing.assert_array_equal(np.isnan(dweight[:, 1]), True)
    np.testing.assert_array_equal(np.isfinite(dbias), np.arange(33) != 5)


# compiled kernels


def test_results_are_channels_last(cpu):
    values, attrs = arrays((2, 3, 5, 1), WINDOWS[3])
    for array in outcome(cpu, *values, attrs)[:2]:
        assert array.transpose(0, 2, 3, 1).flags.c_contiguous


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_instruction_sets(cpu, reference, isa, size, dtype):
    for window in (WINDOWS[0], WINDOWS[1], WINDOWS[5], WINDOWS[6], WINDOWS[14]):
        check(cpu, reference, *arrays(size, window, dtype))


MANY = (  # several blocks of pixels, several images per block, several partial weight gradients
    ((9, 1, 32, 1), ((28, 28), (5, 5), ONE, TWO, ONE)), ((12, 32, 64, 1), ((14, 14), (5, 5), ONE, TWO, ONE)),
    ((40, 48, 33, 1), ((7, 7), (3, 3), ONE, ONE, ONE)), ((2, 24, 24, 24), ((40, 41), (3, 3), TWO, ONE, ONE)),
    ((5, 3, 40, 1), ((33, 31), (7, 7), TWO, (3, 3), ONE)), ((3, 4, 17, 1), ((20, 40), (3, 3), ONE, TWO, (2, 3))),
    ((1, 2, 3, 1), ((3, 999), (2, 2), ONE, NIL, ONE)), ((1, 5, 160, 1), ((30, 30), (3, 3), TWO, ONE, ONE)),
)  # fmt: skip


@pytest.mark.parametrize("size, window", MANY, ids=str)
def test_bits_do_not_depend_on_threads(cpu, reference, threads, size, window):
    from fastdl import _cpu

    values, attrs = arrays(size, window, "float32")
    got = check(cpu, reference, values, attrs) if threads == 3 else outcome(cpu, *values, attrs)
    _cpu.set_num_threads(1)
    for a, b in zip(got, outcome(cpu, *values, attrs)):
        np.testing.assert_array_equal(a, b)
