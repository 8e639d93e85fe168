"""The backward pass of batch norm behind a residual sum and its ReLU: by the kernels that it stands for."""

import re

import numpy as np
import pytest

from differences import assert_gradient
from kernels.test_batch_norm import EMPTY, EPS, FLOATS, NEEDS, SHAPES, affine, values
from kernels.test_batch_norm_on_chip import BORDERS, WAYS
from layouts import LAYOUTS, layouts, unchanged

ALL = (True,) * 3


def arrays(backend, shape, dtype, wide=None, affinity=True):
    """dy, x, y, weight, mean, invstd, as a forward pass with a residual leaves them, and a second dy."""
    x, residual, dy, more = (values(shape, "float32", seed, 0.1).astype(dtype) for seed in range(4))
    weight, bias = affine(shape[1], wide or dtype) if affinity else (None, None)
    y, mean, invstd = backend.batch_norm_forward(x, weight, bias, None, None, 0.1, EPS, True, residual)
    return (dy, x, y, weight, mean, invstd), more


def one_by_one(backend, dy, x, y, weight, mean, invstd, need, more=None):
    dy = backend.relu_backward(dy if more is None else backend.add(dy, more), y)
    return *backend.batch_norm_backward(dy, x, weight, mean, invstd, need), dy


def assert_same(gots, wants):
    assert len(gots) == len(wants) == 4
    for got, want in zip(gots, wants):
        np.testing.assert_array_equal(got, want, strict=want is not None)


def assert_one_by_one(backend, given, more, need=ALL):
    with unchanged(more, *(a for a in given if a is not None)):
        assert_same(backend.batch_norm_residual_backward(*given, need), one_by_one(backend, *given, need))
        gots = backend.batch_norm_residual_backward(*given, need, more)
    assert_same(gots, one_by_one(backend, *given, need, more))
    return gots


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("affinity", [True, False], ids=["affine", "plain"])
def test_the_bits_of_kernels_one_after_the_other(isa, backend, shape, dtype, affinity):
    dresidual = assert_one_by_one(backend, *arrays(backend, shape, dtype, affinity=affinity))[3]
    assert (dresidual == 0).any() or dresidual.size < 20


@pytest.mark.parametrize("shape", [*SHAPES[2:], (2, 16, 3, 5), (4, 8), *WAYS, (700, 8), (700, 12), (5600, 12)], ids=str)
def test_in_bfloat16(bfloat16, shape):
    """On a GPU the sum of two gradients is rounded before anything is made of it, as by a kernel of its own; the host
    rounds results alone."""
    given, more = arrays(bfloat16, shape, "bfloat16", "float32")
    gots = bfloat16.batch_norm_residual_backward(*given, ALL, more)
    assert [got.dtype.name for got in gots] == ["bfloat16", "float32", "float32", "bfloat16"]
    wants = one_by_one(bfloat16, *given, ALL, more)
    np.testing.assert_array_equal(gots[3], wants[3])
    if bfloat16.name in ("cuda", "emulated"):
        assert_same(gots, wants)
    scale = np.abs(wants[3].astype(float)).sum() / shape[1]
    for got, want in zip(gots[:3], wants):
        np.testing.assert_allclose(got.astype(float), want.astype(float), rtol=0.02, atol=2**-7 * max(scale, 4))


@pytest.mark.parametrize("dtype, rows, channels", BORDERS)
def test_around_the_borders(backend, dtype, rows, channels):
    """Between the ways on a GPU."""
    assert_one_by_one(backend, *arrays(backend, (rows, channels), dtype))


@pytest.mark.parametrize("need", NEEDS, ids=str)
@pytest.mark.parametrize("shape", [(3, 17, 5, 4), *WAYS], ids=str)
def test_only_what_is_needed(backend, shape, need):
    given, more = arrays(backend, shape, "float32")
    gots = assert_one_by_one(backend, given, more, need)
    assert [got is not None for got in gots] == [*need, True]


