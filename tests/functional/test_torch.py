"""Every function of fastdl.functional against PyTorch: values, shapes and gradients."""

import numpy as np
import pytest

import fastdl as fd
from fastdl import functional as F
from functional.cases import CASES, UNGRADED
from tolerances import assert_close

torch = pytest.importorskip("torch")


def _find(name):
    for place in (torch.nn.functional, torch, torch.Tensor):
        if hasattr(place, name):
            return getattr(place, name)
    raise AttributeError(name)


def _tuple(out):
    return tuple(out) if isinstance(out, (tuple, list)) else (out,)


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("case", [case for case in CASES + UNGRADED if case.torch], ids=str)
def test_like_torch(device, case, dtype):
    arrays = case.arrays(dtype)
    graded = case not in UNGRADED
    ours = [fd.tensor(array, requires_grad=grad and graded) for array, grad in arrays]
    theirs = [torch.tensor(array, requires_grad=grad and graded) for array, grad in arrays]
    got = _tuple(case.call(getattr(F, case.name), ours))
    want = _tuple(case.call(_find(case.name), theirs))
    assert len(got) == len(want)
    for y, reference in zip(got, want):
        assert_close(y.detach().cpu().numpy(), reference.detach().cpu().numpy(), "functional", scale=8)
        assert y.requires_grad == reference.requires_grad
    rng = np.random.default_rng(3)
    for y, reference in zip(got, want):
        if reference.requires_grad:
            seed = rng.standard_normal(reference.shape).astype(dtype)
            y.backward(fd.tensor(seed), retain_graph=True)
            reference.backward(torch.tensor(seed), retain_graph=True)
    for x, reference in zip(ours, theirs):
        assert (x.grad is None) == (reference.grad is None)
        if x.grad is not None:
            assert_close(x.grad.cpu().numpy(), reference.grad.cpu().numpy(), "functional", scale=8)
