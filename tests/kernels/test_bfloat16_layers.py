"""Batch norm, pooling and dropout on bfloat16: rounded once; statistics and gradients of weights are float32.

The reference computes in float64 from the same values of bfloat16.
"""

import re

import numpy as np
import pytest

from layouts import layouts, unchanged
from rounding import BFLOAT16, assert_rounded, double, values
from tolerances import assert_close

nan, inf = np.nan, np.inf
ALL = (True,) * 3
EPS = 1e-5

NATIVE = [
    "batch_norm_forward",
    "batch_norm_inference",
    "batch_norm_backward",
    "batch_norm_inference_backward",
    "max_pool2d_forward",
    "max_pool2d_backward",
    "avg_pool2d_forward",
    "avg_pool2d_backward",
    "adaptive_avg_pool2d_forward",
    "adaptive_avg_pool2d_backward",
    "dropout",
]


@pytest.mark.parametrize("name", NATIVE)
def test_has_kernels_of_its_own_on_cuda(backend, name):
    assert (name in backend.BFLOAT16) == (backend.name in ("cuda", "emulated"))


# batch norm

# one value more than one, primes; channels that are whole packs and that are not, up to some tiles of them; borders of
# what stays on the chip
SHAPES = (
    (2, 1), (2, 8), (2, 3), (5, 5), (67, 7), (131, 16), (1031, 8), (4, 3, 7), (2, 64, 5), (3, 1, 3, 3), (1, 7, 5, 4),
    (2, 8, 5, 4), (7, 16, 19, 23), (2, 12, 3, 3), (2, 65, 3, 5), (3, 264, 2, 2), (320, 8), (641, 8), (700, 12),
)  # fmt: skip


def channels(count, seed=9):
    """weight, bias, running_mean, running_var in float32."""
    rng = np.random.default_rng(seed)
    draws = (rng.uniform, 0.5, 1.5), (rng.normal, 0, 1), (rng.normal, 0, 1), (rng.uniform, 1, 2)
    return [draw(low, high, count).astype("float32") for draw, low, high in draws]


def along(value, x):
    return value.reshape(-1, *(1,) * (x.ndim - 2))


def forward_scale(x, weight):
    """The largest of the numbers that are subtracted, in units of y."""
    axes = (0, *range(2, x.ndim))
    factor = np.abs(weight) / np.sqrt(x.var(axes) + EPS)
    return (np.abs(x).max() * factor).max() + 4


@pytest.mark.parametrize("relu", [False, True], ids=["plain", "relu"])
@pytest.mark.parametrize("mean", [0.5, 1e3])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_batch_norm_forward(backend, bfloat16, reference, shape, mean, relu):
    x = values(shape, mean=mean)
    weight, bias, *running = channels(shape[1])
    wide, wanted = [a.copy() for a in running], double(*running)
    with unchanged(x, weight, bias):
        y, *statistics = bfloat16.batch_norm_forward(x, weight, bias, *running, 0.1, EPS, relu=relu)
    want = reference.batch_norm_forward(*double(x, weight, bias), *wanted, 0.1, EPS, relu=relu)[0]
    assert_rounded(y, want, forward_scale(*double(x, weight)))
    _, *same = backend.batch_norm_forward(x.astype("float32"), weight, bias, *wide, 0.1, EPS)
    for got, expected in zip([*statistics, *running], [*same, *wide]):
        assert_close(got, expected, "batch_norm")
    for got, expected in zip(running, wanted):
        assert_close(got, expected.astype("float32"), "batch_norm")


@pytest.mark.parametrize("need", [ALL, (True, False, False), (False, True, True)], ids=str)
@pytest.mark.parametrize("relu", [False, True], ids=["plain", "relu"])
@pytest.mark.parametrize("mean", [0.5, 1e3])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_batch_norm_backward(bfloat16, reference, shape, mean, relu, need):
    x, dy = values(shape, mean=mean), values(shape, seed=1)
    weight, bias, *_ = channels(shape[1])
    _, *statistics = bfloat16.batch_norm_forward(x, weight, bias, None, None, 0.1, EPS)
    with unchanged(x, dy, weight, bias, *statistics):
        grads = bfloat16.batch_norm_backward(dy, x, weight, *statistics, need, bias=bias, relu=relu)
    given = double(dy, x, weight, *statistics)
    assert_gradients(grads, reference.batch_norm_backward(*given, need, bias=double(bias), relu=relu), *given)


