"""Activations: worked values, finite differences, PyTorch, sizes, layouts, extremes, bad input."""

import math
import re

import numpy as np
import pytest

from differences import assert_gradient
from layouts import layouts, unchanged
from tolerances import assert_close

FLOATS = ("float32", "float64")
nan, inf = math.nan, math.inf

# kernel, parameters, whether backward takes y (else x), the torch function
CASES = {
    "relu": ("relu", (), True, lambda f, x: f.relu(x)),
    "leaky_relu": ("leaky_relu", (0.1,), False, lambda f, x: f.leaky_relu(x, 0.1)),
    "leaky_relu-negative": ("leaky_relu", (-2.0,), False, lambda f, x: f.leaky_relu(x, -2.0)),
    "sigmoid": ("sigmoid", (), True, lambda f, x: f.sigmoid(x)),
    "tanh": ("tanh", (), True, lambda f, x: f.tanh(x)),
    "softplus": ("softplus", (1.0, 20.0), False, lambda f, x: f.softplus(x)),
    "softplus-2-3": ("softplus", (2.0, 3.0), False, lambda f, x: f.softplus(x, 2.0, 3.0)),
    "elu": ("elu", (1.0,), False, lambda f, x: f.elu(x)),
    "elu-0.3": ("elu", (0.3,), False, lambda f, x: f.elu(x, 0.3)),
    "gelu": ("gelu", ("none",), False, lambda f, x: f.gelu(x)),
    "gelu-tanh": ("gelu", ("tanh",), False, lambda f, x: f.gelu(x, approximate="tanh")),
}
# case: ((x, y), ...) worked by hand or taken from tables of the function
WORKED = {
    "relu": ((-2, 0), (0, 0), (3, 3), (-inf, 0), (inf, inf), (nan, nan), (1e4, 1e4), (-1e-30, 0)),
    "leaky_relu": ((-2, -0.2), (0, 0), (3, 3), (-inf, -inf), (inf, inf), (nan, nan)),
    "leaky_relu-negative": ((-2, 4), (0, 0), (3, 3), (-inf, inf), (nan, nan)),
    "sigmoid": ((0, 0.5), (math.log(3), 0.75), (-math.log(3), 0.25), (1e4, 1), (-1e4, 0), (inf, 1), (-inf, 0),
                (nan, nan)),
    "tanh": ((0, 0), (math.log(2), 0.6), (-math.log(2), -0.6), (1e4, 1), (-1e4, -1), (inf, 1), (-inf, -1),
             (nan, nan)),
    "softplus": ((0, math.log(2)), (21, 21), (math.log(3), math.log(4)), (-1e4, 0), (1e4, 1e4), (inf, inf),
                 (-inf, 0), (nan, nan)),
    "softplus-2-3": ((0, math.log(2) / 2), (1.6, 1.6), (math.log(3), math.log(10) / 2), (-inf, 0),
                     (nan, nan)),
    "elu": ((0, 0), (2, 2), (-math.log(2), -0.5), (-1e4, -1), (-inf, -1), (inf, inf), (nan, nan),
            (-1e-6, -9.999995e-7)),
    "elu-0.3": ((0, 0), (2, 2), (-math.log(2), -0.15), (-inf, -0.3), (nan, nan)),
    "gelu": ((0, 0), (1, 0.8413447460685429), (-1, -0.15865525393145707), (1e4, 1e4), (-1e4, 0), (inf, inf),
             (nan, nan)),
    "gelu-tanh": ((0, 0), (1, 0.8411919906082768), (-1, -0.15880800939172324), (1e4, 1e4), (-1e4, 0),
                  (inf, inf), (nan, nan)),
}  # fmt: skip
SIZES = (0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 257)
SHAPES = ((), (0, 3), (1, 1), (13, 17), (2, 3, 4, 5), (3, 16, 2, 7), (1, 2, 1, 3, 1, 2))
LARGE = (100, 700)  # enough for several threads


def values(shape, dtype, seed):
    return np.asarray(3 * np.random.default_rng(seed).standard_normal(shape), dtype)


def forward(backend, case, x):
    kernel, parameters, _, _ = CASES[case]
    return getattr(backend, f"{kernel}_forward")(x, *parameters)


