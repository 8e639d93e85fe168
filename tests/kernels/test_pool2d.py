"""Pooling: the reference by hand, differences and PyTorch; the compiled kernels by the reference."""

import functools
import itertools

import numpy as np
import pytest

from differences import assert_gradient
from layouts import layouts, unchanged
from tolerances import assert_close

FLOATS = ("float32", "float64")
nan, inf = np.nan, np.inf

# image, kernel_size, stride, padding, dilation, ceil_mode; the last two are too large for differences
WINDOWS = (
    ((4, 4), (2, 2), (2, 2), (0, 0), (1, 1), False), ((5, 7), (2, 2), (2, 2), (0, 0), (1, 1), False),
    ((5, 7), (2, 2), (2, 2), (0, 0), (1, 1), True), ((7, 6), (3, 3), (2, 2), (1, 1), (1, 1), False),
    ((7, 6), (3, 3), (2, 2), (1, 1), (1, 1), True), ((5, 5), (3, 3), (1, 1), (1, 1), (1, 1), False),
    ((1, 1), (1, 1), (1, 1), (0, 0), (1, 1), False), ((1, 1), (2, 2), (2, 2), (1, 1), (1, 1), False),
    ((6, 5), (6, 5), (1, 1), (0, 0), (1, 1), False), ((9, 8), (2, 3), (3, 2), (1, 0), (1, 1), True),
    ((8, 9), (1, 2), (2, 5), (0, 1), (1, 1), True), ((9, 9), (2, 2), (5, 4), (0, 1), (1, 1), False),
    ((9, 7), (3, 2), (1, 2), (1, 1), (2, 3), False), ((9, 7), (2, 3), (2, 1), (1, 1), (4, 2), True),
    ((2, 2), (2, 2), (1, 1), (1, 1), (3, 3), False),  # every tap lies in the padding
    ((18, 17), (17, 16), (1, 1), (0, 0), (1, 1), False),  # 272 taps: offsets need more than a byte
    ((17, 18), (16, 16), (1, 1), (8, 0), (1, 1), False),  # 256 taps: they just fit
)  # fmt: skip
UNDILATED = [window for window in WINDOWS if window[4] == (1, 1)]
# batch and channels: nothing, one, primes, around the vector widths of both dtypes
BATCHES = ((0, 3), (2, 0), *((1 + c % 2, c) for c in (1, 3, 7, 8, 9, 15, 16, 17, 31, 32, 65)))
GROUPS = ((2, 4), (1, 8))  # which the GPU's threads take whole
COUNTS = ((True, None), (False, None), (True, 3), (False, -2))  # count_include_pad, divisor_override
ADAPTIVE = (
    ((4, 4), (1, 1)), ((4, 4), (2, 2)), ((5, 7), (3, 2)), ((5, 7), (5, 7)), ((3, 2), (5, 7)),
    ((1, 1), (1, 1)), ((1, 1), (3, 2)), ((7, 7), (1, 3)), ((32, 13), (6, 4)),
)  # fmt: skip


def values(shape, dtype="float64", seed=0, ties=False):
    """Random values; with ties, small whole numbers so that most windows hold equal maxima."""
    rng = np.random.default_rng(seed)
    return (rng.integers(-2, 3, shape) if ties else rng.standard_normal(shape)).astype(dtype)


def distinct(shape):
    """Values far apart, so that a step of a difference never changes the winner."""
    return np.random.default_rng(1).permutation(int(np.prod(shape))).reshape(shape).astype("float64")


def geometry(window):
    """(input_size, kernel_size, stride, padding, dilation): what the backward kernels take."""
    return window[:5]


def assert_channels_last(*arrays):
    for array in arrays:
        assert array.transpose(0, 2, 3, 1).flags.c_contiguous


# maximum


def test_max_pool2d_by_hand(backend):
    x = np.array([[[[1, 5, 2, 2], [3, 4, 2, 2], [-1, -2, 7, 8], [-3, -4, 9, 6]]]], "float32")
    y, offsets = backend.max_pool2d_forward(x, (2, 2), (2, 2), (0, 0), (1, 1), False)
    assert_close(y, np.array([[[[5, 2], [-1, 9]]]], "float32"), "pool2d")
    assert_close(offsets, np.array([[[[1, 0], [0, 2]]]], "uint8"), "pool2d")
    sizes = ((4, 4), (2, 2), (2, 2), (0, 0), (1, 1))
    assert_close(backend.max_pool2d_indices(offsets, *sizes), np.array([[[[1, 2], [8, 14]]]]), "pool2d")
    dx = backend.max_pool2d_backward(np.array([[[[10, 20], [30, 40]]]], "float32"), offsets, *sizes)
    want = np.array([[[[0, 10, 20, 0], [0, 0, 0, 0], [30, 0, 0, 0], [0, 0, 40, 0]]]], "float32")
    assert_close(dx, want, "pool2d")


