"""Adam and AdamW: worked values, ten steps over a grid of options against PyTorch and the reference, bad
input.
"""

import itertools
import re

import numpy as np
import pytest

from stepping import SIZES, arrays, layout_errors, steps
from tolerances import assert_close

FLOATS = ("float32", "float64")
# amsgrad, weight_decay, decoupled
GRID = [*itertools.product((False, True), (0.0, 0.01), (False, True))]
OVER_GRID = pytest.mark.parametrize("options", GRID, ids=str)


def stepper(backend, options):
    _, weight_decay, decoupled = options

    def step(param, grad, state, i):
        return backend.adam_step(param, grad, *state, 0.01, 0.9, 0.99, 1e-8, weight_decay, i + 1, decoupled)

    return step


def states(options):
    return [True, True, options[0]]


@pytest.mark.parametrize("dtype", FLOATS)
def test_worked_values(backend, dtype):
    param, grad = np.array([1, -2], dtype), np.array([2, -4], dtype)
    m, v = np.zeros(2, dtype), np.zeros(2, dtype)
    backend.adam_step(param, grad, m, v, None, 0.5, 0.5, 0.75, 0.0, 0.0, 1, False)
    assert_close(m, np.array([1, -2], dtype), "adam")
    assert_close(v, np.array([1, 4], dtype), "adam")
    assert_close(param, np.array([0.5, -1.5], dtype), "adam")  # the first step is lr * sign(g)
    backend.adam_step(param, -grad, m, v, None, 0.5, 0.5, 0.75, 1.0, 0.0, 2, False)
    assert_close(m, np.array([-0.5, 1], dtype), "adam")
    assert_close(v, np.array([1.75, 7], dtype), "adam")
    root = np.sqrt(np.array([1.75, 7]) / (1 - 0.75**2))
    assert_close(param, (np.array([0.5, -1.5]) - 0.5 / 0.75 * np.array([-0.5, 1]) / (root + 1)).astype(dtype), "adam")
    # weight decay in the gradient: g = 2 + 2 * 1; decoupled: param * (1 - 0.5 * 0.5) first, g untouched
    param, m, v = np.ones(1, dtype), np.zeros(1, dtype), np.zeros(1, dtype)
    backend.adam_step(param, grad[:1].copy(), m, v, None, 0.5, 0.5, 0.75, 0.0, 2.0, 1, False)
    assert (m[0], v[0], param[0]) == (2, 4, 0.5)
    param, m, v = np.ones(1, dtype), np.zeros(1, dtype), np.zeros(1, dtype)
    backend.adam_step(param, grad[:1].copy(), m, v, None, 0.5, 0.5, 0.75, 0.0, 0.5, 1, True)
    assert (m[0], v[0], param[0]) == (1, 1, 0.25)
    # amsgrad divides by the largest v so far
    param, m, v, w = np.ones(1, dtype), np.zeros(1, dtype), np.zeros(1, dtype), np.full(1, 16, dtype)
    backend.adam_step(param, grad[:1].copy(), m, v, w, 0.5, 0.5, 0.75, 0.0, 0.0, 1, False)
    assert (v[0], w[0], param[0]) == (1, 16, 1 - 0.5 * 2 / 8)


@OVER_GRID
@pytest.mark.parametrize("dtype", FLOATS)
def test_against_torch(reference, dtype, options):
    torch = pytest.importorskip("torch")
    amsgrad, weight_decay, decoupled = options
    got = steps(stepper(reference, options), 17, dtype, states(options))
    param = torch.tensor(arrays(17, dtype, 1)[0], requires_grad=True)
    kind = torch.optim.AdamW if decoupled else torch.optim.Adam
    optimizer = kind([param], 0.01, (0.9, 0.99), 1e-8, weight_decay, amsgrad)
    for i in range(10):
        param.grad = torch.tensor(arrays(17, dtype, 1, seed=i + 1)[0])
        optimizer.step()
    state = optimizer.state[param]
    want = [param.detach(), *(state[k] for k in ("exp_avg", "exp_avg_sq", "max_exp_avg_sq") if k in state)]
    for x, y in zip(got, want, strict=True):
        assert_close(x, y.numpy(), "adam")