def backward(backend, case, dy, x, y):
    kernel, parameters, takes_y, _ = CASES[case]
    return getattr(backend, f"{kernel}_backward")(dy, y if takes_y else x, *parameters)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("case", CASES)
def test_worked_values(backend, case, dtype):
    x, want = (np.array(column, dtype) for column in zip(*WORKED[case]))
    assert_close(forward(backend, case, x), want, "activation")
    for i in range(len(x)):  # alone, in the tail of a vector loop
        assert_close(forward(backend, case, x[i : i + 1]), want[i : i + 1], "activation")
    assert_close(forward(backend, case, np.repeat(x, 41)), np.repeat(want, 41), "activation")


@pytest.mark.parametrize("case", CASES)
def test_finite_differences(reference, case):
    x, dy = values((5, 7), "float64", 1), values((5, 7), "float64", 2)
    got = backward(reference, case, dy, x, forward(reference, case, x))
    assert_gradient(got, lambda x: forward(reference, case, x), x, dy)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("case", CASES)
def test_against_torch(reference, case, dtype):
    torch = pytest.importorskip("torch")
    x, dy = values((13, 17), dtype, 1), values((13, 17), dtype, 2)
    x[0, :9] = 0, -0.0, nan, inf, 1e4, -1e4, 30, -30, 1e-30
    if case.startswith("gelu"):
        x[0, 3] = 1  # PyTorch's vector and scalar code differ at infinity
    tx = torch.tensor(x, requires_grad=True)
    ty = CASES[case][3](torch.nn.functional, tx)
    ty.backward(torch.tensor(dy))
    y = forward(reference, case, x)
    assert_close(y, ty.detach().numpy(), "activation")
    assert_close(backward(reference, case, dy, x, y), tx.grad.numpy(), "activation", scale=4)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("case", CASES)
def test_sizes_and_shapes(backend, reference, case, dtype):
    for shape in (*SIZES, *SHAPES, LARGE):
        if case == "gelu" and shape == LARGE:
            continue  # the reference takes erfc one by one
        x, dy = values(shape, dtype, 1), values(shape, dtype, 2)
        want = forward(reference, case, x)
        with unchanged(x, dy):
            y = forward(backend, case, x)
            dx = backward(backend, case, dy, x, want)
        assert_close(y, want, "activation")
        assert_close(dx, backward(reference, case, dy, x, want), "activation", scale=8)


@pytest.mark.parametrize("shape", [(6,), (3, 5), (2, 3, 4, 5)], ids=str)
@pytest.mark.parametrize("case", CASES)
def test_layouts(backend, reference, case, shape):
    x, dy = values(shape, "float32", 1), values(shape, "float32", 2)
    y = forward(reference, case, x)
    dx = backward(reference, case, dy, x, y)
    for view in layouts(x).values():
        with unchanged(view):
            assert_close(forward(backend, case, view), y, "activation")
    for dy_view in layouts(dy).values():
        for x_view, y_view in zip(layouts(x).values(), layouts(y).values()):
            with unchanged(dy_view, x_view, y_view):
                assert_close(backward(backend, case, dy_view, x_view, y_view), dx, "activation", scale=8)


def test_memory_order_of_the_result(cpu):
    """Channels-last in, channels-last out: the next layer must not have to convert."""
    x = np.moveaxis(values((2, 4, 5, 3), "float32", 1), -1, 1)
    for case in CASES:
        y = forward(cpu, case, x)
        assert y.strides == x.strides, case
        assert backward(cpu, case, x, x, y).strides == x.strides, case
        # A gradient in another order is brought into that of x.
        assert backward(cpu, case, np.ascontiguousarray(x), x, y).strides == x.strides, case


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("case", CASES)
def test_backward_at_extremes(backend, reference, case, dtype):
    x = np.array([0, nan, inf, -inf, 1e4, -1e4, 88, -88, 30, -30, 1e-30, -1e-30], dtype)
    dy = np.full_like(x, 1.5)
    y = forward(reference, case, x)
    for i in (0, 1):
        assert_close(
            backward(backend, case, np.repeat(dy, 1 + 40 * i), np.repeat(x, 1 + 40 * i), np.repeat(y, 1 + 40 * i)),
            np.repeat(backward(reference, case, dy, x, y), 1 + 40 * i),
            "activation",
        )


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("case", CASES)
def test_instruction_sets(cpu, reference, isa, case, dtype):
    for n in (1, 3, 15, 16, 17, 33, 129, 500):
        x, dy = values(n, dtype, 1), values(n, dtype, 2)
        y = forward(reference, case, x)
        assert_close(forward(cpu, case, x), y, "activation")
        assert_close(backward(cpu, case, dy, x, y), backward(reference, case, dy, x, y), "activation", scale=8)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("case", CASES)
