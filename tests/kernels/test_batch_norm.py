"""Batch norm: the reference by hand, differences and PyTorch, the compiled kernels by it; bad input."""

import functools
import itertools
import re

import numpy as np
import pytest

from differences import assert_gradient
from layouts import layouts, unchanged
from tolerances import assert_close

FLOATS = ("float32", "float64")
EPS = 1e-5
# Ranks 2 to 4; few and many values per channel; channels around the vector widths and the blocks of the sums.
SHAPES = (
    (2, 1), (5, 3), (64, 17), (1000, 5), (4, 3, 7), (2, 33, 5), (1, 2, 2), (2, 1, 3, 3), (1, 3, 2, 1),
    (3, 7, 5, 4), (3, 8, 5, 4), (2, 15, 3, 3), (2, 16, 3, 3), (2, 17, 3, 3), (2, 31, 4, 4), (2, 65, 3, 5),
    (7, 4, 19, 23), (1, 1, 61, 67), (5, 130, 2, 3), (300, 2, 1, 1),
)  # fmt: skip
EMPTY = ((0, 3), (4, 0), (0, 3, 5), (2, 3, 0), (0, 3, 4, 4), (2, 0, 4, 4), (2, 3, 0, 4))
NEEDS = tuple(itertools.product((False, True), repeat=3))


