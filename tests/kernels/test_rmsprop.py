"""RMSProp: worked values, ten steps over a grid of options against PyTorch and the reference, bad input."""

import itertools
import re

import numpy as np
import pytest

from stepping import SIZES, arrays, layout_errors, steps
from tolerances import assert_close

FLOATS = ("float32", "float64")
# centered, weight_decay, momentum
GRID = [*itertools.product((False, True), (0.0, 0.01), (0.0, 0.9))]
OVER_GRID = pytest.mark.parametrize("options", GRID, ids=str)


def stepper(backend, options):
    _, weight_decay, momentum = options

    def step(param, grad, state, i):
        return backend.rmsprop_step(param, grad, *state, 0.01, 0.9, 1e-8, weight_decay, momentum)

    return step


def states(options):
    return [True, options[0], options[2] != 0]


@pytest.mark.parametrize("dtype", FLOATS)
def test_worked_values(backend, dtype):
    param, grad = np.array([1, -2], dtype), np.array([2, 4], dtype)
    square_avg = np.zeros(2, dtype)
    backend.rmsprop_step(param, grad, square_avg, None, None, 0.5, 0.75, 1.0, 0.0, 0.0)
    assert_close(square_avg, np.array([1, 4], dtype), "rmsprop")  # g**2 / 4
    assert_close(param, np.array([0.5, -2 - 2 / 3], dtype), "rmsprop")  # lr * (2 / (1 + 1), 4 / (2 + 1))
    param, square_avg, buf = np.array([1, -2], dtype), np.zeros(2, dtype), np.ones(2, dtype)
    backend.rmsprop_step(param, grad, square_avg, None, buf, 0.5, 0.75, 1.0, 0.0, 0.5)
    assert_close(buf, np.array([1.5, 0.5 + 4 / 3], dtype), "rmsprop")
    assert_close(param, np.array([1, -2], dtype) - dtype_of(dtype)(0.5) * buf, "rmsprop")
    param, square_avg, grad_avg = np.array([1, -2], dtype), np.array([4, 16], dtype), np.zeros(2, dtype)
    backend.rmsprop_step(param, grad, square_avg, grad_avg, None, 0.5, 0.5, 0.0, 0.0, 0.0)
    assert_close(grad_avg, np.array([1, 2], dtype), "rmsprop")  # square_avg stays (4, 16): variance (3, 12)
    assert_close(param, np.array([1 - 1 / 3**0.5, -2 - 2 / 12**0.5], dtype), "rmsprop")
    param, square_avg = np.array([1, -2], dtype), np.zeros(2, dtype)
    backend.rmsprop_step(param, grad, square_avg, None, None, 1.0, 0.0, 0.0, 2.0, 0.0)
    assert_close(square_avg, np.array([16, 0], dtype), "rmsprop")  # g = grad + 2 param = (4, 0)
    assert param[0] == 0 and np.isnan(param[1])  # 0 / 0, as in PyTorch


def dtype_of(name):
    return np.dtype(name).type


@OVER_GRID
@pytest.mark.parametrize("dtype", FLOATS)
def test_against_torch(reference, dtype, options):
    torch = pytest.importorskip("torch")
    centered, weight_decay, momentum = options
    got = steps(stepper(reference, options), 17, dtype, states(options))
    param = torch.tensor(arrays(17, dtype, 1)[0], requires_grad=True)
    optimizer = torch.optim.RMSprop([param], 0.01, 0.9, 1e-8, weight_decay, momentum, centered)
    for i in range(10):
        param.grad = torch.tensor(arrays(17, dtype, 1, seed=i + 1)[0])
        optimizer.step()
    state = optimizer.state[param]
    want = [param.detach(), *(state[k] for k in ("square_avg", "grad_avg", "momentum_buffer") if k in state)]
    for x, y in zip(got, want, strict=True):
        assert_close(x, y.numpy(), "rmsprop", scale=4)


@OVER_GRID
@pytest.mark.parametrize("dtype", FLOATS)
def test_ten_steps(backend, reference, dtype, options):
    for n in SIZES:
        got, want = (steps(stepper(b, options), n, dtype, states(options)) for b in (backend, reference))
        for x, y in zip(got, want):
            # the centered variance is a difference of nearly equal numbers in the first steps
            assert_close(x, y, "rmsprop", scale=64 if options[0] else 4)


