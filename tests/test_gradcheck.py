"""gradcheck must pass right gradients and catch wrong ones."""

import numpy as np
import pytest

import fastdl as fd
from fastdl.autograd import Operation, apply


class Wrong(Operation):
    """y = x * x with a gradient that is off at one entry."""

    __slots__ = ("error",)

    def __init__(self, error):
        self.error = error

    def forward(self, input):
        self.saved = (input,)
        return input * input

    def backward(self, dy):
        dx = 2 * self.saved[0] * dy
        dx.reshape(-1)[-1] += self.error
        return (dx,)


def inputs(*shape):
    return fd.tensor(np.linspace(0.5, 1.5, int(np.prod(shape))).reshape(shape), requires_grad=True)


def test_right_gradients_pass():
    x, w = inputs(2, 3), inputs(3, 2)
    assert fd.gradcheck(lambda x, w: (x @ w, x.sum(), (x * 2).detach()), (x, w)) is True
    assert fd.gradcheck(fd.exp, x) is True
    assert x.grad is None  # the caller's tensors are left alone


def test_wrong_gradients_are_caught_with_place_and_size():
    message = (
        r"gradcheck: the gradient of output 0 \(entry \d\) with respect to inputs\[0\]\[1, 2\] is .*, "
        r"central differences give .*: off by 0\.01, allowed .*"
    )
    with pytest.raises(AssertionError, match=message):
        fd.gradcheck(lambda x: apply(Wrong(0.01), x), inputs(2, 3))


def test_tolerances_decide():
    assert fd.gradcheck(lambda x: apply(Wrong(0.01), x), inputs(2, 3), atol=0.02)
    with pytest.raises(AssertionError, match="off by 1e-0?5"):
        fd.gradcheck(lambda x: apply(Wrong(1e-5), x), inputs(2), atol=1e-8, rtol=1e-8)


def test_nan_is_a_difference():
    with pytest.raises(AssertionError, match="is nan"):
        fd.gradcheck(lambda x: apply(Wrong(np.nan), x), inputs(2))


def test_a_missing_gradient_is_a_difference():
    with pytest.raises(AssertionError, match=r"inputs\[1\].* is 0, central differences give 1"):
        fd.gradcheck(lambda x, w: x + w.detach(), (inputs(2), inputs(2)))


def test_inputs_that_share_memory_and_views():
    x = inputs(2, 3)
    assert fd.gradcheck(lambda a, b: a * b, (x, x))
    assert fd.gradcheck(lambda a: a * a, fd.tensor(x.data.T, requires_grad=True))


@pytest.mark.parametrize(
    "call, error, message",
    [
        (
            lambda: fd.gradcheck(fd.exp, fd.ones(2, requires_grad=True)),
            TypeError,
            r"inputs\[0\] must be float64.*float32",
        ),
        (
            lambda: fd.gradcheck(fd.exp, fd.ones(2, dtype="float64")),
            ValueError,
            "must hold a Tensor that requires grad",
        ),
        (lambda: fd.gradcheck(lambda x: 3.0, inputs(2)), TypeError, "fn must return Tensors, got float as output 0"),
        (
            lambda: fd.gradcheck(lambda x: x.detach(), inputs(2)),
            ValueError,
            "fn must return a Tensor that requires grad",
        ),
        (lambda: fd.gradcheck(fd.exp, inputs(2), eps=0), ValueError, "eps must be positive and finite, got 0"),
        (lambda: fd.gradcheck(fd.exp, inputs(2), eps=float("nan")), ValueError, "eps must be positive.*nan"),
        (lambda: fd.gradcheck(fd.exp, inputs(2), atol=-1), ValueError, "atol must be positive and finite, got -1"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