def values(shape, dtype="float64", seed=0, mean=0.5, std=2.0):
    return (mean + std * np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


def affine(channels, dtype="float64"):
    rng = np.random.default_rng(9)
    return rng.uniform(0.5, 1.5, channels).astype(dtype), rng.standard_normal(channels).astype(dtype)


def running(channels, dtype="float64"):
    rng = np.random.default_rng(8)
    return rng.standard_normal(channels).astype(dtype), rng.uniform(0.5, 2, channels).astype(dtype)


@pytest.mark.parametrize("dtype", FLOATS)
def test_by_hand(backend, dtype):
    x = np.array([[1, 10], [3, 10], [5, 40]], dtype)
    running_mean, running_var = np.array([1, 0], dtype), np.array([2, 100], dtype)
    weight, bias = np.array([2, 1], dtype), np.array([0, 5], dtype)
    y, mean, invstd = backend.batch_norm_forward(x, weight, bias, running_mean, running_var, 0.25, 0.0)
    # var is 8/3 and 200, so the normalised columns are -a, 0, a and -b, -b, 2b
    a, b = (3 / 2) ** 0.5, 2**-0.5
    assert_close(y, np.array([[-2 * a, 5 - b], [0, 5 - b], [2 * a, 5 + 2 * b]], dtype), "batch_norm")
    assert_close(mean, np.array([3, 20], dtype), "batch_norm")
    assert_close(invstd, np.array([(3 / 8) ** 0.5, 200**-0.5], dtype), "batch_norm")
    assert_close(running_mean, np.array([0.75 + 0.25 * 3, 5], dtype), "batch_norm")
    assert_close(running_var, np.array([1.5 + 0.25 * 4, 75 + 0.25 * 300], dtype), "batch_norm")
    y = backend.batch_norm_inference(x, weight, bias, np.array([1, 10], dtype), np.array([3, 99], dtype), 1.0)
    assert_close(y, np.array([[0, 5], [2, 5], [4, 8]], dtype), "batch_norm")


@pytest.mark.parametrize("shape", [(5, 3), (4, 2, 3), (2, 3, 2, 2)], ids=str)
@pytest.mark.parametrize("affinity", [True, False], ids=["affine", "plain"])
def test_gradient(reference, shape, affinity):
    x, dy = values(shape), values(shape, seed=1)
    weight, bias = affine(shape[1]) if affinity else (None, None)
    statistics = running(shape[1])

    def train(x, weight, bias):
        return reference.batch_norm_forward(x, weight, bias, None, None, 0.1, EPS)[0]

    def infer(x, weight, bias):
        return reference.batch_norm_inference(x, weight, bias, *statistics, EPS)

    _, mean, invstd = reference.batch_norm_forward(x, weight, bias, None, None, 0.1, EPS)
    for forward, grads in (
        (train, reference.batch_norm_backward(dy, x, weight, mean, invstd, (True,) * 3)),
        (infer, reference.batch_norm_inference_backward(dy, x, weight, *statistics, EPS, (True,) * 3)),
    ):
        ones, zeros = np.ones(shape[1]), np.zeros(shape[1])
        assert_gradient(grads[0], lambda x, f=forward: f(x, weight, bias), x, dy)
        assert_gradient(grads[1], lambda w, f=forward: f(x, w, bias), weight if affinity else ones, dy)
        assert_gradient(grads[2], lambda b, f=forward: f(x, weight, b), bias if affinity else zeros, dy)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_against_torch(backend, shape):
    torch = pytest.importorskip("torch")
    x, dy = values(shape), values(shape, seed=1)
    (weight, bias), statistics = affine(shape[1]), running(shape[1])
    tx, tweight, tbias = (torch.tensor(a, requires_grad=True) for a in (x, weight, bias))
    tstatistics = [torch.tensor(a) for a in statistics]
    for training in (True, True, False):
        tx.grad = tweight.grad = tbias.grad = None
        want = torch.nn.functional.batch_norm(tx, *tstatistics, tweight, tbias, training, 0.3, EPS)
        want.backward(torch.tensor(dy))
        if training:
            y, mean, invstd = backend.batch_norm_forward(x, weight, bias, *statistics, 0.3, EPS)
            grads = backend.batch_norm_backward(dy, x, weight, mean, invstd, (True,) * 3)
        else:
            y = backend.batch_norm_inference(x, weight, bias, *statistics, EPS)
            grads = backend.batch_norm_inference_backward(dy, x, weight, *statistics, EPS, (True,) * 3)
        assert_close(y, want.detach().numpy(), "batch_norm")
        for got, expected in zip(grads, (tx, tweight, tbias)):
            # PyTorch adds in one long row, so its error grows with the number of terms
            assert_close(got, expected.grad.numpy(), "batch_norm", scale=x.size / shape[1])
        for got, expected in zip(statistics, tstatistics):
            assert_close(got, expected.numpy(), "batch_norm")


def results(backend, x, dy, weight, bias, statistics, need=(True, True, True)):
    """Every kernel of the family; the statistics are copied, their updated values come last."""
    updated = [a.copy() if a is not None else None for a in statistics]
    y, mean, invstd = backend.batch_norm_forward(x, weight, bias, *updated, 0.1, EPS)
    out = [y, mean, invstd, *backend.batch_norm_backward(dy, x, weight, mean, invstd, need)]
    out += backend.batch_norm_forward(x, weight, bias, None, None, 0.1, EPS, relu=True)[:1]
    out += backend.batch_norm_backward(dy, x, weight, mean, invstd, need, bias=bias, relu=True)
    if all(a is not None for a in updated):
        out.append(backend.batch_norm_inference(x, weight, bias, *updated, EPS))
        out += backend.batch_norm_inference_backward(dy, x, weight, *updated, EPS, need)
    return out + updated


def assert_results(gots, wants, count):
    for got, want in zip(gots, wants):
        if want is None:
            assert got is None
        else:
            # The reference sums float64 in one long row, so there its own error grows with the number of terms.
            assert_close(got, want, "batch_norm", scale=count if want.dtype == "float64" else count**0.5)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("affinity", ["affine", "weight", "plain"])
def test_fused_relu(isa, backend, shape, dtype, affinity):
    """The same bits as batch norm and ReLU one after the other, both ways."""
    x, dy = values(shape, dtype), values(shape, dtype, 1)
    weight, bias = affine(shape[1], dtype)
    weight, bias = {"affine": (-weight, bias), "weight": (weight, None), "plain": (None, None)}[affinity]
    y, *statistics = backend.batch_norm_forward(x, weight, bias, None, None, 0.1, EPS)
    z = backend.relu_forward(y)
    wants = [z, *statistics]
    wants += backend.batch_norm_backward(backend.relu_backward(dy, z), x, weight, *statistics, (True,) * 3)
    gots = backend.batch_norm_forward(x, weight, bias, None, None, 0.1, EPS, relu=True)
    gots += backend.batch_norm_backward(dy, x, weight, *statistics, (True,) * 3, bias=bias, relu=True)
    for got, want in zip(gots, wants):
        np.testing.assert_array_equal(got, want)


def test_gradient_of_the_fused_relu(reference):
    x, dy = values((4, 2, 3)), values((4, 2, 3), seed=1)
    weight, bias = affine(2)

    def train(x, weight, bias):
        return reference.batch_norm_forward(x, weight, bias, None, None, 0.1, EPS, True)[0]

    _, mean, invstd = reference.batch_norm_forward(x, weight, bias, None, None, 0.1, EPS, True)
    dx, dweight, dbias = reference.batch_norm_backward(dy, x, weight, mean, invstd, (True,) * 3, bias, True)
    assert_gradient(dx, lambda x: train(x, weight, bias), x, dy)
    assert_gradient(dweight, lambda w: train(x, w, bias), weight, dy)
    assert_gradient(dbias, lambda b: train(x, weight, b), bias, dy)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_compiled(cpu, reference, shape, dtype):
    x, dy = values(shape, dtype), values(shape, dtype, 1)
    weight, bias = affine(shape[1], dtype)
    statistics = running(shape[1], dtype)
    count = x.size // shape[1]
    for operands in ((weight, bias), (None, None), (weight, None), (None, bias)):
        args = (x, dy, *operands, statistics)
        assert_results(results(cpu, *args), results(reference, *args), count)
    for one in ((None, None), (statistics[0], None), (None, statistics[1])):
        args = (x, dy, weight, bias, one)
        assert_results(results(cpu, *args), results(reference, *args), count)
    if len(shape) == 4:
        y, *_ = cpu.batch_norm_forward(x, weight, bias, None, None, 0.1, EPS)
        assert y.transpose(0, 2, 3, 1).flags.c_contiguous


@pytest.mark.parametrize("need", NEEDS, ids=str)
@pytest.mark.parametrize("shape", [(40, 3), (3, 17, 5, 4)], ids=str)
def test_only_what_is_needed(backend, reference, shape, need):
    args = (values(shape), values(shape, seed=1), *affine(shape[1]), running(shape[1]), need)
    gots, wants = results(backend, *args), results(reference, *args)
    assert [got is not None for got in gots[3:6]] == list(need)
    assert [got is not None for got in gots[7:10]] == list(need)
    assert [got is not None for got in gots[11:14]] == list(need)
    assert_results(gots, wants, 60)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", EMPTY, ids=str)
def test_empty(backend, shape, dtype):
    x, (weight, bias), statistics = np.zeros(shape, dtype), affine(shape[1], dtype), running(shape[1], dtype)
    zeros = np.zeros(shape[1], dtype)
    with unchanged(*statistics):
        got = backend.batch_norm_forward(x, weight, bias, *statistics, 0.1, EPS)
        grads = backend.batch_norm_backward(x, x, weight, *statistics, (True,) * 3)
        y = backend.batch_norm_inference(x, weight, bias, *statistics, EPS)
        more = backend.batch_norm_inference_backward(x, x, weight, *statistics, EPS, (True,) * 3)
    assert_results([*got, *grads, y, *more], [x, zeros, zeros, x, zeros, zeros, x, x, zeros, zeros], 1)


@pytest.mark.parametrize("shape", [(500, 3), (6, 17, 9, 8), (4, 16, 20, 20), (3, 1, 30, 30)], ids=str)
@pytest.mark.parametrize("mean", [1e3, -1e5])
def test_mean_much_larger_than_deviation(backend, shape, mean):
    """The difference of two sums of squares would lose every digit here."""
    x = values(shape, "float32", mean=mean, std=1.0)
    axes = (0, *range(2, len(shape)))
    exact = x.astype("float64")
    exact -= exact.mean(axes, keepdims=True)
    exact /= np.sqrt((exact**2).mean(axes, keepdims=True) + EPS)
    y, _, invstd = backend.batch_norm_forward(x, None, None, None, None, 0.1, EPS)
    # The mean is rounded to float32 once, which shifts y by up to half a unit of the mean.
    np.testing.assert_allclose(y, exact, rtol=1e-5, atol=1.01 * abs(mean) * 2.0**-24 + 1e-6)
    want = 1 / np.sqrt(x.astype("float64").var(axes) + EPS)
    np.testing.assert_allclose(invstd, want, rtol=1e-6)


@pytest.mark.parametrize("shape", [(500, 3), (4, 17, 12, 9)], ids=str)
def test_a_first_value_far_from_the_rest(backend, shape):
    """A sum shifted by the first value would lose the digits of all others."""
    x = values(shape, "float32", mean=0.0, std=1.0)
    x[0] += 1e4
    axes = (0, *range(2, len(shape)))
    _, mean, invstd = backend.batch_norm_forward(x, None, None, None, None, 0.1, EPS)
    np.testing.assert_allclose(mean, x.mean(axes, dtype="float64"), rtol=1e-6)
    np.testing.assert_allclose(invstd, 1 / np.sqrt(x.astype("float64").var(axes) + EPS), rtol=1e-6)


def test_a_constant_channel(backend):
    x = np.full((4, 3, 5, 5), 7, "float32")
    y, mean, invstd = backend.batch_norm_forward(x, None, None, None, None, 0.1, 0.25)
    np.testing.assert_array_equal(y, np.zeros_like(x))
    np.testing.assert_array_equal(mean, 7)
    np.testing.assert_array_equal(invstd, 2)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_finite_input_spoils_its_channel_only(backend, value):
    x = values((3, 17, 4, 4), "float32")
    x[1, 2, 3, 3] = value
    with np.errstate(invalid="ignore"):
        y, _, invstd = backend.batch_norm_forward(x, None, None, None, None, 0.1, EPS)
    others = np.arange(17) != 2
    assert np.isnan(y[1, 2, 3, 3]) and np.isnan(invstd[2])
    assert np.isfinite(y[:, others]).all() and np.isfinite(invstd[others]).all()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(9, 5), (4, 3, 5), (2, 3, 5, 4), (2, 16, 3, 5)], ids=str)