@pytest.mark.parametrize("dtype", FLOATS)
def test_instruction_sets(cpu, reference, isa, dtype):
    for options, n in itertools.product(GRID, (1, 15, 33, 257)):
        got, want = (steps(stepper(b, options), n, dtype, states(options), 3) for b in (cpu, reference))
        for x, y in zip(got, want):
            assert_close(x, y, "rmsprop", scale=64 if options[0] else 4)


def test_threads_do_not_change_bits(cpu, threads):
    from fastdl import _cpu

    got = [x.tobytes() for x in steps(stepper(cpu, GRID[-1]), 300_007, "float32", [True] * 3, 2)]
    _cpu.set_num_threads(1)
    assert got == [x.tobytes() for x in steps(stepper(cpu, GRID[-1]), 300_007, "float32", [True] * 3, 2)]


@pytest.mark.parametrize("dtype", FLOATS)
def test_centered_variance_never_goes_negative(backend, dtype):
    """A constant gradient: square_avg and grad_avg**2 agree but for rounding, and the root must not see the
    sign.
    """
    param, square_avg, grad_avg = np.zeros(257, dtype), np.zeros(257, dtype), np.zeros(257, dtype)
    grad = np.linspace(0.1, 3.0, 257).astype(dtype)
    for _ in range(200):
        backend.rmsprop_step(param, grad, square_avg, grad_avg, None, 0.01, 0.5, 1e-3, 0.0, 0.0)
    assert np.isfinite(param).all()
    assert (square_avg < grad_avg * grad_avg).any(), "the case does not occur: the test proves nothing"


def test_nan_gradients_show(backend):
    for centered in (False, True):
        arrays_ = [np.zeros(20, "float32") for _ in range(3)]
        grad = np.full(20, np.nan, "float32")
        backend.rmsprop_step(
            arrays_[0], grad, arrays_[1], arrays_[2] if centered else None, None, 0.01, 0.9, 1e-8, 0.0, 0.0
        )
        assert np.isnan(arrays_[0]).all()


OPTIONS = (0.01, 0.9, 1e-8, 0.0, 0.9)


@pytest.mark.parametrize("name", ["param", "grad", "square_avg", "grad_avg", "buf"])
def test_bad_arrays(backend, name):
    def call(x):
        given = dict(zip(("param", "grad", "square_avg", "grad_avg", "buf"), arrays(6, "float32", 5)))
        given[name] = x
        backend.rmsprop_step(*given.values(), *OPTIONS)

    for run, error, message in layout_errors("rmsprop_step", name, call):
        if name == "grad_avg" and "NoneType" in message:
            continue
        with pytest.raises(error, match="^" + re.escape(message) + "$"):
            run()


@pytest.mark.parametrize(
    "position, value, message",
    [
        (0, np.nan, "lr must be finite, got nan"),
        (1, np.nan, "alpha must be finite, got nan"),
        (1, -0.5, "alpha must be in [0, 1], got -0.5"),
        (1, 1.5, "alpha must be in [0, 1], got 1.5"),
        (2, np.nan, "eps must be finite, got nan"),
        (2, -1e-8, "eps must be at least 0, got -1e-08"),
        (3, np.inf, "weight_decay must be finite, got inf"),
        (3, -1.0, "weight_decay must be at least 0, got -1"),
        (4, np.nan, "momentum must be finite, got nan"),
        (4, -0.5, "momentum must be at least 0, got -0.5"),
    ],
)
def test_bad_numbers(backend, position, value, message):
    options = [*OPTIONS]
    options[position] = value
    given = arrays(6, "float32", 5)
    before = [x.copy() for x in given]
    with pytest.raises(ValueError, match="^" + re.escape("rmsprop_step: " + message) + "$"):
        backend.rmsprop_step(*given, *options)
    assert all((x == y).all() for x, y in zip(given, before)), "a refused call altered its arrays"


def test_overlap_is_refused(backend):
    param, grad, square_avg = arrays(6, "float32", 3)
    form = "^rmsprop_step: buf must not share memory with square_avg, got arrays that overlap$"
    with pytest.raises(ValueError, match=form):
        backend.rmsprop_step(param, grad, square_avg, None, square_avg, *OPTIONS)