@pytest.mark.parametrize("channels", [1, 17])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    "row, best, offset",
    [
        ((1, 1, 1), 1, 0),  # the first of equals
        ((0.0, -0.0, 0.0), 0, 0),
        ((-inf, -inf, -inf), -inf, 0),
        ((-inf, -3, -inf), -3, 1),
        ((1, inf, inf), inf, 1),
        ((nan, 5, 6), nan, 0),
        ((7, nan, 9), nan, 1),
        ((nan, inf, nan), nan, 2),  # PyTorch: the last NaN
    ],
    ids=str,
)
def test_max_pool2d_of_equal_infinite_and_nan(backend, row, best, offset, dtype, channels):
    x = np.tile(np.array(row, dtype), (1, channels, 1, 1))
    y, offsets = backend.max_pool2d_forward(x, (1, 3), (1, 1), (0, 0), (1, 1), False)
    np.testing.assert_array_equal(y, np.full((1, channels, 1, 1), best, dtype))
    np.testing.assert_array_equal(offsets, offset)


def test_max_pool2d_padding_never_wins(backend):
    for fill in (-inf, -1.0):
        x = np.full((1, 5, 3, 3), fill, "float32")
        y, offsets = backend.max_pool2d_forward(x, (2, 2), (2, 2), (1, 1), (1, 1), False)
        np.testing.assert_array_equal(y, np.full((1, 5, 2, 2), fill))
        np.testing.assert_array_equal(offsets[0, 0], [[3, 2], [1, 0]])


def test_max_pool2d_window_in_the_padding(backend):
    window = ((2, 2), (2, 2), (1, 1), (1, 1), (3, 3))
    y, offsets = backend.max_pool2d_forward(values((1, 2, 2, 2)), *window[1:], False)
    np.testing.assert_array_equal(y, np.full((1, 2, 1, 1), -inf))
    np.testing.assert_array_equal(offsets, 0)
    np.testing.assert_array_equal(backend.max_pool2d_indices(offsets, *window), -1)
    dx = backend.max_pool2d_backward(np.ones_like(y), offsets, *window)
    np.testing.assert_array_equal(dx, np.zeros((1, 2, 2, 2)))


@pytest.mark.parametrize("window", WINDOWS[:15], ids=str)
def test_max_pool2d_gradient(reference, window):
    x = distinct((1, 2, *window[0]))
    y, offsets = reference.max_pool2d_forward(x, *window[1:])
    dy = values(y.shape)
    dx = reference.max_pool2d_backward(dy, offsets, *geometry(window))
    assert_gradient(dx, lambda x: np.maximum(reference.max_pool2d_forward(x, *window[1:])[0], -1e9), x, dy)


@pytest.mark.parametrize("window", WINDOWS[:14], ids=str)
def test_max_pool2d_against_torch(backend, window):
    torch = pytest.importorskip("torch")
    x = values((2, 3, *window[0]), ties=True)
    x[0, 0, 0, 0] = nan
    t = torch.tensor(x, requires_grad=True)
    want, places = torch.nn.functional.max_pool2d(t, *window[1:], return_indices=True)
    y, offsets = backend.max_pool2d_forward(x, *window[1:])
    np.testing.assert_array_equal(y, want.detach())
    np.testing.assert_array_equal(backend.max_pool2d_indices(offsets, *geometry(window)), places)
    dy = values(y.shape)
    want.backward(torch.tensor(dy))
    dx = backend.max_pool2d_backward(dy, offsets, *geometry(window))
    np.testing.assert_allclose(dx, t.grad, rtol=1e-12)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_max_pool2d_backward_through_a_relu(backend, reference, window, dtype):
    """The gradient of max_pool2d(relu(x)) in one call: the bits of relu_backward after max_pool2d_backward."""
    for batch, ties in itertools.product(((1, 1), (2, 5), (1, 16), (1, 35)), (False, True)):
        x = values((*batch, *window[0]), dtype, 1, ties)
        x[0, 0, 0, 0], x[-1, -1, -1, -1] = nan, -0.0
        z = reference.relu_forward(x)
        y, offsets = reference.max_pool2d_forward(z, *window[1:])
        dy = values(y.shape, dtype, 2)
        dy[0, 0, 0, 0], dy[-1, -1, -1, -1] = inf, nan
        want = backend.relu_backward(backend.max_pool2d_backward(dy, offsets, *geometry(window)), z)
        got = backend.max_pool2d_backward(dy, offsets, *geometry(window), y)
        np.testing.assert_array_equal(got, want)
        np.testing.assert_array_equal(np.signbit(got), np.signbit(want))


