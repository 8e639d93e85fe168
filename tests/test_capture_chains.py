"""fastdl.capture: element-wise calls that become one, made piece by piece, with the bits of the separate calls."""

import numpy as np
import pytest

import fastdl as fd
from fastdl.nn import functional as F

pytestmark = pytest.mark.skipif(fd.get_device() != "cpu", reason="needs the compiled kernels")

# Around a piece and several pieces, rows that fill one and rows longer than one.
SIZES = [(4097,), (12288,), (8195,), (3, 4099), (33, 500), (2, 3, 41, 47)]


def draw(shape, count, seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    return [fd.from_numpy(rng.standard_normal(shape).astype(dtype)) for _ in range(count)]


def compare(function, make, calls=4):
    """The captured function, after its results were compared with the function's over some calls."""
    step = fd.capture(function)
    for i in range(calls):
        inputs = make(i)
        fd.manual_seed(i)
        want = function(*inputs)
        fd.manual_seed(i)
        got = step(*inputs)
        assert got.numpy().tobytes() == want.numpy().tobytes() and got.data.strides == want.data.strides
    return step


def calls_of(step):
    return [row.call for row in step.explain().rows]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_a_chain_is_one_call(shape, threads):
    before = fd.get_num_threads()
    try:
        fd.set_num_threads(threads)
        step = compare(lambda x, y: (x * 2 + 1) * y - x, lambda i: draw(shape, 2, i))
    finally:
        fd.set_num_threads(before)
    (row,) = step.explain().rows
    assert row.call == "multiply add multiply subtract"
    bytes_of_one = 4 * np.prod(shape)
    assert row.bytes == 3 * bytes_of_one + 2 * 4  # x, y, the result and two numbers, but no intermediates
    assert step.explain().memory <= bytes_of_one + 64


def test_short_arrays_stay_calls_of_their_own():
    assert calls_of(compare(lambda x: x * 2 + 1, lambda i: draw((64, 64), 1, i))) == ["multiply", "add"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_kind_of_element_wise_call(dtype):
    def function(x, y):
        z = F.gelu(F.tanh(x) * 3) + F.softplus(y) + F.elu(x, 0.5) + F.leaky_relu(-y)
        z = fd.where(z > x, z.exp(), (y.abs() + 1).log()) + (x**2).sqrt() + x.clamp(-0.5, 0.75)
        return F.sigmoid(z) * fd.maximum(x, y) / fd.minimum(x, y) + F.relu(z) + x**1.7

    step = compare(function, lambda i: draw((5, 3001), 2, i, dtype))
    assert len(calls_of(step)) == 1


@pytest.mark.parametrize("shape", [(40, 333), (40, 332), (7, 5000)], ids=str)
def test_operands_that_are_broadcast(shape):
    def function(x, row, column):
        return ((x + row) * column - row).exp() * 0.5 + column

    def make(i):
        return draw(shape, 1, i) + draw(shape[1:], 1, i + 9) + draw((shape[0], 1), 1, i + 99)

    long_rows = shape[1] > 4096
    assert (len(calls_of(compare(function, make))) == 1) != long_rows


@pytest.mark.parametrize("shape", [(4096 * 3 + 2,), (64, 100), (30, 333)], ids=str)
def test_dropout_joins(shape):
    def function(x, y):
        return F.dropout(F.relu(x * y), 0.3) * 2 - F.dropout(y, 0.1)

    assert len(calls_of(compare(function, lambda i: draw(shape, 2, i)))) == 1


def test_gradients_of_a_chain():
    w = fd.randn(50, 200, requires_grad=True)

    def function(x):
        w.grad = None
        (F.tanh(x * w + 1) * w).sum().backward()
        return w.grad * 1

    step = compare(function, lambda i: draw((50, 200), 1, i))
    assert len(calls_of(step)) < 10


@pytest.mark.parametrize("layout", [(0, 2, 3, 1), (0, 1, 2, 3), (3, 1, 0, 2)])
def test_any_memory_order(layout):
    def function(x, y):
        return (x * 2 - y) * x

    def make(i):
        return [t.permute(*np.argsort(layout)) for t in draw((8, 16, 9, 11), 2, i)]

    assert len(calls_of(compare(function, make))) == 1


def test_a_value_that_is_read_in_another_order_ends_the_chain():
    def function(x):
        y = x * 2 + 1
        return y.T * 3 + y

    step = compare(function, lambda i: draw((80, 80), 1, i))
    assert calls_of(step) == ["multiply add multiply", "add"]


def test_a_value_that_is_read_shifted_ends_the_chain():
    def function(x):
        y = x * 2
        z = y[:-1] * 3 + y[1:]
        return z * z

    step = compare(function, lambda i: draw((9000,), 1, i))
    assert len(calls_of(step)) == 2


def test_changes_in_place_keep_their_order():
    state = fd.zeros(10000)

    def function(x):
        before = state * 2
        state.mul_(0.5)
        state.add_(x)
        shifted = state[1:] * 2
        state[1:].add_(x[:-1])
        return (before + state)[1:] + shifted

    step = fd.capture(function)
    for i in range(5):
        (x,) = draw((10000,), 1, i)
        saved = state.numpy().copy()
        want = function(x).numpy().tobytes(), state.numpy().tobytes()
        state.data[...] = saved
        assert (step(x).numpy().tobytes(), state.numpy().tobytes()) == want


def test_powers_with_an_exponent_for_each_element_stay_alone():
    step = compare(lambda x, y: ((x * x + 1) ** y) * 2, lambda i: draw((70, 70), 2, i))
    assert calls_of(step) == ["multiply add", "power", "multiply"]


def test_a_result_that_is_also_an_intermediate_is_kept():
    def function(x):
        y = x * 2
        return y, y + 1, (y + 1) * y

    step = fd.capture(function)
    for i in range(4):
        (x,) = draw((5000,), 1, i)
        for got, want in zip(step(x), function(x)):
            assert got.numpy().tobytes() == want.numpy().tobytes()
    assert calls_of(step) == ["multiply add add multiply"]


UNARY = [lambda a: a * 1.25, lambda a: a + 0.5, F.tanh, F.relu, lambda a: a.abs(), lambda a: -a,
         lambda a: a.exp() * 0.1, lambda a: F.dropout(a, 0.25)]  # fmt: skip
BINARY = [lambda a, b: a + b, lambda a, b: a * b, lambda a, b: a - b, fd.maximum, lambda a, b: fd.where(a > b, a, b)]


@pytest.mark.parametrize("seed", range(24))
def test_random_expressions(seed):
    """Of arrays, rows, columns, slices and transposes, changes in place among them."""
    shape = [(90, 90), (4, 33, 40), (5, 4, 20, 20)][seed % 3]

    def function(*inputs):
        rng = np.random.default_rng(seed)
        values = [x * 1 for x in inputs[:2]] + list(inputs[2:])
        for _ in range(int(rng.integers(4, 25))):
            a, b = (values[i] for i in rng.integers(0, len(values), 2))
            kind = rng.integers(0, 10)
            if kind < 3:
                values.append(UNARY[rng.integers(len(UNARY))](a))
            elif kind < 7:
                values.append(BINARY[rng.integers(len(BINARY))](a, b))
            elif kind == 7 and a.shape == shape:
                values.append((a[1:] * a[:-1]).mean(0, keepdim=True))
            elif kind == 9 and rng.random() < 0.5:
                values[int(rng.integers(2))].mul_(0.75)
            elif kind == 8 and a.ndim == len(shape) and a.shape[-1] == a.shape[-2]:
                values.append(a.transpose(-1, -2) + a)
            elif a.ndim == len(shape):
                values.append(a[: a.shape[0] // 2 + 1].mean(0, keepdim=True))
        total = values[-1]
        for value in values[:-1]:
            total = total + value
        return total

    def make(i):
        return draw(shape, 2, i) + draw(shape[1:], 1, i + 50) + draw((shape[0],) + (1,) * (len(shape) - 1), 1, i + 90)

    compare(function, make)