def assert_gradients(grads, wants, dy, x, weight, mean, invstd):
    count = x.size / max(x.shape[1], 1)
    for got, want in zip(grads[1:], wants[1:]):
        if want is None:
            assert got is None
        else:
            assert_close(got, want.astype("float32"), "batch_norm", scale=count**0.5)
    if wants[0] is None:
        assert grads[0] is None
        return
    normal = np.abs((x - along(mean, x)) * along(invstd, x)).max()
    assert_rounded(grads[0], wants[0], 4 * np.abs(weight * invstd).max() * np.abs(dy).max() * max(normal, 1))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_batch_norm_inference(bfloat16, reference, shape):
    x, dy = values(shape), values(shape, seed=1)
    weight, bias, *running = channels(shape[1])
    with unchanged(x, dy, weight, bias, *running):
        y = bfloat16.batch_norm_inference(x, weight, bias, *running, EPS)
        grads = bfloat16.batch_norm_inference_backward(dy, x, weight, *running, EPS, ALL)
    assert_rounded(y, reference.batch_norm_inference(*double(x, weight, bias, *running), EPS), 10)
    given = double(dy, x, weight, *running)
    wants = reference.batch_norm_inference_backward(*given, EPS, ALL)
    assert_gradients(grads, wants, *given[:4], 1 / np.sqrt(given[4] + EPS))


@pytest.mark.parametrize("shape", [(6, 16), (3, 8, 5), (2, 16, 3, 5)], ids=str)
def test_batch_norm_layouts_and_odd_addresses(bfloat16, reference, shape):
    """Views that begin between two packs among them; without weight and bias."""
    x, dy = values(shape, mean=0.5), values(shape, seed=1)
    y, *statistics = bfloat16.batch_norm_forward(x, None, None, None, None, 0.1, EPS)
    grads = bfloat16.batch_norm_backward(dy, x, None, *statistics, ALL)
    one = np.ones(shape[1])
    assert_rounded(y, reference.batch_norm_forward(double(x), None, None, None, None, 0.1, EPS)[0], 10)
    given = *double(dy, x), None, *double(*statistics)
    wants = reference.batch_norm_backward(*given, ALL)
    assert_gradients(grads, wants, *given[:2], one, *given[3:])
    names = ("fortran", "channels-last", "reversed", "gapped", "offset")
    xs, dys = layouts(x, names), layouts(dy, names)
    pairs = {**{name: (xs[name], dys[name]) for name in xs}, "x": (xs["offset"], dy), "dy": (x, dys["offset"])}
    for name, (x, dy) in pairs.items():
        again = bfloat16.batch_norm_forward(x, None, None, None, None, 0.1, EPS)
        again += bfloat16.batch_norm_backward(dy, x, None, *statistics, ALL)
        for got, want in zip(again, (y, *statistics, *grads)):
            if got.dtype == BFLOAT16:
                np.testing.assert_allclose(*double(got, want), rtol=2**-7, atol=2**-20, err_msg=name)
            else:
                assert_close(got, want, "batch_norm", scale=4)


@pytest.mark.parametrize("count", [7, 16])
def test_batch_norm_of_nan_and_infinity(bfloat16, reference, count):
    x, dy = values((9, count)), values((9, count), seed=1)
    x[3, 0], x[4, 2], x[5, 3], dy[2, 5] = nan, inf, -inf, nan
    weight, bias, *running = channels(count)
    y = bfloat16.batch_norm_inference(x, weight, bias, *running, EPS)
    assert_rounded(y, reference.batch_norm_inference(*double(x, weight, bias, *running), EPS), 10)
    with np.errstate(invalid="ignore"):
        y, *statistics = bfloat16.batch_norm_forward(x, weight, bias, None, None, 0.1, EPS, relu=True)
        dx, dweight, dbias = bfloat16.batch_norm_backward(dy, x, weight, *statistics, ALL, bias=bias, relu=True)
    lost = [0, 2, 3]  # their mean is no number
    for result in (y, *statistics, dx, dweight, dbias):
        gone = np.isnan(double(result)).reshape(-1, count).any(0)
        assert set(np.flatnonzero(gone)) <= {*lost, 5}, "a channel that has none of them"
    assert np.isnan(double(y)[:, lost]).all() and np.isnan(dweight[lost]).all()


