"""SGD: worked values, ten steps over a grid of options against PyTorch and the reference, bad input."""

import itertools
import re

import numpy as np
import pytest

from stepping import SIZES, arrays, layout_errors, steps
from tolerances import assert_close

FLOATS = ("float32", "float64")
# momentum, dampening, weight_decay, nesterov
GRID = [
    (m, d, w, n)
    for m, d, w, n in itertools.product((0.0, 0.9), (0.0, 0.3), (0.0, 0.01), (False, True))
    if not (n and (m == 0 or d))
]
OVER_GRID = pytest.mark.parametrize("options", GRID, ids=str)


def stepper(backend, options):
    momentum, dampening, weight_decay, nesterov = options

    def step(param, grad, state, i):
        return backend.sgd_step(param, grad, state[0], 0.1, momentum, dampening, weight_decay, nesterov, i + 1)

    return step


@pytest.mark.parametrize("dtype", FLOATS)
def test_worked_values(backend, dtype):
    param, grad = np.array([1, -2], dtype), np.array([0.5, 1], dtype)
    backend.sgd_step(param, grad, None, 0.1, 0.0, 0.0, 0.5, False, 1)
    assert_close(param, np.array([0.9, -2], dtype), "sgd")  # g = (1, 0)
    buf = np.array([np.nan, np.nan], dtype)  # the first step must not read it
    backend.sgd_step(param, grad, buf, 0.1, 0.5, 0.25, 0.0, False, 1)
    assert_close(buf, grad, "sgd")
    assert_close(param, np.array([0.85, -2.1], dtype), "sgd")
    backend.sgd_step(param, grad, buf, 0.1, 0.5, 0.2, 0.0, False, 2)
    assert_close(buf, np.array([0.65, 1.3], dtype), "sgd")  # 0.5 * g + 0.8 * g
    assert_close(param, np.array([0.785, -2.23], dtype), "sgd")
    backend.sgd_step(param, grad, buf, 0.1, 0.5, 0.0, 0.0, True, 2)
    assert_close(buf, np.array([0.825, 1.65], dtype), "sgd")
    assert_close(param, np.array([0.785 - 0.09125, -2.23 - 0.1825], dtype), "sgd")  # g + 0.5 * buf


@OVER_GRID
@pytest.mark.parametrize("dtype", FLOATS)
def test_against_torch(reference, dtype, options):
    torch = pytest.importorskip("torch")
    got = steps(stepper(reference, options), 17, dtype, [options[0] != 0])
    param = torch.tensor(arrays(17, dtype, 1)[0], requires_grad=True)
    optimizer = torch.optim.SGD([param], 0.1, options[0], options[1], options[2], options[3])
    for i in range(10):
        param.grad = torch.tensor(arrays(17, dtype, 1, seed=i + 1)[0])
        optimizer.step()
    assert_close(got[0], param.detach().numpy(), "sgd", scale=4)
    if options[0]:
        assert_close(got[1], optimizer.state[param]["momentum_buffer"].numpy(), "sgd", scale=4)


@OVER_GRID
@pytest.mark.parametrize("dtype", FLOATS)
def test_ten_steps(backend, reference, dtype, options):
    for n in SIZES:
        state = [options[0] != 0]
        got, want = (steps(stepper(b, options), n, dtype, state) for b in (backend, reference))
        for x, y in zip(got, want):
            assert_close(x, y, "sgd", scale=4)


@pytest.mark.parametrize("dtype", FLOATS)
def test_instruction_sets(cpu, reference, isa, dtype):
    for options, n in itertools.product(GRID, (1, 15, 33, 257)):
        got, want = (steps(stepper(b, options), n, dtype, [options[0] != 0], 3) for b in (cpu, reference))
        for x, y in zip(got, want):
            assert_close(x, y, "sgd", scale=4)


def test_threads_do_not_change_bits(cpu, threads):
    from fastdl import _cpu

    got = [x.tobytes() for x in steps(stepper(cpu, GRID[-1]), 300_007, "float32", [True], 2)]
    _cpu.set_num_threads(1)
    assert got == [x.tobytes() for x in steps(stepper(cpu, GRID[-1]), 300_007, "float32", [True], 2)]


def test_buf_is_left_alone_without_momentum(backend):
    param, grad, buf = arrays(9, "float32", 3)
    before = buf.copy()
    backend.sgd_step(param, grad, buf, 0.1, 0.0, 0.0, 0.0, False, 1)
    assert (buf == before).all()


def test_writes_stay_inside(backend):
    for n in range(1, 40):
        room = np.full(80, 7, "float32")
        backend.sgd_step(room[20 : 20 + n], np.ones(n, "float32"), None, 1.0, 0.0, 0.0, 0.0, False, 1)
        assert (room[20 : 20 + n] == 6).all() and (room[:20] == 7).all() and (room[20 + n :] == 7).all()


OPTIONS = (0.1, 0.9, 0.0, 0.0, False, 1)


@pytest.mark.parametrize("name", ["param", "grad", "buf"])
def test_bad_arrays(backend, name):
    def call(x):
        given = dict(zip(("param", "grad", "buf"), arrays(6, "float32", 3)))
        given[name] = x
        backend.sgd_step(*given.values(), *OPTIONS)

    for run, error, message in layout_errors("sgd_step", name, call):
        with pytest.raises(error, match="^" + re.escape(message) + "$"):
            run()


@pytest.mark.parametrize(
    "position, value, message",
    [
        (0, np.nan, "lr must be finite, got nan"),
        (0, np.inf, "lr must be finite, got inf"),
        (1, np.nan, "momentum must be finite, got nan"),
        (1, -0.5, "momentum must be at least 0, got -0.5"),
        (2, np.nan, "dampening must be finite, got nan"),
        (3, np.nan, "weight_decay must be finite, got nan"),
        (3, -1.0, "weight_decay must be at least 0, got -1"),
    ],
)
def test_bad_numbers(backend, position, value, message):
    options = [*OPTIONS]
    options[position] = value
    given = arrays(6, "float32", 3)
    before = [x.copy() for x in given]
    with pytest.raises(ValueError, match="^" + re.escape("sgd_step: " + message) + "$"):
        backend.sgd_step(*given, *options)
    assert all((x == y).all() for x, y in zip(given, before)), "a refused call altered its arrays"


def test_overlap_is_refused(backend):
    room = np.zeros(20, "float32")
    with pytest.raises(ValueError, match="^sgd_step: grad must not share memory with param, got arrays that overlap$"):
        backend.sgd_step(room[:10], room[9:19], None, 0.1, 0.0, 0.0, 0.0, False, 1)
    backend.sgd_step(room[:10], room[10:], None, 0.1, 0.0, 0.0, 0.0, False, 1)  # neighbours are fine
    with pytest.raises(ValueError, match="^sgd_step: buf must not share memory with grad, got arrays that overlap$"):
        backend.sgd_step(np.zeros(10, "float32"), room[:10], room[:10], *OPTIONS)
