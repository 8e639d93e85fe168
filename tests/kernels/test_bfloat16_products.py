"""Products, dense layers and convolutions of bfloat16 arrays, against the reference in float64 on the same values.

A result is off by its last rounding, and by those of the sum behind it: in float32, one for each product at most, of
the size that the sum of the magnitudes has.
"""

import itertools

import numpy as np
import pytest

from kernels.test_conv2d import NIL, ONE, SIZES, WINDOWS, arrays
from layouts import LAYOUTS, layouts, unchanged

ALL = (True, True, True)
ALIGNED = tuple(name for name in LAYOUTS if name != "unaligned")  # which a GPU refuses
NATIVE = ("gemm", "linear_forward", "linear_backward", "conv2d_forward", "conv2d_backward")


def random(dtype, *shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def exact(arrays):
    return [None if a is None else a.astype("float64") for a in arrays]


def magnitudes(arrays):
    return [None if a is None else abs(a.astype("float64")) for a in arrays]


def assert_near(got, want, size, length, dtype="bfloat16", rounded=0):
    """got is `want` in this dtype; `size`: the sum of the magnitudes of what was added up, `length` products;
    `rounded`: by how much the sum may be off beside that."""
    assert got.dtype == dtype and got.shape == want.shape
    got, unit = got.astype("float64"), {"bfloat16": 2.0**-8, "float32": 2.0**-23}[dtype]
    np.testing.assert_array_equal(np.isfinite(got), np.isfinite(want))
    finite = np.isfinite(want)
    error, limit = abs(got - want)[finite], (unit * abs(want) + (length + 1) * 2.0**-24 * size + rounded)[finite]
    assert (error <= limit).all(), (error / np.maximum(limit, 1e-300)).max()
    np.testing.assert_array_equal(got[~finite], want[~finite])


def check_gemm(kernels, reference, a, b):
    with unchanged(a, b):
        got = kernels.gemm(a, b)
    assert_near(got, reference.gemm(*exact((a, b))), reference.gemm(*magnitudes((a, b))), a.shape[-1])


def check_linear(kernels, reference, x, weight, bias, dy, need=ALL):
    with unchanged(*[a for a in (x, weight, bias, dy) if a is not None]):
        y, grads = kernels.linear_forward(x, weight, bias), kernels.linear_backward(dy, x, weight, need)
    rows, (o, i) = dy.size // max(dy.shape[-1], 1), weight.shape
    forward, backward = (x, weight, bias), (dy, x, weight)
    want, size = reference.linear_forward(*exact(forward)), reference.linear_forward(*magnitudes(forward))
    assert_near(y, want, size, i + 1)
    want, size = (reference.linear_backward(*f(backward), need) for f in (exact, magnitudes))
    dtypes = ("bfloat16", "float32", "float32")
    assert [g is not None for g in grads] == list(need)
    for got, *wanted, dtype in zip(grads, want, size, (o, rows, rows), dtypes):
        if got is not None:
            assert_near(got, *wanted, dtype)


def test_native_on_the_gpu(backend, bfloat16):
    if backend.name in ("cuda", "emulated"):
        assert set(NATIVE) <= set(backend.BFLOAT16)


PRODUCTS = (
    (1, 1, 1), (1, 7, 5), (7, 1, 5), (7, 5, 1), (13, 11, 7), (16, 32, 64), (65, 67, 17), (3, 5, 1031), (2, 3, 0),
    (0, 3, 2), (3, 0, 2),
)  # fmt: skip


@pytest.mark.parametrize("size", PRODUCTS, ids=str)
def test_gemm(bfloat16, reference, size):
    m, n, k = size
    a, b = random("bfloat16", m, k), random("bfloat16", k, n, seed=1)
    for first, second in itertools.product((a, a.copy(order="F")), (b, b.copy(order="F"))):
        check_gemm(bfloat16, reference, first, second)


def test_gemm_in_every_layout(bfloat16, reference):
    a, b = random("bfloat16", 2, 9, 18), random("bfloat16", 2, 18, 5, seed=1)
    for first, second in itertools.product(layouts(a, ALIGNED).values(), layouts(b, ALIGNED).values()):
        check_gemm(bfloat16, reference, first, second)


BATCHES = (((4,), (4,)), ((2, 3), ()), ((), (4,)), ((2, 1), (1, 3)), ((2, 3), (3,)), ((0,), (0,)), ((65, 1), (1, 2)))


@pytest.mark.parametrize("first, second", BATCHES, ids=str)
def test_gemm_of_batches(bfloat16, reference, first, second):
    check_gemm(bfloat16, reference, random("bfloat16", *first, 5, 7), random("bfloat16", *second, 7, 3, seed=1))


def test_sums_are_of_float32(bfloat16):
    """257 takes a bit more than bfloat16 has."""
    x, weight, bias = (np.array(v, "bfloat16") for v in ([[1, 1]], [[256, 1]], [-256]))
    np.testing.assert_array_equal(bfloat16.linear_forward(x, weight, bias), np.ones((1, 1), "bfloat16"))
    np.testing.assert_array_equal(bfloat16.gemm(x, weight.T), np.full((1, 1), 256, "bfloat16"))
    _, dweight, dbias = bfloat16.linear_backward(np.array([[256], [1]], "bfloat16"), weight.T * x, weight, ALL)
    np.testing.assert_array_equal(dbias, [257])
    np.testing.assert_array_equal(dweight, [[256**2 + 1] * 2])


LAYERS = (
    ((), 3, 2), ((1,), 1, 1), ((0,), 3, 4), ((2, 0), 3, 4), ((3,), 0, 4), ((3,), 4, 0), ((2, 3), 5, 7), ((13,), 17, 15),
    ((530,), 6, 9), ((131,), 300, 10), ((7,), 289, 37), ((16,), 64, 32),
)  # fmt: skip


def layer(shape):
    """x, weight, bias, dy"""
    lead, i, o = shape
    return [random("bfloat16", *s, seed=seed) for seed, s in enumerate(((*lead, i), (o, i), (o,), (*lead, o)))]


@pytest.mark.parametrize("shape", LAYERS, ids=str)
def test_linear(bfloat16, reference, shape):
    x, weight, bias, dy = layer(shape)
    check_linear(bfloat16, reference, x, weight, bias, dy)
    check_linear(bfloat16, reference, x, weight, None, dy)


@pytest.mark.parametrize("need", list(itertools.product((False, True), repeat=3)), ids=str)
def test_needed_gradients_of_linear(bfloat16, reference, need):
    check_linear(bfloat16, reference, *layer(((2, 3), 5, 7)), need)


def test_linear_layouts(bfloat16, reference):
    x, weight, bias, dy = layer(((6,), 10, 7))
    for name in layouts(x, ALIGNED):
        x, weight, dy = (layouts(a)[name] for a in (x, weight, dy))
        check_linear(bfloat16, reference, x, weight, bias, dy)


def test_linear_relu_and_special_values(bfloat16):
    x, weight, bias, _ = layer(((9,), 10, 7))
    x[2, 3], x[5, 0] = np.nan, np.inf
    plain, relu = (bfloat16.linear_forward(x, weight, bias, relu=flag).astype("float32") for flag in (False, True))
    assert np.isnan(relu[2]).all() and not np.isnan(np.delete(relu, 2, axis=0)).any()
    assert np.isinf(plain[5]).all()
    np.testing.assert_array_equal(relu, np.where(plain < 0, 0, plain))


def rounds(kernels, x):
    """Has cuDNN made a gradient of the weights over such images in bfloat16?"""
    size = "x".join(map(str, x.shape))
    lines = getattr(kernels, "cudnn_plans", list)()
    return any(f"bfloat16 weight gradient {size}," in line and ", rounded," in line for line in lines)


def check_conv(kernels, reference, values, attrs, need=ALL):
    x, weight, bias, dy = values
    with unchanged(*[a for a in values if a is not None]):
        y = kernels.conv2d_forward(x, weight, bias, *attrs)
        grads = kernels.conv2d_backward(dy, x, weight, *attrs, need)
    pixels, taps = dy[:, :1].size, weight[0, 0].size if weight.size else 1
    want, size = (reference.conv2d_forward(*f((x, weight, bias)), *attrs) for f in (exact, magnitudes))
    sums = reference.conv2d_forward(*exact((x, weight)), None, *attrs)
    rounded = 0 if bias is None else 1.01 * 2.0**-8 * abs(sums)  # by cuDNN before the bias is added
    assert_near(y, want, size, weight.shape[1] * taps + 1, rounded=rounded)
    want, size = (reference.conv2d_backward(*f((dy, x, weight)), *attrs, need) for f in (exact, magnitudes))
    lengths = (weight.shape[0] * taps, pixels, pixels)
    assert [g is not None for g in grads] == list(need)
    once_more = 1.01 * 2.0**-8 * abs(want[1]) if need[1] and rounds(kernels, x) else 0
    results = zip(grads, want, size, lengths, ("bfloat16", "float32", "float32"), (0, once_more, 0))
    for got, *wanted, dtype, rounded in results:
        if got is not None:
            assert_near(got, *wanted, dtype, rounded)


def convolution(size, window):
    return arrays(size, window, "bfloat16")


CONV_CASES = [(size, WINDOWS[5]) for size in SIZES] + [((2, 4, 6, 2), window) for window in WINDOWS]


@pytest.mark.parametrize("size, window", CONV_CASES, ids=str)
def test_conv2d(bfloat16, reference, size, window):
    (x, weight, bias, dy), attrs = convolution(size, window)
    check_conv(bfloat16, reference, (x, weight, bias, dy), attrs)
    check_conv(bfloat16, reference, (x, weight, None, dy), attrs)


@pytest.mark.parametrize("need", list(itertools.product((False, True), repeat=3)), ids=str)
def test_needed_gradients_of_conv2d(bfloat16, reference, need):
    check_conv(bfloat16, reference, *convolution((2, 4, 6, 2), WINDOWS[5]), need)


@pytest.mark.parametrize("groups", [1, 2])
def test_conv2d_layouts(bfloat16, reference, groups):
    (x, weight, bias, dy), attrs = convolution((2, 4, 6, groups), WINDOWS[0])
    for name in ALIGNED:
        x, weight, dy = (layouts(a)[name] for a in (x, weight, dy))
        check_conv(bfloat16, reference, (x, weight, bias, dy), attrs)


@pytest.mark.parametrize("window", [WINDOWS[0], ((4, 7), ONE, ONE, NIL, ONE)], ids=["3x3", "1x1"])
def test_conv2d_relu_and_special_values(bfloat16, window):
    (x, weight, bias, _), attrs = convolution((2, 3, 5, 1), window)
    x[0, 1, 2, 2], x[1, 0, 3, 3] = np.nan, np.inf
    plain, relu = (
        bfloat16.conv2d_forward(x, weight, bias, *attrs, relu=flag).astype("float32") for flag in (False, True)
    )
    reach = (np.array(window[1]) // 2).tolist()
    touched = np.zeros(plain.shape, bool)
    touched[0, :, 2 - reach[0] : 3 + reach[0], 2 - reach[1] : 3 + reach[1]] = True
    np.testing.assert_array_equal(np.isnan(plain), touched)
    assert np.isinf(plain[1, :, 3, 3]).all()
    np.testing.assert_array_equal(relu, np.where(plain < 0, 0, plain))


MIXED = (
    ("gemm", (0,), "b must be bfloat16 like a, got float32"),
    ("linear_forward", (0, 2), "weight must be bfloat16 like x, got float32"),
    ("linear_forward", (0, 1), "bias must be bfloat16 like x, got float32"),
    ("linear_backward", (0, 1), "weight must be bfloat16 like dy, got float32"),
    ("linear_backward", (0, 2), "x must be bfloat16 like dy, got float32"),
    ("conv2d_forward", (0, 2), "weight must be bfloat16 like x, got float32"),
    ("conv2d_forward", (0, 1), "bias must be bfloat16 like x, got float32"),
    ("conv2d_backward", (0, 1), "weight must be bfloat16 like dy, got float32"),
)
ARGUMENTS = {
    "gemm": ((3, 4), (4, 5)), "linear_forward": ((3, 4), (5, 4), (5,)), "linear_backward": ((3, 5), (3, 4), (5, 4)),
    "conv2d_forward": ((1, 2, 3, 3), (4, 2, 1, 1), (4,)), "conv2d_backward": ((1, 4, 3, 3), (1, 2, 3, 3), (4, 2, 1, 1)),
}  # fmt: skip


@pytest.mark.parametrize("name, which, message", MIXED)
def test_mixed_dtypes(bfloat16, name, which, message):
    arrays = [random("bfloat16" if i in which else "float32", *s) for i, s in enumerate(ARGUMENTS[name])]
    with pytest.raises(TypeError, match=f"{name}: {message}"):
        more = [ONE, NIL, ONE, 1] if name.startswith("conv2d") else []
        getattr(bfloat16, name)(*arrays, *more, *([ALL] if name.endswith("backward") else []))
