"""Gradient clipping against PyTorch."""

import math
import re

import numpy as np
import pytest

import fastdl as fd
from fastdl.nn.utils import clip_grad_norm_, clip_grad_value_
from optimizing import arrays, backward, copy_gradients, parameters, torch_twins
from tolerances import assert_close


def with_gradients(dtype="float32", optimizer=True, skip=()):
    params = parameters(dtype=dtype)
    if optimizer:
        fd.optim.SGD(params)
    backward(params, 1, skip)
    return params


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("norm_type", [2.0, 1, 3.5, math.inf])
@pytest.mark.parametrize("max_norm", [0.0, 0.5, 1e6])
def test_norm_against_torch(device, max_norm, norm_type, dtype):
    torch = pytest.importorskip("torch")
    for optimizer in (False, True):
        params = with_gradients(dtype, optimizer, skip=(1,))
        twins = torch_twins(torch, params)
        copy_gradients(torch, params, twins)
        got = clip_grad_norm_(params, max_norm, norm_type)
        want = torch.nn.utils.clip_grad_norm_(twins, max_norm, norm_type)
        assert_close(got.cpu().numpy(), want.cpu().numpy(), "reduce", scale=8)
        assert params[1].grad is None
        for p, twin in zip(params, twins):
            if p.grad is not None:
                assert_close(p.grad.cpu().numpy(), twin.grad.cpu().numpy(), "reduce")


def test_norm_of_worked_values(device):
    p, q = fd.tensor([0.0], requires_grad=True), fd.tensor([0.0, 0.0], requires_grad=True)
    p.grad, q.grad = fd.tensor([3.0]), fd.tensor([0.0, 4.0])
    assert clip_grad_norm_([p, q], 1.0).item() == 5
    assert_close(p.grad.cpu().numpy(), np.array([0.6], "float32"), "reduce")
    assert_close(q.grad.cpu().numpy(), np.array([0, 0.8], "float32"), "reduce")
    assert clip_grad_norm_(iter([p, q]), 2.0).item() == pytest.approx(1, rel=1e-6)
    assert_close(p.grad.cpu().numpy(), np.array([0.6], "float32"), "reduce")  # small enough: left alone
    assert clip_grad_norm_(p, 0.3).item() == pytest.approx(0.6, rel=1e-6)


def test_float32_gradients_do_not_overflow_the_sum(device):
    (p,) = parameters(shapes=((4,),))
    p.grad = fd.tensor(np.full(4, 1e30, "float32"))
    assert clip_grad_norm_([p], 1.0).item() == pytest.approx(2e30)
    assert_close(p.grad.cpu().numpy(), np.full(4, 0.5, "float32"), "reduce")


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_non_finite_gradients(device, bad):
    params = with_gradients()
    params[2].grad.data[0, 0] = bad
    before = [p.grad.cpu().numpy().copy() for p in params]
    with pytest.raises(RuntimeError, match=f"the norm of order 2 of the gradients is {bad}"):
        clip_grad_norm_(params, 1.0, error_if_nonfinite=True)
    assert all(np.array_equal(p.grad.cpu().numpy(), b, equal_nan=True) for p, b in zip(params, before))
    norm = clip_grad_norm_(params, 1.0).item()
    assert math.isnan(norm) if math.isnan(bad) else norm == bad
    assert np.isnan(params[2].grad.cpu().numpy()[0, 0])
    assert (np.isnan(params[4].grad.cpu().numpy()) if math.isnan(bad) else params[4].grad.cpu().numpy() == 0).all()


def test_nothing_to_clip(device):
    assert clip_grad_norm_([], 1.0).item() == 0
    assert clip_grad_norm_(parameters(), 1.0).item() == 0
    assert clip_grad_norm_(parameters(), 1.0, math.inf).item() == 0
    clip_grad_value_(parameters(), 1.0)


def test_clipped_gradients_reach_the_step(device):
    params = parameters()
    optimizer = fd.optim.SGD(params, lr=1.0)
    before = [p.detach().cpu().numpy().copy() for p in params]
    backward(params, 1)
    norm = clip_grad_norm_(params, 0.5).item()
    optimizer.step()
    for p, b, g in zip(params, before, arrays(1)):
        assert_close(p.detach().cpu().numpy(), b - g * np.float32(0.5 / (norm + 1e-6)), "sgd", scale=4)


def test_value_against_torch(device):
    torch = pytest.importorskip("torch")
    params = with_gradients(skip=(0,))
    twins = torch_twins(torch, params)
    copy_gradients(torch, params, twins)
    clip_grad_value_(params, 0.5)
    torch.nn.utils.clip_grad_value_(twins, 0.5)
    for p, twin in zip(params[1:], twins[1:]):
        assert (p.grad.cpu().numpy() == twin.grad.cpu().numpy()).all()


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: clip_grad_norm_(parameters(), -1.0), ValueError,
         "clip_grad_norm_: max_norm must be at least 0, got -1"),
        (lambda: clip_grad_norm_(parameters(), math.nan), ValueError,
         "clip_grad_norm_: max_norm must be finite, got nan"),
        (lambda: clip_grad_norm_(parameters(), 1, 0), ValueError,
         "clip_grad_norm_: norm_type must be above 0, got 0"),
        (lambda: clip_grad_norm_(parameters(), 1, -2), ValueError,
         "clip_grad_norm_: norm_type must be at least 0, got -2"),
        (lambda: clip_grad_norm_([1.0], 1), TypeError, "clip_grad_norm_: parameters must be Tensors, got float"),
        (lambda: clip_grad_norm_(3, 1), TypeError, "clip_grad_norm_: parameters must be Tensors, got int"),
        (lambda: clip_grad_value_(parameters(), -1), ValueError,
         "clip_grad_value_: clip_value must be at least 0, got -1"),
        (lambda: clip_grad_value_(None, 1), TypeError, "clip_grad_value_: parameters must be Tensors, got NoneType"),
    ],
)  # fmt: skip
def test_bad_input(call, error, message):
    with pytest.raises(error, match="^" + re.escape(message) + "$"):
        call()