def test_every_layout(backend, reference, shape, dtype):
    arrays = [values(shape, dtype), values(shape, dtype, 1), *affine(shape[1], dtype)]
    statistics = running(shape[1], dtype)
    wants = results(reference, *arrays, statistics)
    for name in layouts(arrays[0]):
        views = [layouts(a).get(name, a) for a in arrays]
        with unchanged(*views):
            assert_results(results(backend, *views, statistics), wants, 32)


def test_running_statistics_in_every_layout(backend, reference):
    x = values((3, 5, 2, 2))
    wants = running(5)
    reference.batch_norm_forward(x, None, None, *wants, 0.1, EPS)
    for views in zip(*(layouts(a).values() for a in running(5))):
        backend.batch_norm_forward(x, None, None, *views, 0.1, EPS)
        for got, want in zip(views, wants):
            assert_close(got, want, "batch_norm")


LARGE = ((4001, 17), (8, 33, 30, 31), (32, 3, 33, 31), (8, 256, 8, 8))  # enough to be shared out among threads


@functools.cache
def proved(reference, shape, dtype):
    x, dy = values(shape, dtype), values(shape, dtype, 1)
    args = (x, dy, *affine(shape[1], dtype), running(shape[1], dtype))
    return args, results(reference, *args)


@pytest.mark.parametrize("dtype", FLOATS)
def test_same_bits_for_every_thread_count(isa, threads, cpu, reference, dtype):
    from fastdl import _cpu

    for shape in LARGE:
        args, proofs = proved(reference, shape, dtype)
        gots = results(cpu, *args)
        _cpu.set_num_threads(1)
        for got, want in zip(gots, results(cpu, *args)):
            assert got.tobytes() == want.tobytes()
        _cpu.set_num_threads(threads)
        assert_results(gots, proofs, args[0].size // shape[1])


X = np.ones((4, 3), np.float32)
V = np.ones(3, np.float32)
D = np.ones(3)
LOCKED = np.ones(3, np.float32)
LOCKED.flags.writeable = False
SHAPE = "(N, C), (N, C, L) or (N, C, H, W), got shape"
ALL = (True,) * 3
BAD = {
    "batch_norm_forward": (
        (([1.0], V, V, V, V, 0.1, EPS), TypeError, "x must be a NumPy array, got list"),
        ((X.astype("int64"), V, V, V, V, 0.1, EPS), TypeError, "x must be float32 or float64, got int64"),
        ((V, V, V, V, V, 0.1, EPS), ValueError, f"x must have 2, 3 or 4 dimensions {SHAPE} (3,)"),
        ((X.reshape(1, 1, 1, 4, 3), V, V, V, V, 0.1, EPS), ValueError,
         f"x must have 2, 3 or 4 dimensions {SHAPE} (1, 1, 1, 4, 3)"),
        ((X, D, V, V, V, 0.1, EPS), TypeError, "weight must be float32 like x, got float64"),
        ((X, V[:2], V, V, V, 0.1, EPS), ValueError, "weight must have shape (3,), got (2,)"),
        ((X, 1.0, V, V, V, 0.1, EPS), TypeError, "weight must be a NumPy array, got float"),
        ((X, V, X, V, V, 0.1, EPS), ValueError, "bias must have shape (3,), got (4, 3)"),
        ((X, V, V, D, V, 0.1, EPS), TypeError, "running_mean must be float32 like x, got float64"),
        ((X, V, V, V, X[0, :0], 0.1, EPS), ValueError, "running_var must have shape (3,), got (0,)"),
        ((X, V, V, LOCKED, V, 0.1, EPS), ValueError, "running_mean must be writeable, got a read-only array"),
        ((X, V, V, V, LOCKED, 0.1, EPS), ValueError, "running_var must be writeable, got a read-only array"),
        ((X, V, V, None, None, np.nan, EPS), ValueError, "momentum must be finite, got nan"),
        ((X, V, V, None, None, 0.1, np.nan), ValueError, "eps must be finite, got nan"),
        ((X, V, V, None, None, 0.1, -1.0), ValueError, "eps must be at least 0, got -1"),
        ((X[:1], V, V, None, None, 0.1, EPS), ValueError,
         "x must have more than 1 value per channel, got shape (1, 3)"),
    ),
    "batch_norm_inference": (
        ((None, V, V, V, V, EPS), TypeError, "x must be a NumPy array, got NoneType"),
        ((X, V, V[:1], V, V, EPS), ValueError, "bias must have shape (3,), got (1,)"),
        ((X, V, V, None, V, EPS), TypeError, "running_mean must be a NumPy array, got NoneType"),
        ((X, V, V, V, D, EPS), TypeError, "running_var must be float32 like x, got float64"),
        ((X, V, V, V, V, np.inf), ValueError, "eps must be finite, got inf"),
    ),
    "batch_norm_backward": (
        ((X, [1], V, V, V, ALL), TypeError, "x must be a NumPy array, got list"),
        (([1], X, V, V, V, ALL), TypeError, "dy must be a NumPy array, got list"),
        ((X.astype("float64"), X, V, V, V, ALL), TypeError, "dy must be float32 like x, got float64"),
        ((X[1:], X, V, V, V, ALL), ValueError, "dy must have shape (4, 3), got (3, 3)"),
        ((X, X, V[1:], V, V, ALL), ValueError, "weight must have shape (3,), got (2,)"),
        ((X, X, V, None, V, ALL), TypeError, "mean must be a NumPy array, got NoneType"),
        ((X, X, V, V, X, ALL), ValueError, "invstd must have shape (3,), got (4, 3)"),
        ((X, X, V, V, V, (True, True)), TypeError, "need must be a tuple of 3 bools, got (True, True)"),
        ((X, X, V, V, V, ALL, D, True), TypeError, "bias must be float32 like x, got float64"),
        ((X, X, V, V, V, ALL, V[:2], True), ValueError, "bias must have shape (3,), got (2,)"),
    ),
    "batch_norm_inference_backward": (
        ((V, V, V, V, V, EPS, ALL), ValueError, f"x must have 2, 3 or 4 dimensions {SHAPE} (3,)"),
        ((X[1:], X, V, V, V, EPS, ALL), ValueError, "dy must have shape (4, 3), got (3, 3)"),
        ((X, X, V, V, None, EPS, ALL), TypeError, "running_var must be a NumPy array, got NoneType"),
        ((X, X, V, D, V, EPS, ALL), TypeError, "running_mean must be float32 like x, got float64"),
        ((X, X, V, V, V, -EPS, ALL), ValueError, "eps must be at least 0, got -1e-05"),
        ((X, X, V, V, V, EPS, None), TypeError, "need must be a tuple of 3 bools, got None"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kernel, case", [(k, c) for k, cases in BAD.items() for c in cases])
def test_bad_input(backend, kernel, case):
    args, error, message = case
    with pytest.raises(error, match=f"^{re.escape(f'{kernel}: {message}')}$"):
        getattr(backend, kernel)(*args)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("shape", [(6, 3), (4, 5, 7), (2, 16, 3, 5)], ids=str)
def test_a_residual_is_added_in_the_same_pass(backend, shape, relu):
    rng = np.random.default_rng(0)
    x, residual = rng.standard_normal((2, *shape)).astype(np.float32)
    weight, bias = rng.standard_normal((2, shape[1])).astype(np.float32)
    options = weight, bias, None, None, 0.1, 1e-5
    y, mean, invstd = backend.batch_norm_forward(x, *options)
    want = backend.add(y, residual)
    got = backend.batch_norm_forward(x, *options, relu=relu, residual=residual)
    np.testing.assert_array_equal(got[0], backend.relu_forward(want) if relu else want)
    np.testing.assert_array_equal(got[1], mean)
    strided = np.repeat(residual, 2, -1)[..., ::2]
    np.testing.assert_array_equal(backend.batch_norm_forward(x, *options, relu, strided)[0], got[0])
    with pytest.raises(ValueError, match="batch_norm_forward: residual must have shape"):
        backend.batch_norm_forward(x, *options, relu, residual[:1])
    with pytest.raises(TypeError, match="batch_norm_forward: residual must be float32 like x, got float64"):
        backend.batch_norm_forward(x, *options, relu, residual.astype("float64"))


def test_batches_are_counted(backend):
    x, count = np.ones((4, 3), np.float32), np.array(5, np.int64)
    options = None, None, None, None, 0.1, 1e-5
    backend.batch_norm_forward(x, *options, count=count)
    backend.batch_norm_forward(x[:0], *options, False, None, count)
    assert count == 7 and count.dtype == np.int64
    for bad, error, message in [
        (np.array(5, np.int32), TypeError, "count must be int64, got int32"),
        ([5], TypeError, "count must be a NumPy array, got list"),
        (np.zeros(1, np.int64), ValueError, r"count must have shape \(\), got \(1,\)"),
    ]:
        with pytest.raises(error, match=f"^batch_norm_forward: {message}$"):
            backend.batch_norm_forward(x, *options, count=bad)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        backend.batch_norm_forward(x[:1], *options, count=count)
    assert count == 7


def test_a_count_that_must_not_be_changed(backend):
    count = np.array(5, np.int64)
    count.flags.writeable = False
    with pytest.raises(ValueError, match="batch_norm_forward: count must be writeable, got a read-only array"):
        backend.batch_norm_forward(np.ones((4, 3), np.float32), None, None, None, None, 0.1, EPS, count=count)