def test_batch_norm_with_weights_of_bfloat16(bfloat16, reference):
    """All of a model converted: computed in float32, running statistics rounded."""
    x, dy = values((5, 8, 3, 3), mean=0.5), values((5, 8, 3, 3), seed=1)
    weight, bias, *running = [a.astype(BFLOAT16) for a in channels(8)]
    wanted = double(*running)
    y, *statistics = bfloat16.batch_norm_forward(x, weight, bias, *running, 0.1, EPS)
    want = reference.batch_norm_forward(*double(x, weight, bias), *wanted, 0.1, EPS)[0]
    assert_rounded(y, want, 10)
    for got, expected in zip(running, wanted):
        assert_rounded(got, expected)
    grads = bfloat16.batch_norm_backward(dy, x, weight, *statistics, ALL, bias=bias, relu=True)
    given = double(dy, x, weight, *statistics)
    assert_gradients(grads, reference.batch_norm_backward(*given, ALL, bias=double(bias), relu=True), *given)
    y = bfloat16.batch_norm_inference(x, weight, bias, *running, EPS)
    assert_rounded(y, reference.batch_norm_inference(*double(x, weight, bias, *running), EPS), 10)
    grads = bfloat16.batch_norm_inference_backward(dy, x, weight, *running, EPS, ALL)
    assert [g.dtype.name for g in grads] == ["bfloat16", "float32", "float32"]


@pytest.mark.parametrize("shape", [(0, 3), (4, 0), (2, 3, 0), (0, 8, 4, 4)], ids=str)
def test_batch_norm_of_nothing(bfloat16, shape):
    x = np.zeros(shape, BFLOAT16)
    weight, bias, *running = channels(shape[1])
    before = [a.copy() for a in running]
    y, mean, invstd = bfloat16.batch_norm_forward(x, weight, bias, *running, 0.1, EPS)
    grads = bfloat16.batch_norm_backward(x, x, weight, mean, invstd, ALL)
    assert y.shape == grads[0].shape == shape and y.dtype == grads[0].dtype == BFLOAT16
    np.testing.assert_array_equal(running, before)
    for a in (mean, invstd, *grads[1:]):
        np.testing.assert_array_equal(a, np.zeros(shape[1], "float32"), strict=True)


X, V, H = np.zeros((2, 3), BFLOAT16), np.zeros(3, "float32"), np.zeros(3)
BAD = (
    ("batch_norm_forward", (X, H, V, V, V, 0.1, EPS), TypeError, "weight must be float32 like x, got float64"),
    ("batch_norm_forward", (X, V, V, H, V, 0.1, EPS), TypeError, "running_mean must be float32 like x, got float64"),
    ("batch_norm_inference", (X, V, H, V, V, EPS), TypeError, "bias must be float32 like x, got float64"),
    ("batch_norm_backward", (X, X, V, V[:2], V, ALL), ValueError, "mean must have shape (3,), got (2,)"),
    ("batch_norm_backward", (X, X.astype("float32"), V, V, V, ALL), TypeError, "got "),
    ("batch_norm_inference_backward", (X, X, V, V, H, EPS, ALL), TypeError, "running_var must be float32 like x"),
)


@pytest.mark.parametrize("name, args, error, message", BAD, ids=str)
def test_batch_norm_bad_input(bfloat16, name, args, error, message):
    with pytest.raises(error, match=re.escape(message)):
        getattr(bfloat16, name)(*args)


# pooling: image, kernel_size, stride, padding, dilation, ceil_mode

