"""The CUDA backend's own product on tensor cores: where each element goes, the types, and the pieces of a long k."""

import importlib

import numpy as np
import pytest

from fastdl import kernels
from fastdl.kernels import _libraries
from on_gpu import OnGpu

BF16 = kernels.use_bfloat16()
# Around the tiles (128 x 64), the chunks (32 and 16 k's) and the vectors (8 and 4) of the product.
SIZES = [
    (8, 8, 8), (16, 8, 8), (128, 64, 32), (136, 72, 40), (120, 56, 24), (256, 128, 64), (264, 8, 96), (8, 200, 48),
    (24, 16, 2048), (16, 8, 5000),
]  # fmt: skip


@pytest.fixture(params=["emulated", "cuda"])
def backend(request):
    """The kernels without NVIDIA's libraries: emulated, and on a GPU."""
    if request.param == "emulated":
        module, libraries = request.getfixturevalue("emulated"), None
    else:
        try:
            module = OnGpu(kernels.backend("cuda"), importlib.import_module("cupy"), "cuda")
        except RuntimeError as error:
            pytest.skip(str(error))
        libraries = importlib.import_module("fastdl._cuda")
        libraries.unload_cublaslt()
        libraries.unload_cudnn()
    module.set_tf32(True)
    yield module
    module.set_tf32(False)
    if libraries is not None:
        libraries.set_cublaslt_finder(lambda: _libraries.cublaslt.load(libraries))
        libraries.set_cudnn_finder(lambda: _libraries.cudnn.load(libraries))


def values(*shape, dtype, seed):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32).astype(dtype)


def to_tf32(x):
    bits = x.astype(np.float32).view(np.uint32)
    return ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)


def wide(x):
    return (x.astype(np.float32) if x.dtype == BF16 else to_tf32(x)).astype(np.float64)


def assert_product(got, a, b):
    """got is the product of what tensor cores read of a and b, but for the rounding of sums and of the result."""
    want, size = wide(a) @ wide(b), np.abs(wide(a)) @ np.abs(wide(b))
    assert got.shape == want.shape
    ulp = 2.0**-8 if got.dtype == BF16 else 0.0
    assert (np.abs(got.astype(np.float64) - want) <= ulp * np.abs(want) + 2.0**-20 * size).all()


