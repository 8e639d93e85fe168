"""Cross-entropy of logits of bfloat16: the loss and log-sum-exp are float32, the gradient is rounded once."""

import numpy as np
import pytest

from rounding import BFLOAT16, assert_rounded, double, values


@pytest.mark.parametrize("name", ["cross_entropy_forward", "cross_entropy_backward"])
def test_has_kernels_of_its_own_on_cuda(backend, name):
    assert (name in backend.BFLOAT16) == (backend.name in ("cuda", "emulated"))


@pytest.mark.parametrize(
    "smoothing, reduction, weighted", [(0.0, "mean", False), (0.1, "sum", True), (0.1, "none", False)]
)
@pytest.mark.parametrize("shape", [(5, 1), (9, 10), (7, 33), (3, 1500), (2, 30_000)], ids=str)
def test_cross_entropy(bfloat16, reference, shape, smoothing, reduction, weighted):
    logits = values(shape, std=3.0)
    target = np.random.default_rng(1).integers(0, shape[1], shape[0])
    target[1::3] = -100
    weight = np.random.default_rng(2).random(shape[1]).astype("float32") if weighted else None
    options = -100, smoothing, reduction
    loss, lse = bfloat16.cross_entropy_forward(logits, target, weight, *options)
    want_loss, want_lse = reference.cross_entropy_forward(double(logits), target, double(weight), *options)
    assert loss.dtype == lse.dtype == np.float32
    np.testing.assert_allclose(loss, want_loss, rtol=1e-5)
    np.testing.assert_allclose(lse, want_lse, rtol=1e-5)
    dloss = np.full_like(loss, 0.7)
    args = double(logits), target, want_lse, double(weight), *options
    got = bfloat16.cross_entropy_backward(dloss, logits, target, lse, weight, *options)
    assert_rounded(got, reference.cross_entropy_backward(double(dloss), *args), scale=1)
    *_, got = bfloat16.cross_entropy_forward(logits, target, weight, *options, True)
    assert_rounded(got, reference.cross_entropy_backward(np.ones_like(want_loss), *args), scale=1)
    if weighted:  # of bfloat16 it is converted
        low = bfloat16.cross_entropy_forward(logits, target, weight.astype(BFLOAT16), *options)[0]
        exact = reference.cross_entropy_forward(double(logits), target, double(weight.astype(BFLOAT16)), *options)[0]
        np.testing.assert_allclose(low, exact, rtol=1e-5)
