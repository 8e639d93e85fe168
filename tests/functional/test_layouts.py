"""Nothing depends on how tensors lie in memory: inputs and gradients in other orders give the same results."""

import numpy as np
import pytest

import fastdl as fd
from fastdl import functional as F
from functional.cases import CASES
from layouts import layouts
from tolerances import assert_close


def _tuple(out):
    return out if isinstance(out, tuple) else (out,)


def _run(case, arrays, order=None):
    """Outputs and input gradients of a call; the gradients of the outputs come in the given memory order."""
    tensors = [fd.from_numpy(array).to(fd.get_device()).requires_grad_(grad) for array, grad in arrays]
    fd.manual_seed(5)
    outputs = [y for y in _tuple(case.call(getattr(F, case.name), tensors)) if y.requires_grad]
    rng = np.random.default_rng(3)
    for y in outputs:
        seed = rng.standard_normal(y.shape)
        seed = seed if order is None else layouts(seed, (order,))[order]
        y.backward(fd.from_numpy(seed).to(y.device), retain_graph=True)
    return [y.detach().cpu().numpy() for y in outputs], [t.grad.cpu().numpy() for t in tensors if t.grad is not None]


@pytest.mark.parametrize("order", ["fortran", "reversed", "gapped"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_other_memory_orders(device, case, order):
    plain = case.arrays()
    other = [(layouts(array, (order,))[order] if array.dtype.kind == "f" else array, grad) for array, grad in plain]
    for got, want in zip(_run(case, other, order=order), _run(case, plain)):
        assert len(got) == len(want)
        for a, b in zip(got, want):
            assert_close(a, b, "functional", scale=8)


@pytest.mark.parametrize("case", [case for case in CASES if any(a.ndim == 4 for a, _ in case.arrays())], ids=str)
def test_channels_last(device, case):
    plain = case.arrays()
    order = ("channels-last",)
    other = [(layouts(a, order)["channels-last"] if a.ndim == 4 else a, grad) for a, grad in plain]
    for got, want in zip(_run(case, other), _run(case, plain)):
        for a, b in zip(got, want):
            assert_close(a, b, "functional", scale=8)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients_that_are_views_of_one_number(device, case):
    """sum() sends back a read-only array of strides 0; every backward must take it."""
    tensors = [fd.tensor(array, requires_grad=grad) for array, grad in case.arrays()]
    again = [fd.tensor(array, requires_grad=grad) for array, grad in case.arrays()]
    for group, seeded in ((tensors, False), (again, True)):
        fd.manual_seed(5)
        for y in _tuple(case.call(getattr(F, case.name), group)):
            if y.requires_grad:
                if seeded:
                    y.backward(fd.ones_like(y), retain_graph=True)
                else:
                    y.sum().backward(retain_graph=True)
    for a, b in zip(tensors, again):
        assert (a.grad is None) == (b.grad is None)
        if a.grad is not None:
            assert_close(a.grad.cpu().numpy(), b.grad.cpu().numpy(), "functional", scale=8)


@pytest.mark.parametrize("first", ["contiguous", "fortran", "channels-last", "reversed", "gapped"])
@pytest.mark.parametrize("second", ["contiguous", "fortran", "channels-last", "reversed", "gapped"])
def test_accumulating_over_memory_orders(device, first, second):
    """.grad keeps the order of the first gradient; later ones come in any other, and several within one walk."""
    a, b = np.random.default_rng(0).standard_normal((2, 2, 3, 4, 5))
    x = fd.zeros(2, 3, 4, 5, dtype="float64", requires_grad=True)
    a_there, b_there = (
        fd.from_numpy(layouts(array, (order,))[order]).to(x.device) for array, order in ((a, first), (b, second))
    )
    x.backward(a_there)
    x.backward(b_there)
    assert_close(x.grad.cpu().numpy(), a + b, "functional")
    y = x * 1.0
    (y * a_there + y * b_there + y * a_there).sum().backward()
    assert_close(x.grad.cpu().numpy(), a + b + a + b + a, "functional")