@pytest.mark.parametrize("dtype", [BF16, np.dtype("float32")], ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_dense_layers(backend, size, dtype):
    rows, outputs, inputs = size
    x, w = values(rows, inputs, dtype=dtype, seed=1), values(outputs, inputs, dtype=dtype, seed=2)
    dy, bias = values(rows, outputs, dtype=dtype, seed=3), values(outputs, dtype=dtype, seed=4)
    assert_product(backend.linear_forward(x, w, None), x, w.T)
    y = backend.linear_forward(x, w, bias, relu=True)
    want = np.maximum(wide(x) @ wide(w).T + bias.astype(np.float64), 0)
    np.testing.assert_allclose(y.astype(np.float64), want, rtol=2.0**-7, atol=1e-4 * np.sqrt(inputs))
    dx, dw, db = backend.linear_backward(dy, x, w, (True, True, True))
    assert_product(dx, dy, w)
    assert_product(dw, dy.T, x)
    assert dw.dtype == db.dtype == np.float32
    np.testing.assert_allclose(db, dy.astype(np.float64).sum(0), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("dtype", [BF16, np.dtype("float32")], ids=str)
@pytest.mark.parametrize("transposed", ["nn", "nt", "tn", "tt"])
def test_matrices_in_every_order(backend, transposed, dtype):
    m, n, k = 72, 80, 56
    a = values(m, k, dtype=dtype, seed=1) if transposed[0] == "n" else values(k, m, dtype=dtype, seed=1).T
    b = values(k, n, dtype=dtype, seed=2) if transposed[1] == "n" else values(n, k, dtype=dtype, seed=2).T
    assert_product(backend.gemm(a, b), a, b)


def test_one_element_goes_where_it_belongs(backend):
    """A matrix with a single one picks a row of the other, at every place of a tile."""
    b = values(32, 64, dtype=BF16, seed=0)
    for i in range(128):
        a = np.zeros((128, 32), BF16)
        a[i, i % 32] = 1
        got = backend.gemm(a, b)
        np.testing.assert_array_equal(got[i], b[i % 32])
        assert not got[np.arange(128) != i].any()


def test_floats_are_rounded_to_tf32_only_where_allowed(backend):
    a, b = np.full((16, 8), 1 + 2.0**-12, np.float32), np.ones((8, 8), np.float32)
    assert (backend.gemm(a, b) == 8).all()
    backend.set_tf32(False)
    assert (backend.gemm(a, b) > 8).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [BF16, np.dtype("float32")], ids=str)
def test_what_is_no_number_stays_in_its_row(backend, dtype, value):
    a, b = values(40, 32, dtype=dtype, seed=1), np.ones((32, 24), dtype)
    a[17, 5] = value
    got = backend.gemm(a, b).astype(np.float32)
    np.testing.assert_array_equal(got[17], np.full(24, value, np.float32))
    assert np.isfinite(got[np.arange(40) != 17]).all()


@pytest.mark.parametrize("dtype", [BF16, np.dtype("float32")], ids=str)
@pytest.mark.parametrize("size", [(9, 8, 8), (8, 7, 8), (8, 8, 9), (1, 1, 1), (3, 5, 0)], ids=str)
def test_what_vectors_cannot_read(backend, size, dtype):
    m, n, k = size
    a, b = values(m, k, dtype=dtype, seed=1), values(k, n, dtype=dtype, seed=2)
    np.testing.assert_allclose(backend.gemm(a, b).astype(np.float64), wide(a) @ wide(b), rtol=2.0**-7, atol=1e-2)
    room = values(m * k + 1, dtype=dtype, seed=1)
    odd = room[1:].reshape(m, k)
    np.testing.assert_allclose(backend.gemm(odd, b).astype(np.float64), wide(odd) @ wide(b), rtol=2.0**-7, atol=1e-2)


def test_the_same_bits_every_time(backend):
    a, b = values(16, 5000, dtype=BF16, seed=1), values(5000, 8, dtype=BF16, seed=2)
    np.testing.assert_array_equal(backend.gemm(a, b), backend.gemm(a, b))


# n, c, h, w, filters, kernel, stride, padding, dilation, groups
LAYERS = [
    (2, 8, 5, 7, 16, (3, 3), (1, 1), (1, 1), (1, 1), 1),
    (3, 16, 9, 6, 8, (3, 2), (2, 1), (1, 0), (1, 2), 1),
    (1, 32, 6, 6, 32, (3, 3), (1, 1), (1, 1), (1, 1), 2),
    (2, 24, 8, 8, 40, (5, 5), (2, 2), (2, 2), (1, 1), 1),
    (1, 8, 4, 4, 8, (1, 1), (2, 2), (0, 0), (1, 1), 1),
    (40, 8, 8, 8, 8, (3, 3), (1, 1), (1, 1), (1, 1), 1),
]


@pytest.mark.parametrize("dtype", [BF16, np.dtype("float32")], ids=str)
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_convolutions(backend, reference, layer, dtype):
    n, c, h, w, filters, kernel, stride, padding, dilation, groups = layer
    x, weight = values(n, c, h, w, dtype=dtype, seed=1), values(filters, c // groups, *kernel, dtype=dtype, seed=2)
    bias, options = values(filters, dtype=dtype, seed=3), (stride, padding, dilation, groups)
    want = reference.conv2d_forward(wide(x), wide(weight), bias.astype(np.float64), *options)
    near = {"rtol": 2.0**-7 if dtype == BF16 else 1e-4, "atol": 1e-3}
    np.testing.assert_allclose(backend.conv2d_forward(x, weight, bias, *options).astype(np.float64), want, **near)
    relu = backend.conv2d_forward(x, weight, bias, *options, relu=True)
    np.testing.assert_allclose(relu.astype(np.float64), np.maximum(want, 0), **near)
    dy = values(*want.shape, dtype=dtype, seed=4)
    grads = backend.conv2d_backward(dy, x, weight, *options, (True, True, True))
    wanted = reference.conv2d_backward(wide(dy), wide(x), wide(weight), *options, (True, True, True))
    assert [g.dtype for g in grads] == [dtype, np.dtype("float32"), np.dtype("float32")]
    for got, exact in zip(grads[:2], wanted):
        size = np.abs(exact).max()
        np.testing.assert_allclose(got.astype(np.float64), exact, rtol=near["rtol"], atol=1e-4 * size)
    again = backend.conv2d_backward(dy, x, weight, *options, (True, True, True))
    for got, same in zip(grads, again):
        np.testing.assert_array_equal(got, same)


# Channels that vectors can't read, those of first layers: channels, filters, groups, with filters around the tile and
# the vectors (with others the weight's gradient is not made on tensor cores), and depthwise.
FEW = [(1, 8, 1), (2, 16, 1), (3, 72, 1), (5, 8, 1), (7, 9, 1), (6, 16, 2), (5, 40, 5), (8, 8, 8)]
# image, kernel, stride, padding, dilation: of first layers; without padding; mostly or only padding; one line
WINDOWS = [
    ((9, 7), (3, 3), (1, 1), (1, 1), (1, 1)), ((14, 13), (5, 5), (1, 1), (2, 2), (1, 1)),
    ((16, 15), (7, 7), (2, 2), (3, 3), (1, 1)), ((9, 10), (3, 2), (1, 2), (2, 1), (2, 3)),
    ((5, 8), (2, 3), (1, 1), (0, 0), (1, 1)), ((7, 6), (1, 1), (2, 3), (0, 0), (1, 1)),
    ((3, 3), (2, 2), (1, 1), (4, 3), (1, 1)), ((2, 2), (2, 2), (1, 1), (1, 1), (3, 3)),
    ((1, 17), (1, 5), (1, 1), (0, 2), (1, 1)),
]  # fmt: skip


def assert_sums(got, want, size, unit=0.0):
    """got is `want` rounded to `unit`, but for the rounding of the sums, whose magnitudes add up to `size`."""
    error = np.abs(got.astype(np.float64) - want)
    assert (error <= unit * np.abs(want) + 2.0**-20 * size).all(), (error / np.maximum(size, 1e-30)).max()


@pytest.mark.parametrize("dtype", [BF16, np.dtype("float32")], ids=str)
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_few_channels(backend, reference, window, dtype):
    """With the sums of what tensor cores read: in float32 a plain kernel, which rounds nothing, would be too exact."""
    image, kernel, *attrs = window
    for channels, filters, groups in FEW:
        x = values(3, channels, *image, dtype=dtype, seed=1)
        weight = values(filters, channels // groups, *kernel, dtype=dtype, seed=2)
        bias, options = values(filters, dtype=dtype, seed=3), (*attrs, groups)
        want, size = (reference.conv2d_forward(f(wide(x)), f(wide(weight)), None, *options) for f in (np.array, np.abs))
        unit = 2.0**-8 if dtype == BF16 else 0.0
        assert_sums(backend.conv2d_forward(x, weight, None, *options), want, size, unit)
        shift = bias.astype(np.float64)[:, None, None]
        y = backend.conv2d_forward(x, weight, bias, *options, relu=True)
        assert_sums(y, np.maximum(want + shift, 0), size + np.abs(shift), unit)
        dy = values(*want.shape, dtype=dtype, seed=4)
        got = backend.conv2d_backward(dy, x, weight, *options, (False, True, False))[1]
        if filters // groups % 8 != 0 and dtype != BF16:
            continue
        wanted, size = (
            reference.conv2d_backward(f(wide(dy)), f(wide(x)), f(wide(weight)), *options, (False, True, False))[1]
            for f in (np.array, np.abs)
        )
        assert_sums(got, wanted, size)


@pytest.mark.parametrize("dtype", [BF16, np.dtype("float32")], ids=str)
def test_many_pixels_of_few_channels(backend, reference, dtype):
    """So many that the weight gradient's sums are cut into pieces."""
    options = (1, 1), (1, 1), (1, 1), 1
    x, dy = values(11, 3, 17, 18, dtype=dtype, seed=1), values(11, 8, 17, 18, dtype=dtype, seed=2)
    weight, need = values(8, 3, 3, 3, dtype=dtype, seed=3), (True, True, False)
    dx, dweight, _ = backend.conv2d_backward(dy, x, weight, *options, need)
    want, size = (
        reference.conv2d_backward(f(wide(dy)), f(wide(x)), f(wide(weight)), *options, need) for f in (np.array, np.abs)
    )
    assert_sums(dweight, want[1], size[1])
    assert_sums(dx, want[0], size[0], 2.0**-8 if dtype == BF16 else 0.0)
    for a, b in zip(backend.conv2d_backward(dy, x, weight, *options, need)[:2], (dx, dweight)):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", [BF16, np.dtype("float32")], ids=str)
def test_few_channels_keep_special_values_where_they_are(backend, dtype):
    """Three channels share vectors with their neighbours and with zeros, by which infinity would become NaN."""
    x, weight, options = np.ones((2, 3, 9, 9), dtype), np.ones((8, 3, 3, 3), dtype), ((1, 1), (1, 1), (1, 1), 1)
    x[0, 1, 4, 4], x[1, 0, 4, 4] = np.nan, np.inf
    y = backend.conv2d_forward(x, weight, None, *options).astype(np.float32)
    touched = np.zeros(y.shape, bool)
    touched[:, :, 3:6, 3:6] = True
    np.testing.assert_array_equal(np.isnan(y), touched & (np.arange(2) == 0)[:, None, None, None])
    np.testing.assert_array_equal(np.isinf(y), touched & (np.arange(2) == 1)[:, None, None, None])
    dweight = backend.conv2d_backward(np.ones(y.shape, dtype), x, weight, *options, (False, True, False))[1]
    assert np.isinf(dweight[:, 0]).all() and np.isnan(dweight[:, 1]).all() and np.isfinite(dweight[:, 2]).all()
    weight[3, 1, 0, 0] = np.inf
    y = backend.conv2d_forward(np.ones_like(x), weight, None, *options).astype(np.float32)
    inner = y[:, :, 1:, 1:]  # elsewhere infinity meets the padding
    np.testing.assert_array_equal(np.isinf(inner), np.broadcast_to((np.arange(8) == 3)[:, None, None], inner.shape))
    assert not np.isnan(inner).any()


@pytest.mark.parametrize("dtype", [BF16, np.dtype("float32")], ids=str)
def test_convolutions_that_vectors_cannot_read(backend, reference, dtype):
    x, weight = values(2, 69, 5, 5, dtype=dtype, seed=1), values(10, 69, 3, 3, dtype=dtype, seed=2)
    options = (1, 1), (1, 1), (1, 1), 1
    want = reference.conv2d_forward(wide(x), wide(weight), None, *options)
    got = backend.conv2d_forward(x, weight, None, *options)
    np.testing.assert_allclose(got.astype(np.float64), want, rtol=2.0**-7, atol=0.05)