def check_max_pool2d(cpu, reference, x, window, dtype):
    want = reference.max_pool2d_forward(x, *window[1:])
    got = cpu.max_pool2d_forward(x, *window[1:])
    for a, b in zip(got, want):
        assert_close(a, b, "pool2d")
    offsets, dy = want[1], values(want[1].shape, dtype, 2)
    dx = cpu.max_pool2d_backward(dy, offsets, *geometry(window))
    assert_close(dx, reference.max_pool2d_backward(dy, offsets, *geometry(window)), "pool2d")
    indices = cpu.max_pool2d_indices(offsets, *geometry(window))
    assert_close(indices, reference.max_pool2d_indices(offsets, *geometry(window)), "pool2d")
    if cpu is not reference:  # whose arrays lie in any order
        assert_channels_last(*got, dx, indices)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_compiled_max_pool2d(cpu, reference, window, dtype):
    for batch, ties in itertools.product(BATCHES if window in WINDOWS[:15] else BATCHES[5:9], (False, True)):
        check_max_pool2d(cpu, reference, values((*batch, *window[0]), dtype, 1, ties), window, dtype)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_max_pool2d_of_groups_of_channels(backend, reference, window, dtype):
    for batch, ties in itertools.product(GROUPS, (False, True)):
        check_max_pool2d(backend, reference, values((*batch, *window[0]), dtype, 1, ties), window, dtype)


@pytest.mark.parametrize("window", WINDOWS[:5], ids=str)
def test_max_pool2d_of_groups_with_nan(backend, reference, window):
    x = values((2, 8, *window[0]), "float32", 1, ties=True)
    x[np.random.default_rng(2).random(x.shape) < 0.2] = nan
    for got, want in zip(backend.max_pool2d_forward(x, *window[1:]), reference.max_pool2d_forward(x, *window[1:])):
        np.testing.assert_array_equal(got, want)


# average


def test_avg_pool2d_by_hand(backend):
    x = np.arange(1.0, 10).reshape(1, 1, 3, 3)
    # Windows of 2x2, stride 2, over the image padded by 1: the corner windows hold one pixel, and so on.
    sums = np.array([[[[1.0, 5.0], [11.0, 28.0]]]])
    counts = np.array([[1, 2], [2, 4]])
    pad = ((2, 2), (2, 2), (1, 1), False)
    assert_close(backend.avg_pool2d_forward(x, *pad, True, None), sums / 4, "pool2d")
    assert_close(backend.avg_pool2d_forward(x, *pad, False, None), sums / counts, "pool2d")
    assert_close(backend.avg_pool2d_forward(x, *pad, False, 5), sums / 5, "pool2d")
    assert_close(backend.avg_pool2d_forward(x, *pad, False, 2**70), sums / 2**70, "pool2d")
    # ceil_mode: the last windows hang over the edge, and that part is never counted.
    over = backend.avg_pool2d_forward(x, (2, 2), (2, 2), (0, 0), True, True, None)
    assert_close(over, np.array([[[[3.0, 4.5], [7.5, 9.0]]]]), "pool2d")
    dy = np.array([[[[4.0, 2.0], [6.0, 1.0]]]])
    dx = backend.avg_pool2d_backward(dy, (3, 3), (2, 2), (2, 2), (0, 0), True, True, None)
    assert_close(dx, np.array([[[[1, 1, 1], [1, 1, 1], [3, 3, 1.0]]]]), "pool2d")


def average(window):
    """(kernel_size, stride, padding, ceil_mode): a window as the average kernels take it."""
    return (*window[1:4], window[5])


@pytest.mark.parametrize("count", COUNTS, ids=str)
@pytest.mark.parametrize("window", UNDILATED[:12], ids=str)
def test_avg_pool2d_gradient(reference, window, count):
    x = values((1, 1, *window[0]))
    args = (*average(window), *count)
    dy = values(reference.avg_pool2d_forward(x, *args).shape)
    dx = reference.avg_pool2d_backward(dy, window[0], *args)
    assert_gradient(dx, lambda x: reference.avg_pool2d_forward(x, *args), x, dy)