WINDOWS = (
    ((5, 7), (2, 2), (2, 2), (0, 0), (1, 1), False), ((7, 6), (3, 3), (2, 2), (1, 1), (1, 1), True),
    ((5, 5), (3, 3), (1, 1), (1, 1), (1, 1), False), ((9, 7), (2, 3), (2, 1), (1, 1), (4, 2), True),
    ((1, 1), (2, 2), (2, 2), (1, 1), (1, 1), False), ((18, 17), (17, 16), (1, 1), (0, 0), (1, 1), False),
)  # fmt: skip
UNDILATED = [window for window in WINDOWS if window[4] == (1, 1)]
BATCHES = ((2, 1), (1, 3), (2, 5), (1, 7), (3, 8), (2, 12), (1, 16), (1, 17), (2, 64))


def ties(shape):
    """Small whole numbers, so that most windows hold equal maxima."""
    return np.random.default_rng(2).integers(-2, 3, shape).astype(BFLOAT16)


def odd(values):
    """Channels-last in memory, but from one element past a border on."""
    rows = values.transpose(0, 2, 3, 1)
    room = np.empty(values.size + 1, values.dtype)
    room[1:] = rows.reshape(-1)
    return room[1:].reshape(rows.shape).transpose(0, 3, 1, 2)


@pytest.mark.parametrize("batch", BATCHES, ids=str)
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_max_pool2d(bfloat16, reference, window, batch):
    for x in (ties((*batch, *window[0])), odd(ties((*batch, *window[0]))), values((*batch, *window[0]))):
        with unchanged(x):
            y, offsets = bfloat16.max_pool2d_forward(x, *window[1:])
        want, winners = reference.max_pool2d_forward(double(x), *window[1:])
        assert_rounded(y, want)
        np.testing.assert_array_equal(double(y), want)
        np.testing.assert_array_equal(offsets, winners, strict=True)
        dy = values(y.shape, seed=1)
        for given in (dy, odd(dy)):
            dx = bfloat16.max_pool2d_backward(given, offsets, *window[:5])
            assert_rounded(
                dx, reference.max_pool2d_backward(double(dy), winners, *window[:5]), 4 * np.abs(double(dy)).max()
            )


@pytest.mark.parametrize("count", [3, 16])
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_max_pool2d_behind_a_relu(bfloat16, reference, window, count):
    """The bits of the two steps, the pooling's and the ReLU's."""
    x = values((2, count, *window[0]))
    z = np.where(double(x) < 0, 0, x).astype(BFLOAT16)
    y, offsets = bfloat16.max_pool2d_forward(z, *window[1:])
    dy = values(y.shape, seed=1)
    dx = bfloat16.max_pool2d_backward(dy, offsets, *window[:5], y=y)
    two = double(bfloat16.max_pool2d_backward(dy, offsets, *window[:5]))
    np.testing.assert_array_equal(double(dx), np.where(double(z) <= 0, 0, two))
    want = reference.max_pool2d_backward(double(dy), offsets, *window[:5], y=double(y))
    assert_rounded(dx, want, 4 * np.abs(double(dy)).max())


@pytest.mark.parametrize("count", [1, 8, 17])
@pytest.mark.parametrize(
    "row, best, offset",
    [
        ((1, 1, 1), 1, 0),  # the first of equals
        ((256, 257, 258), 258, 2),  # 257 is rounded to 256
        ((-inf, -inf, -inf), -inf, 0),
        ((1, inf, inf), inf, 1),
        ((7, nan, 9), nan, 1),
        ((nan, inf, nan), nan, 2),
    ],
    ids=str,
)
def test_max_pool2d_of_equal_infinite_and_nan(bfloat16, row, best, offset, count):
    x = np.tile(np.array(row, BFLOAT16), (1, count, 1, 1))
    y, offsets = bfloat16.max_pool2d_forward(x, (1, 3), (1, 1), (0, 0), (1, 1), False)
    np.testing.assert_array_equal(double(y), np.full((1, count, 1, 1), best, "float64"))
    np.testing.assert_array_equal(offsets, offset)


