"""Products, dense layers and convolutions of bfloat16 arrays, against the reference in float64 on the same values.

A result is off by its last rounding, and by those of the sum behind it: in float32, one for each product at most, of
the size that the sum of the magnitudes has.
"""

import itertools

import numpy as np
import pytest

from layouts import LAYOUTS, layouts, unchanged

ALL = (True, True, True)
ALIGNED = tuple(name for name in LAYOUTS if name != "unaligned")  # which a GPU refuses
NATIVE = ("gemm", "linear_forward", "linear_backward")


def random(dtype, *shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def exact(arrays):
    return [None if a is None else a.astype("float64") for a in arrays]


def magnitudes(arrays):
    return [None if a is None else abs(a.astype("float64")) for a in arrays]


def assert_near(got, want, size, length, dtype="bfloat16"):
    """got is `want` in this dtype; `size`: the sum of the magnitudes of what was added up, `length` products."""
    assert got.dtype == dtype and got.shape == want.shape
    got, unit = got.astype("float64"), {"bfloat16": 2.0**-8, "float32": 2.0**-23}[dtype]
    np.testing.assert_array_equal(np.isfinite(got), np.isfinite(want))
    finite = np.isfinite(want)
    error, limit = abs(got - want)[finite], (unit * abs(want) + (length + 1) * 2.0**-24 * size)[finite]
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


SIZES = (
    (1, 1, 1), (1, 7, 5), (7, 1, 5), (7, 5, 1), (13, 11, 7), (16, 32, 64), (65, 67, 17), (3, 5, 1031), (2, 3, 0),
    (0, 3, 2), (3, 0, 2),
)  # fmt: skip


@pytest.mark.parametrize("size", SIZES, ids=str)
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


MIXED = (
    ("gemm", (0,), "b must be bfloat16 like a, got float32"),
    ("linear_forward", (0, 2), "weight must be bfloat16 like x, got float32"),
    ("linear_forward", (0, 1), "bias must be bfloat16 like x, got float32"),
    ("linear_backward", (0, 1), "weight must be bfloat16 like dy, got float32"),
    ("linear_backward", (0, 2), "x must be bfloat16 like dy, got float32"),
)
ARGUMENTS = {
    "gemm": ((3, 4), (4, 5)), "linear_forward": ((3, 4), (5, 4), (5,)), "linear_backward": ((3, 5), (3, 4), (5, 4)),
}  # fmt: skip


@pytest.mark.parametrize("name, which, message", MIXED)
def test_mixed_dtypes(bfloat16, name, which, message):
    arrays = [random("bfloat16" if i in which else "float32", *s) for i, s in enumerate(ARGUMENTS[name])]
    with pytest.raises(TypeError, match=f"{name}: {message}"):
        getattr(bfloat16, name)(*arrays, *([ALL] if name.endswith("backward") else []))