@pytest.mark.parametrize("shape", [(5, 3), (4, 2, 3), (2, 3, 2, 2)], ids=str)
def test_gradient(reference, shape):
    (dy, x, _, weight, *_), more = arrays(reference, shape, "float64")
    residual, bias = values(shape, seed=1, mean=0.1), affine(shape[1])[1]

    def forward(x, weight, bias, residual):
        return reference.batch_norm_forward(x, weight, bias, None, None, 0.1, EPS, True, residual)

    y, *statistics = forward(x, weight, bias, residual)
    grads = reference.batch_norm_residual_backward(dy, x, y, weight, *statistics, ALL, more)
    inputs = [x, weight, bias, residual]
    for i, grad in enumerate(grads):
        assert_gradient(grad, lambda a, i=i: forward(*inputs[:i], a, *inputs[i + 1 :])[0], inputs[i], dy + more)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("which", ["dy", "x", "y", "more"])
def test_layouts(backend, layout, which):
    given, more = arrays(backend, (3, 8, 5, 4), "float32")
    want = backend.batch_norm_residual_backward(*given, ALL, more)
    every = dict(zip(("dy", "x", "y", "weight", "mean", "invstd", "more"), (*given, more)))
    every[which] = layouts(every[which], [layout])[layout]
    gots = backend.batch_norm_residual_backward(**every, need=ALL)
    for got, expected in zip(gots, want):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    assert gots[3].transpose(0, 2, 3, 1).flags.c_contiguous or backend.name == "numpy"


@pytest.mark.parametrize("shape", EMPTY, ids=str)
def test_empty(backend, shape):
    x, one = np.zeros(shape, "float32"), np.ones(shape[1], "float32")
    dx, dweight, dbias, dresidual = backend.batch_norm_residual_backward(x, x, x, one, one, one, ALL, x)
    assert dx.shape == dresidual.shape == shape
    np.testing.assert_array_equal([dweight, dbias], np.zeros((2, shape[1])))


def test_nan_goes_through_where_y_is_nan(backend):
    given, more = arrays(backend, (6, 4), "float32")
    given[2][1, 2], more[2, 0], given[2][2, 0] = np.nan, np.nan, 1
    gots = assert_one_by_one(backend, given, more)
    assert gots[3][1, 2] == given[0][1, 2] + more[1, 2] and np.isnan(gots[3][2, 0])


X, V = np.zeros((4, 3), "float32"), np.zeros(3, "float32")
BAD = (
    ((X, [1], X, V, V, V, ALL), TypeError, "x must be a NumPy array, got list"),
    ((X[1:], X, X, V, V, V, ALL), ValueError, "dy must have shape (4, 3), got (3, 3)"),
    ((X, X, None, V, V, V, ALL), TypeError, "y must be a NumPy array, got NoneType"),
    ((X, X, X[1:], V, V, V, ALL), ValueError, "y must have shape (4, 3), got (3, 3)"),
    ((X, X, X.astype("float64"), V, V, V, ALL), TypeError, "y must be float32 like x, got float64"),
    ((X, X, X, V[1:], V, V, ALL), ValueError, "weight must have shape (3,), got (2,)"),
    ((X, X, X, V, None, V, ALL), TypeError, "mean must be a NumPy array, got NoneType"),
    ((X, X, X, V, V, X, ALL), ValueError, "invstd must have shape (3,), got (4, 3)"),
    ((X, X, X, V, V, V, (True,)), TypeError, "need must be a tuple of 3 bools, got (True,)"),
    ((X, X, X, V, V, V, ALL, 1.0), TypeError, "more must be a NumPy array, got float"),
    ((X, X, X, V, V, V, ALL, X[:, 1:]), ValueError, "more must have shape (4, 3), got (4, 2)"),
    ((X, X, X, V, V, V, ALL, X.astype("float64")), TypeError, "more must be float32 like x, got float64"),
    ((X, X, X, V, V, V, ALL, None, (X[0], None)), ValueError, "out[0] must not share memory with an input"),
)


@pytest.mark.parametrize("args, error, message", BAD)
def test_bad_input(backend, args, error, message):
    with pytest.raises(error, match=f"^{re.escape(f'batch_norm_residual_backward: {message}')}$"):
        backend.batch_norm_residual_backward(*args)


@pytest.mark.parametrize("which", ["y", "more"])
def test_places_may_not_be_in_what_is_read(backend, which):
    given, more = arrays(backend, (4, 3), "float32")
    place = (given[2] if which == "y" else more)[0]
    with pytest.raises(ValueError, match=r"out\[1\] must not share memory with an input"):
        backend.batch_norm_residual_backward(*given, ALL, more, (None, place))