@pytest.mark.parametrize("counting", [(True, None), (False, None), (False, -2)], ids=str)
@pytest.mark.parametrize("batch", BATCHES, ids=str)
@pytest.mark.parametrize("window", UNDILATED, ids=str)
def test_avg_pool2d(bfloat16, reference, window, batch, counting):
    size, *shape, _, ceil_mode = window
    x = values((*batch, *size), mean=0.5)
    want = reference.avg_pool2d_forward(double(x), *shape, ceil_mode, *counting)
    dy = values(want.shape, seed=1)
    grad = reference.avg_pool2d_backward(double(dy), size, *shape, ceil_mode, *counting)
    for lay in (np.copy, odd):
        scale = max(np.abs(want).max(), 4.0) * 16
        assert_rounded(bfloat16.avg_pool2d_forward(lay(x), *shape, ceil_mode, *counting), want, scale)
        assert_rounded(bfloat16.avg_pool2d_backward(lay(dy), size, *shape, ceil_mode, *counting), grad, 4)


@pytest.mark.parametrize("batch", BATCHES, ids=str)
@pytest.mark.parametrize("sizes", [((5, 7), (3, 2)), ((7, 7), (1, 1)), ((3, 2), (5, 7)), ((32, 13), (6, 4))], ids=str)
def test_adaptive_avg_pool2d(bfloat16, reference, sizes, batch):
    x, dy = values((*batch, *sizes[0]), mean=0.5), values((*batch, *sizes[1]), seed=1)
    want = reference.adaptive_avg_pool2d_forward(double(x), sizes[1])
    grad = reference.adaptive_avg_pool2d_backward(double(dy), sizes[0])
    for lay in (np.copy, odd):
        assert_rounded(bfloat16.adaptive_avg_pool2d_forward(lay(x), sizes[1]), want, 4)
        assert_rounded(bfloat16.adaptive_avg_pool2d_backward(lay(dy), sizes[0]), grad, 16)


@pytest.mark.parametrize("count", [3, 16])
def test_averages_of_nan_and_infinity(bfloat16, reference, count):
    x = values((2, count, 4, 4))
    x[0, 0, 1, 1], x[1, 1, 2, 3], x[0, 2, 0, 0], x[0, 2, 0, 1] = nan, inf, -inf, inf
    with np.errstate(invalid="ignore"):
        y = bfloat16.avg_pool2d_forward(x, (2, 2), (2, 2), (0, 0), False, True, None)
        want = reference.avg_pool2d_forward(double(x), (2, 2), (2, 2), (0, 0), False, True, None)
    assert_rounded(y, want, 4)


def test_pooling_wants_one_dtype(bfloat16):
    x = values((1, 2, 4, 4))
    y, offsets = bfloat16.max_pool2d_forward(x, (2, 2), (2, 2), (0, 0), (1, 1), False)
    with pytest.raises(TypeError, match="y must be bfloat16 like dy, got float32"):
        geometry = (4, 4), (2, 2), (2, 2), (0, 0), (1, 1)
        bfloat16.max_pool2d_backward(y, offsets, *geometry, y=y.astype("float32"))


# dropout


@pytest.mark.parametrize("p", [0.0, 1e-12, 0.1, 0.5, 0.9, 1.0])
def test_dropout(bfloat16, reference, p):
    """Sizes around the words that are made together and the elements that are loaded together."""
    shapes = (
        *((n,) for n in (0, 1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 63, 64, 70_001)),
        (13, 17),
        (2, 3, 4, 5),
        (3, 16, 2, 7),
    )
    for shape in shapes:
        x = values(shape, seed=1)
        want = reference.dropout(double(x), p, 2**40 + 3, 2**33 + 1)
        for given in (x, *layouts(x, ("offset", "reversed")).values(), *([odd(x)] if x.ndim == 4 else [])):
            with unchanged(given):
                assert_rounded(bfloat16.dropout(given, p, 2**40 + 3, 2**33 + 1), want)


@pytest.mark.parametrize("p", [0.0, 0.5, 1.0])
def test_dropout_of_nan_and_infinity(bfloat16, reference, p):
    x = np.tile(np.array([nan, inf, -inf, 1], BFLOAT16), 9)
    with np.errstate(invalid="ignore"):
        assert_rounded(bfloat16.dropout(x, p, 3, 4), reference.dropout(double(x), p, 3, 4))