@pytest.mark.parametrize("count", COUNTS, ids=str)
@pytest.mark.parametrize("window", UNDILATED, ids=str)
def test_avg_pool2d_against_torch(backend, window, count):
    torch = pytest.importorskip("torch")
    x = values((2, 3, *window[0]))
    args = (*average(window), *count)
    t = torch.tensor(x, requires_grad=True)
    want = torch.nn.functional.avg_pool2d(t, *args)
    y = backend.avg_pool2d_forward(x, *args)
    assert_close(y, want.detach().numpy(), "pool2d")
    dy = values(y.shape)
    want.backward(torch.tensor(dy))
    assert_close(backend.avg_pool2d_backward(dy, window[0], *args), t.grad.numpy(), "pool2d")


def check_avg_pool2d(cpu, reference, x, args):
    y, want = cpu.avg_pool2d_forward(x, *args), reference.avg_pool2d_forward(x, *args)
    assert_close(y, want, "pool2d")
    dy = values(want.shape, x.dtype, 2)
    dx = cpu.avg_pool2d_backward(dy, x.shape[2:], *args)
    assert_close(dx, reference.avg_pool2d_backward(dy, x.shape[2:], *args), "pool2d")
    if cpu is not reference:  # whose arrays lie in any order
        assert_channels_last(y, dx)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("window", UNDILATED, ids=str)
def test_compiled_avg_pool2d(cpu, reference, window, dtype):
    for batch, count in itertools.product(BATCHES if window in WINDOWS[:15] else BATCHES[5:9], COUNTS[:3]):
        check_avg_pool2d(cpu, reference, values((*batch, *window[0]), dtype), (*average(window), *count))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("window", UNDILATED, ids=str)
def test_avg_pool2d_of_groups_of_channels(backend, reference, window, dtype):
    for batch, count in itertools.product(GROUPS, COUNTS[:3]):
        check_avg_pool2d(backend, reference, values((*batch, *window[0]), dtype), (*average(window), *count))


def test_a_huge_kernel_costs_no_more_than_the_image(backend):
    x = values((1, 2, 3, 4))
    size, pad = (2**31 - 1, 1), (2**30 - 1, 0)
    y, offsets = backend.max_pool2d_forward(x, size, (1, 1), pad, (1, 1), False)
    np.testing.assert_array_equal(y, np.broadcast_to(x.max(2, keepdims=True), x.shape))
    np.testing.assert_array_equal(offsets[0, 0, :, 0], 2**30 - 1 + x[0, 0, :, 0].argmax() - np.arange(3))
    dx = backend.max_pool2d_backward(np.ones_like(y), offsets, (3, 4), size, (1, 1), pad, (1, 1))
    np.testing.assert_array_equal(dx, 3.0 * (x == x.max(2, keepdims=True)))
    y = backend.avg_pool2d_forward(x, size, (1, 1), pad, False, False, None)
    assert_close(y, np.broadcast_to(x.mean(2, keepdims=True), x.shape), "pool2d")


# adaptive average


def test_adaptive_avg_pool2d_by_hand(backend):
    x = np.arange(15.0).reshape(1, 1, 3, 5)
    # Rows {0, 1} and {1, 2}; columns {0, 1}, {1, 2, 3} and {3, 4}.
    want = np.array([[[[3.0, 4.5, 6.0], [8.0, 9.5, 11.0]]]])
    assert_close(backend.adaptive_avg_pool2d_forward(x, (2, 3)), want, "pool2d")
    dx = backend.adaptive_avg_pool2d_backward(np.array([[[[4.0, 6.0, 8.0], [0, 0, 0]]]]), (3, 5))
    assert_close(dx, np.array([[[[1, 2, 1, 3, 2], [1, 2, 1, 3, 2], [0, 0, 0, 0, 0.0]]]]), "pool2d")


@pytest.mark.parametrize("case", ADAPTIVE, ids=str)
def test_adaptive_avg_pool2d_proved(backend, reference, case):
    size, out = case
    x, dy = values((2, 3, *size)), values((2, 3, *out), seed=1)
    y, dx = backend.adaptive_avg_pool2d_forward(x, out), backend.adaptive_avg_pool2d_backward(dy, size)
    if backend is reference and x.size < 300:
        assert_gradient(dx, lambda x: reference.adaptive_avg_pool2d_forward(x, out), x, dy)
    torch = pytest.importorskip("torch")
    t = torch.tensor(x, requires_grad=True)
    want = torch.nn.functional.adaptive_avg_pool2d(t, out)
    want.backward(torch.tensor(dy))
    assert_close(y, want.detach().numpy(), "pool2d")
    assert_close(dx, t.grad.numpy(), "pool2d")


