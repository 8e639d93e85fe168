"""Batch norm around the borders between its ways on a GPU: x on the chip of one block, of some that wait for each
other, or in memory."""

import numpy as np
import pytest

from kernels.test_batch_norm import EPS, NEEDS, affine, assert_results, results, running, values
from layouts import layouts
from tolerances import assert_close

# Rows and channels. On the host a block has 64 threads and 24 KB, and 4 blocks may wait for each other.
BORDERS = [
    *(("float32", *case) for case in (
        (256, 8), (257, 8),  # one block has 8 rows for each of its threads
        (1280, 8), (1281, 8), (2560, 8), (2561, 8),  # x and dy fit; x does
        (256, 3), (257, 3), (2944, 3), (2945, 3), (5888, 3), (5889, 3),  # the same without packs
        (256, 128), (256, 132), (257, 32), (257, 36),  # strips for which there are blocks
    )),
    *(("float64", *case) for case in ((256, 4), (257, 4), (1408, 4), (1409, 4), (2816, 4), (2817, 4))),
]  # fmt: skip
LARGE = [(160, 8), (800, 8), (800, 3), (800, 16), (3200, 8)]  # alone, waiting three times, in memory
WAYS = [(20, 8), (100, 8), (100, 3), (100, 16), (400, 8), *LARGE]


@pytest.mark.parametrize("affinity", [True, False], ids=["affine", "plain"])
@pytest.mark.parametrize("dtype, rows, channels", BORDERS)
def test_around_the_borders(backend, reference, dtype, rows, channels, affinity):
    x, dy = values((rows, channels), dtype), values((rows, channels), dtype, 1)
    weight, bias = affine(channels, dtype) if affinity else (None, None)
    args = (x, dy, weight, bias, running(channels, dtype) if affinity else (None, None))
    gots = results(backend, *args)
    assert_results(gots, results(reference, *args), rows)
    for got, again in zip(gots, results(backend, *args)):
        assert got is again is None or got.tobytes() == again.tobytes()


@pytest.mark.parametrize("need", NEEDS, ids=str)
@pytest.mark.parametrize("shape", WAYS, ids=str)
def test_only_what_is_needed(backend, shape, need):
    """To the bits of all of it."""
    args = (values(shape, "float32"), values(shape, "float32", 1), *affine(shape[1], "float32"))
    wants = results(backend, *args, running(shape[1], "float32"))
    gots = results(backend, *args, running(shape[1], "float32"), need)
    for first in (3, 7, 11):
        for got, want, needed in zip(gots[first : first + 3], wants[first : first + 3], need):
            np.testing.assert_array_equal(got, want if needed else None)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("shape", WAYS, ids=str)
def test_residual_and_count(backend, shape, relu):
    x, residual = values(shape, "float32"), values(shape, "float32", 1)
    options, count = (*affine(shape[1], "float32"), None, None, 0.1, EPS), np.array(5, np.int64)
    y, *statistics = backend.batch_norm_forward(x, *options)
    gots = backend.batch_norm_forward(x, *options, relu, residual, count)
    want = backend.add(y, residual)
    for got, expected in zip(gots, [backend.relu_forward(want) if relu else want, *statistics]):
        np.testing.assert_array_equal(got, expected)
    assert count == 6


@pytest.mark.parametrize("layout", ["offset", "unaligned", "gapped"])
@pytest.mark.parametrize("shape", [(20, 8), (100, 4), (700, 4), (160, 8), (800, 4), (5600, 4)], ids=str)
def test_between_two_packs(backend, reference, shape, layout):
    arrays = values(shape, "float32"), values(shape, "float32", 1), *affine(shape[1], "float32")
    wants = results(reference, *arrays, running(shape[1], "float32"))
    views = [layouts(a)[layout] for a in arrays]
    assert_results(results(backend, *views, running(shape[1], "float32")), wants, shape[0])


@pytest.mark.parametrize("outlier", [0.0, 1e4])
@pytest.mark.parametrize("mean", [0.0, 1e3, -1e5])
@pytest.mark.parametrize("part", [0, 1 / 5, 1 / 3, 2 / 3])
@pytest.mark.parametrize("shape", [*WAYS, (40_000, 3)], ids=str)
def test_no_digits_are_lost(backend, shape, part, mean, outlier):
    """However large the mean, and however far one row is from the rest, also of those that distances are taken from.
    With an outlier in hundreds of rows the CPU's sums of floats leave two units of the standard deviation."""
    x = values(shape, "float32", mean=mean, std=1.0)
    x[int(shape[0] * part)] += outlier
    wide = x.astype("float64")
    _, got, invstd = backend.batch_norm_forward(x, None, None, None, None, 0.1, EPS)
    room = 2.4e-7 * wide.std(0).max() if backend.name == "cpu" and outlier and shape in LARGE else 0
    np.testing.assert_allclose(got, wide.mean(0), rtol=1e-6, atol=1e-6 + room)
    np.testing.assert_allclose(invstd, 1 / np.sqrt(wide.var(0) + EPS), rtol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("row", [0, 13])
@pytest.mark.parametrize("shape", WAYS, ids=str)
def test_not_finite_input_spoils_its_channel_only(backend, shape, row, value):
    x, dy = values(shape, "float32"), values(shape, "float32", 1)
    x[row, 2] = value
    others = np.arange(shape[1]) != 2
    with np.errstate(invalid="ignore"):
        y, mean, invstd = backend.batch_norm_forward(x, None, None, None, None, 0.1, EPS, True)
        grads = backend.batch_norm_backward(dy, x, None, mean, invstd, (True,) * 3, None, True)
    assert np.isnan(y[:, 2]).all() and np.isnan(invstd[2]) and np.isnan(grads[1][2])
    for result in (y, mean, invstd, *grads):
        assert np.isfinite(result[..., others]).all()


def test_one_row(backend, reference):
    """Forward refuses it."""
    for channels in (1, 8, 21):
        x, dy = values((1, channels)), values((1, channels), seed=1)
        args = (dy, x, affine(channels)[0], *running(channels))
        for name, options in (("batch_norm_backward", ()), ("batch_norm_inference_backward", (EPS,))):
            wants = getattr(reference, name)(*args, *options, (True,) * 3)
            for got, want in zip(getattr(backend, name)(*args, *options, (True,) * 3), wants):
                assert_close(got, want, "batch_norm")


@pytest.mark.parametrize("shape", [(40_000, 64), (1100, 2700)], ids=str)
def test_borders_of_a_gpu(backend, reference, shape):
    """Some rounds of loads per thread; more strips than there are processors."""
    x, dy = values(shape, "float32"), values(shape, "float32", 1)
    weight, bias = affine(shape[1], "float32")

    def both(k):
        y, mean, invstd = k.batch_norm_forward(x, weight, bias, None, None, 0.1, EPS)
        return [y, mean, invstd, *k.batch_norm_backward(dy, x, weight, mean, invstd, (True,) * 3)]

    assert_results(both(backend), both(reference), shape[0])
