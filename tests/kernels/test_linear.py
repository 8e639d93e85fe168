"""Dense layer: the reference by hand, differences and PyTorch; the compiled kernels by the reference in float64."""

import re

import numpy as np
import pytest

from differences import assert_gradient
from layouts import layouts, unchanged
from tolerances import assert_close

FLOATS = ("float32", "float64")
ALL = (True, True, True)
# (leading dimensions, in features, out features)
SHAPES = (
    ((), 3, 2), ((1,), 1, 1), ((0,), 3, 4), ((2, 0), 3, 4), ((3,), 0, 4), ((3,), 4, 0), ((2, 3), 5, 7), ((13,), 17, 15),
    ((14,), 16, 16), ((15,), 31, 17), ((16,), 33, 31), ((17,), 15, 33), ((5,), 64, 32), ((1,), 400, 65), ((530,), 6, 9),
    ((2, 1, 2, 3), 8, 10), ((131,), 300, 10), ((7,), 289, 37), ((32,), 700, 70), ((300,), 20, 100), ((37,), 1024, 50),
)  # fmt: skip


def arrays(shape, dtype="float64", seed=0):
    """x, weight, bias, dy"""
    lead, i, o = shape
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(s).astype(dtype) for s in ((*lead, i), (o, i), (o,), (*lead, o))]