def check_adaptive(cpu, reference, x, out):
    y, want = cpu.adaptive_avg_pool2d_forward(x, out), reference.adaptive_avg_pool2d_forward(x, out)
    assert_close(y, want, "pool2d")
    dy = values(want.shape, x.dtype, 2)
    dx = cpu.adaptive_avg_pool2d_backward(dy, x.shape[2:])
    assert_close(dx, reference.adaptive_avg_pool2d_backward(dy, x.shape[2:]), "pool2d")
    if cpu is not reference:  # whose arrays lie in any order
        assert_channels_last(y, dx)


@pytest.mark.parametrize("case", ADAPTIVE, ids=str)
def test_adaptive_avg_pool2d_of_groups_of_channels(backend, reference, case):
    for batch, dtype in itertools.product(GROUPS, FLOATS):
        check_adaptive(backend, reference, values((*batch, *case[0]), dtype), case[1])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("case", ADAPTIVE, ids=str)
def test_compiled_adaptive_avg_pool2d(cpu, reference, case, dtype):
    for batch in BATCHES:
        check_adaptive(cpu, reference, values((*batch, *case[0]), dtype), case[1])


# every kernel

PADDED = ((7, 6), (3, 2), (2, 1), (1, 1), (1, 1), True)


def results(backend, x, dy, dy2):
    """Every kernel of the family on one image batch and output gradients of the right sizes."""
    y, offsets = backend.max_pool2d_forward(x, *PADDED[1:])
    args = (*average(PADDED), False, None)
    return [
        y,
        offsets,
        backend.max_pool2d_backward(dy, offsets, x.shape[2:], *PADDED[1:5]),
        backend.max_pool2d_indices(offsets, x.shape[2:], *PADDED[1:5]),
        backend.avg_pool2d_forward(x, *args),
        backend.avg_pool2d_backward(dy, x.shape[2:], *args),
        backend.adaptive_avg_pool2d_forward(x, (5, 4)),
        backend.adaptive_avg_pool2d_backward(dy2, x.shape[2:]),
    ]


def operands(reference, shape, dtype="float32"):
    x = values(shape, dtype)
    y, _ = reference.max_pool2d_forward(x, *PADDED[1:])
    return x, values(y.shape, dtype, 1), values((*shape[:2], 5, 4), dtype, 2)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("channels", [3, 16])
def test_every_layout(backend, reference, channels, dtype):
    x, dy, dy2 = operands(reference, (2, channels, 7, 6), dtype)
    wants = results(reference, x, dy, dy2)
    for name in layouts(x):
        views = [layouts(a)[name] for a in (x, dy, dy2)]
        with unchanged(*views):
            gots = results(backend, *views)
        for got, want in zip(gots, wants):
            assert_close(got, want, "pool2d")


def test_offsets_in_every_layout(backend, reference):
    x, dy, _ = operands(reference, (2, 5, 7, 6))
    _, offsets = reference.max_pool2d_forward(x, *PADDED[1:])
    want = reference.max_pool2d_backward(dy, offsets, *geometry(PADDED))
    for view in layouts(offsets, ("fortran", "channels-last", "reversed", "offset")).values():
        assert_close(backend.max_pool2d_backward(dy, view, *geometry(PADDED)), want, "pool2d")


LARGE = ((4, 33, 35, 37), (30, 3, 33, 31), (1, 64, 41, 37))  # enough to be shared out among threads


@functools.cache
def proved(reference, shape, dtype):
    arrays = operands(reference, shape, dtype)
    return arrays, results(reference, *arrays)


@pytest.mark.parametrize("dtype", FLOATS)
def test_same_bits_for_every_thread_count(isa, threads, cpu, reference, dtype):
    from fastdl import _cpu

    for shape in LARGE:
        arrays, proofs = proved(reference, shape, dtype)
        gots = results(cpu, *arrays)
        _cpu.set_num_threads(1)
        for got, want, proof in zip(gots, results(cpu, *arrays), proofs):
            assert got.tobytes() == want.tobytes()
            assert_close(got, proof, "pool2d")
        _cpu.set_num_threads(threads)