def test_extremes_on_every_instruction_set(cpu, reference, isa, case, dtype):
    test_worked_values(cpu, case, dtype)
    test_backward_at_extremes(cpu, reference, case, dtype)


def test_threads_do_not_change_bits(cpu, threads):
    from fastdl import _cpu

    x, dy = values((301, 307), "float32", 1), values((301, 307), "float32", 2)

    def run():
        results = [(forward(cpu, case, x), backward(cpu, case, dy, x, x)) for case in CASES]
        return [array.tobytes() for pair in results for array in pair]

    got = run()
    _cpu.set_num_threads(1)
    assert got == run()


x4, x8 = np.zeros(3, "float32"), np.zeros(3, "float64")
INVALID = (
    ("relu_forward", ([1.0],), TypeError, "relu_forward: x must be a NumPy array, got list"),
    ("relu_forward", (np.zeros(3, "int64"),), TypeError,
     "relu_forward: x must be float32 or float64, got int64"),
    ("tanh_forward", (None,), TypeError, "tanh_forward: x must be a NumPy array, got NoneType"),
    ("sigmoid_forward", (np.zeros(3, bool),), TypeError,
     "sigmoid_forward: x must be float32 or float64, got bool"),
    ("relu_backward", (x8, x4), TypeError, "relu_backward: dy must be float32 like y, got float64"),
    ("relu_backward", (x4, 3), TypeError, "relu_backward: y must be a NumPy array, got int"),
    ("relu_backward", (x4[:2], x4), ValueError, "relu_backward: dy must have shape (3,), got (2,)"),
    ("sigmoid_backward", (None, x4), TypeError, "sigmoid_backward: dy must be a NumPy array, got NoneType"),
    ("tanh_backward", (x4.reshape(1, 3), x4), ValueError,
     "tanh_backward: dy must have shape (3,), got (1, 3)"),
    ("leaky_relu_forward", (x4, nan), ValueError,
     "leaky_relu_forward: negative_slope must be finite, got nan"),
    ("leaky_relu_backward", (x4, x4, inf), ValueError,
     "leaky_relu_backward: negative_slope must be finite, got inf"),
    ("leaky_relu_backward", (x8, x4, 0.1), TypeError,
     "leaky_relu_backward: dy must be float32 like x, got float64"),
    ("softplus_forward", (x4, 0.0, 20.0), ValueError, "softplus_forward: beta must be positive, got 0"),
    ("softplus_forward", (x4, nan, 20.0), ValueError, "softplus_forward: beta must be finite, got nan"),
    ("softplus_forward", (x4, 1.0, nan), ValueError, "softplus_forward: threshold must be finite, got nan"),
    ("softplus_backward", (x4, x4, -1.5, 20.0), ValueError,
     "softplus_backward: beta must be positive, got -1.5"),
    ("elu_forward", (x4, nan), ValueError, "elu_forward: alpha must be finite, got nan"),
    ("elu_backward", (x4, x4, -inf), ValueError, "elu_backward: alpha must be finite, got -inf"),
    ("gelu_forward", (x4, "fast"), ValueError,
     "gelu_forward: approximate must be one of 'none', 'tanh', got 'fast'"),
    ("gelu_backward", (x4, x4, ""), ValueError,
     "gelu_backward: approximate must be one of 'none', 'tanh', got ''"),
)  # fmt: skip


@pytest.mark.parametrize("kernel, args, error, message", INVALID)
def test_invalid(backend, kernel, args, error, message):
    with pytest.raises(error, match="^" + re.escape(message) + "$"):
        getattr(backend, kernel)(*args)