def check(kernels, reference, x, weight, bias, dy, need=ALL):
    """Forward and backward against the reference in float64."""
    exact = [a.astype("float64") for a in (x, weight, bias, dy)]
    with unchanged(x, weight, bias, dy):
        got = (kernels.linear_forward(x, weight, bias), *kernels.linear_backward(dy, x, weight, need))
    want = (
        reference.linear_forward(*exact[:3]),
        *reference.linear_backward(exact[3], *exact[:2], need),
    )
    lengths = (weight.shape[1], weight.shape[0], x.size // max(x.shape[-1], 1), dy.size // max(dy.shape[-1], 1))
    for a, b, length in zip(got, want, lengths):
        assert (a is None) == (b is None)
        if a is not None:
            assert_close(a, b.astype(x.dtype), "linear", length**0.5)


@pytest.mark.parametrize("dtype", FLOATS)
def test_by_hand(backend, dtype):
    x, weight, bias = np.array([[1, 2]], dtype), np.array([[3, 4], [5, 6], [0, -1]], dtype), np.array([1, 0, 2], dtype)
    np.testing.assert_array_equal(backend.linear_forward(x, weight, bias), [[12, 17, 0]])
    np.testing.assert_array_equal(backend.linear_forward(x, weight, None), [[11, 17, -2]])
    dx, dweight, dbias = backend.linear_backward(np.array([[1, 2, 10]], dtype), x, weight, ALL)
    np.testing.assert_array_equal(dx, [[13, 6]])
    np.testing.assert_array_equal(dweight, [[1, 2], [2, 4], [10, 20]])
    np.testing.assert_array_equal(dbias, [1, 2, 10])
    assert {a.dtype for a in (dx, dweight, dbias)} == {np.dtype(dtype)}


def test_gradients_by_differences(reference):
    x, weight, bias, dy = arrays(((2, 3), 4, 5))
    dx, dweight, dbias = reference.linear_backward(dy, x, weight, ALL)
    assert_gradient(dx, lambda v: reference.linear_forward(v, weight, bias), x, dy)
    assert_gradient(dweight, lambda v: reference.linear_forward(x, v, bias), weight, dy)
    assert_gradient(dbias, lambda v: reference.linear_forward(x, weight, v), bias, dy)


def test_against_torch(backend):
    torch = pytest.importorskip("torch")
    x, weight, bias, dy = arrays(((2, 3), 17, 5))
    tensors = [torch.tensor(a, requires_grad=True) for a in (x, weight, bias)]
    want = torch.nn.functional.linear(*tensors)
    want.backward(torch.tensor(dy))
    assert_close(backend.linear_forward(x, weight, bias), want.detach().numpy(), "linear", 5)
    for got, tensor in zip(backend.linear_backward(dy, x, weight, ALL), tensors):
        assert_close(got, tensor.grad.numpy(), "linear", 5)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_shapes(backend, reference, shape, dtype):
    check(backend, reference, *arrays(shape, dtype))


@pytest.mark.parametrize("need", [(a, b, c) for a in (False, True) for b in (False, True) for c in (False, True)])
def test_needed_gradients(backend, reference, need):
    check(backend, reference, *arrays(((3,), 4, 5)), need)


def check_relu(kernels, shape, dtype):
    """With relu=True the bits are those of relu_forward; NaN stays, with and without bias."""
    x, weight, bias, _ = arrays(shape, dtype)
    if x.size:
        x.reshape(-1)[-1] = np.nan
    for b in (bias, None):
        want = kernels.relu_forward(kernels.linear_forward(x, weight, b))
        assert kernels.linear_forward(x, weight, b, relu=True).tobytes() == want.tobytes()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", (*SHAPES, ((30,), 900, 40)), ids=str)
def test_relu(backend, shape, dtype):
    check_relu(backend, shape, dtype)


@pytest.mark.parametrize("shape", (*SHAPES, ((30,), 900, 40)), ids=str)
def test_relu_in_every_instruction_set(cpu, isa, shape):
    check_relu(cpu, shape, "float32")


def test_layouts(backend, reference):
    values = arrays(((2, 3), 17, 9), "float32")
    for place in range(4):
        for array in layouts(values[place]).values():
            check(backend, reference, *values[:place], array, *values[place + 1 :])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_instruction_sets(cpu, reference, isa, shape, dtype):
    check(cpu, reference, *arrays(shape, dtype))


MANY = (((100,), 784, 50), ((3000,), 40, 33), ((64,), 9, 500), ((200,), 999, 10), ((9,), 777, 330))


@pytest.mark.parametrize("shape", MANY, ids=str)
def test_bits_do_not_depend_on_threads(cpu, threads, shape):
    from fastdl import _cpu

    x, weight, bias, dy = arrays(shape, "float32")
    got = (cpu.linear_forward(x, weight, bias), *cpu.linear_backward(dy, x, weight, ALL))
    _cpu.set_num_threads(1)
    for a, b in zip(got, (cpu.linear_forward(x, weight, bias), *cpu.linear_backward(dy, x, weight, ALL))):
        np.testing.assert_array_equal(a, b)


X, W, B, DY = arrays(((8,), 3, 5))
FIT = "(x (8, 3), weight (16, 4))"
BAD = (
    ("linear_forward", ([1.0], W, B), TypeError, "x must be a NumPy array, got list"),
    ("linear_forward", (X, None, B), TypeError, "weight must be a NumPy array, got NoneType"),
    ("linear_forward", (X.astype("int32"), W, B), TypeError, "x must be float32 or float64, got int32"),
    ("linear_forward", (X, W.astype("float32"), B), TypeError, "weight must be float64 like x, got float32"),
    ("linear_forward", (X, W, B.astype("float32")), TypeError, "bias must be float64 like x, got float32"),
    ("linear_forward", (X[0, 0:1].reshape(()), W, B), ValueError,
     "x must have at least 1 dimension (..., I), got shape ()"),
    ("linear_forward", (X, W[0], B), ValueError, "weight must have 2 dimensions (O, I), got shape (3,)"),
    ("linear_forward", (X, np.ones((16, 4)), B), ValueError, f"weight expects 4 input features, x has 3 {FIT}"),
    ("linear_forward", (X, W, B[:4]), ValueError, "bias must have shape (5,), got (4,)"),
    ("linear_forward", (X, W, B[None]), ValueError, "bias must have shape (5,), got (1, 5)"),
    ("linear_backward", ("dy", X, W, ALL), TypeError, "dy must be a NumPy array, got str"),
    ("linear_backward", (DY, X.astype("float32"), W, ALL), TypeError, "x must be float64 like dy, got float32"),
    ("linear_backward", (DY, X, np.ones((16, 4)), ALL), ValueError,
     f"weight expects 4 input features, x has 3 {FIT}"),
    ("linear_backward", (DY[:7], X, W, ALL), ValueError, "dy must have shape (8, 5), got (7, 5)"),
    ("linear_backward", (DY, X, W, (True, True)), TypeError,
     "need must be a tuple of 3 bools, got (True, True)"),
    ("linear_backward", (DY, X, W, True), TypeError, "need must be a tuple of 3 bools, got True"),
)  # fmt: skip


@pytest.mark.parametrize("kernel, args, error, message", BAD, ids=[f"{c[0]}: {c[3]}" for c in BAD])
def test_bad_input(backend, kernel, args, error, message):
    with pytest.raises(error, match=f"^{kernel}: {re.escape(message)}$"):
        getattr(backend, kernel)(*args)