@OVER_GRID
@pytest.mark.parametrize("dtype", FLOATS)
def test_ten_steps(backend, reference, dtype, options):
    for n in SIZES:
        got, want = (steps(stepper(b, options), n, dtype, states(options)) for b in (backend, reference))
        for x, y in zip(got, want):
            assert_close(x, y, "adam")


@pytest.mark.parametrize("dtype", FLOATS)
def test_instruction_sets(cpu, reference, isa, dtype):
    for options, n in itertools.product(GRID, (1, 15, 33, 257)):
        got, want = (steps(stepper(b, options), n, dtype, states(options), 3) for b in (cpu, reference))
        for x, y in zip(got, want):
            assert_close(x, y, "adam")


def test_threads_do_not_change_bits(cpu, threads):
    from fastdl import _cpu

    got = [x.tobytes() for x in steps(stepper(cpu, GRID[-1]), 300_007, "float32", [True] * 3, 2)]
    _cpu.set_num_threads(1)
    assert got == [x.tobytes() for x in steps(stepper(cpu, GRID[-1]), 300_007, "float32", [True] * 3, 2)]


def test_a_late_step_needs_no_correction(backend):
    param, grad, m, v = arrays(33, "float64", 4)
    v = abs(v)
    want = param - 0.1 * (0.9 * m + 0.1 * grad) / (np.sqrt(0.99 * v + 0.01 * grad**2) + 1e-8)
    backend.adam_step(param, grad, m, v, None, 0.1, 0.9, 0.99, 1e-8, 0.0, 10**6, False)
    assert_close(param, want, "adam")


def test_nan_gradients_show(backend):
    for amsgrad in (False, True):
        param, m, v, w = (np.zeros(20, "float32") for _ in range(4))
        grad = np.full(20, np.nan, "float32")
        backend.adam_step(param, grad, m, v, w if amsgrad else None, 0.1, 0.9, 0.99, 1e-8, 0.0, 1, False)
        assert np.isnan(param).all() and (not amsgrad or np.isnan(w).all())


NAMES = ("param", "grad", "exp_avg", "exp_avg_sq", "max_exp_avg_sq")
OPTIONS = (0.01, 0.9, 0.999, 1e-8, 0.0, 1, False)


@pytest.mark.parametrize("name", NAMES)
def test_bad_arrays(backend, name):
    def call(x):
        given = dict(zip(NAMES, arrays(6, "float32", 5)))
        given[name] = x
        backend.adam_step(*given.values(), *OPTIONS)

    for run, error, message in layout_errors("adam_step", name, call):
        if name == "max_exp_avg_sq" and "NoneType" in message:
            continue
        with pytest.raises(error, match="^" + re.escape(message) + "$"):
            run()


@pytest.mark.parametrize(
    "position, value, message",
    [
        (0, np.nan, "lr must be finite, got nan"),
        (1, np.nan, "beta1 must be finite, got nan"),
        (1, 1.0, "beta1 must be in [0, 1), got 1"),
        (1, -0.1, "beta1 must be in [0, 1), got -0.1"),
        (2, np.nan, "beta2 must be finite, got nan"),
        (2, 1.0, "beta2 must be in [0, 1), got 1"),
        (3, np.nan, "eps must be finite, got nan"),
        (3, -1e-8, "eps must be at least 0, got -1e-08"),
        (4, np.nan, "weight_decay must be finite, got nan"),
        (4, -1.0, "weight_decay must be at least 0, got -1"),
        (5, 0, "step must be at least 1, got 0"),
    ],
)
def test_bad_numbers(backend, position, value, message):
    options = [*OPTIONS]
    options[position] = value
    given = arrays(6, "float32", 5)
    before = [x.copy() for x in given]
    with pytest.raises(ValueError, match="^" + re.escape("adam_step: " + message) + "$"):
        backend.adam_step(*given, *options)
    assert all((x == y).all() for x, y in zip(given, before)), "a refused call altered its arrays"


def test_overlap_is_refused(backend):
    param, grad, m, v = arrays(6, "float32", 4)
    with pytest.raises(ValueError, match="^adam_step: exp_avg_sq must not share memory with exp_avg, got arrays"):
        backend.adam_step(param, grad, m, m, None, *OPTIONS)
    with pytest.raises(ValueError, match="^adam_step: max_exp_avg_sq must not share memory with param, got arrays"):
        backend.adam_step(param, grad, m, v, param, *OPTIONS)
