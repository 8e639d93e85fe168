"""The short way of a replay on the GPU: taken by calls with plain tensors of the recorded kind, and by no others."""

import numpy as np
import pytest

import fastdl as fd
from fastdl import nn

pytestmark = pytest.mark.usefixtures("cuda")


def tensor(*shape, dtype="float32", seed=0):
    values = np.random.default_rng([seed, *shape]).integers(-9, 9, shape).astype(dtype)
    return fd.tensor(values, device="cuda")


def usual(step, *args, count=4):
    """The step, called until it goes the short way."""
    for _ in range(count):
        step(*args)
    assert step._usual is not None
    return step


# Arguments that are not of the kind of a contiguous 4x3 tensor of float32 without a gradient.
OTHERS = {
    "another shape": lambda x: x[:2],
    "another order": lambda x: x.reshape(3, 4).transpose(0, 1),
    "gaps": lambda x: fd.cat([x, x], 1)[:, ::2],
    "another dtype": lambda x: x.double(),
    "another dtype of its size": lambda x: x.int(),
    "a gradient": lambda x: x.clone().requires_grad_(),
    "a parameter": lambda x: nn.Parameter(x.clone()),
    "of the host": lambda x: x.cpu(),
    "one of the kind": lambda x: x + 1,
}


@pytest.mark.parametrize("change", OTHERS.values(), ids=OTHERS)
def test_other_arguments(change):
    def function(x):
        return (x * (3 if x.requires_grad else 2)).sum(1)

    step = usual(fd.capture(function), tensor(4, 3))
    other = change(tensor(4, 3, seed=1))
    for _ in range(4):
        got = step(other)
        np.testing.assert_array_equal(got.detach().cpu().numpy(), function(other).detach().cpu().numpy())
        assert step(tensor(4, 3)).tolist() == function(tensor(4, 3)).tolist()


@pytest.mark.parametrize("args, plain", [((2.0,), False), (([],), False), ((), True)], ids=str)
def test_constants_are_no_plain_arguments(args, plain):
    def function(x, *rest):
        return x * (rest[0] if rest and rest[0] else 3.0)

    step, x = fd.capture(function), tensor(4, 3)
    for _ in range(5):
        assert step(x, *args).tolist() == function(x, *args).tolist()
    assert (step._usual is not None) == plain
    assert step(x, 5.0).tolist() == function(x, 5.0).tolist()
    assert step(x=x).tolist() == function(x).tolist()


def test_arguments_by_name():
    def function(x, minus=None, plus=None):
        return x - minus if plus is None else x + plus

    step, x, y = fd.capture(function), tensor(4, 3), tensor(4, 3, seed=1)
    for _ in range(5):
        assert step(x, plus=y).tolist() == (x + y).tolist()
    for _ in range(5):
        assert step(x, y).tolist() == (x - y).tolist()
        assert step(x, plus=y).tolist() == (x + y).tolist()


@pytest.mark.parametrize("function, plain", [
    (lambda x: (x + 1, x.sum()), True), (lambda x: [x + 1], False), (lambda x: {"y": x + 1}, False),
    (lambda x: (x + 1, [x]), False), (lambda x: None, True), (lambda x: (x + 1, None), False), (lambda x: (), True),
])  # fmt: skip
def test_structures_of_results(function, plain):
    def plainly(value):
        if isinstance(value, (tuple, list)):
            return type(value)(map(plainly, value))
        if isinstance(value, dict):
            return {key: plainly(item) for key, item in value.items()}
        return None if value is None else value.tolist()

    step, x = fd.capture(function), tensor(4, 3)
    for _ in range(5):
        assert plainly(step(x)) == plainly(function(x))
    assert (step._usual is not None) == plain


def test_inside_another_recording_it_is_the_function():
    inner = usual(fd.capture(lambda x: x * 2), tensor(4, 3))
    outer = fd.capture(lambda x: inner(x) + 1)
    for k in range(5):
        x = tensor(4, 3, seed=k)
        assert outer(x).tolist() == (x * 2 + 1).tolist()


def test_a_program_that_made_room_is_not_replayed():
    step = usual(fd.capture(lambda x: x * 2), tensor(4, 3))
    for n in (*range(5, 40), 4):
        x = tensor(n, 3, seed=n)
        assert step(x).tolist() == (x * 2).tolist()
    assert step.programs <= 32
    assert step(tensor(4, 3)).tolist() == (tensor(4, 3) * 2).tolist()


def test_without_arguments_it_goes_by_the_device_in_use():
    weight, host = fd.ones(2, device="cuda"), fd.ones(2)
    step = fd.capture(lambda: (weight if fd.get_device() == "cuda" else host) * 2)
    with fd.device("cuda"):
        assert [step().device for _ in range(5)] == ["cuda"] * 5
    assert step._usual is None
