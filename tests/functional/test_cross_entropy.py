"""Cross-entropy's gradient is made with the loss: where it is taken from, and when it is made again."""

import numpy as np
import pytest

import fastdl as fd
from fastdl.nn import functional as F


def logits(device, dtype="float32"):
    x = np.random.default_rng(0).standard_normal((6, 5)).astype(dtype)
    return fd.tensor(x, device=device, requires_grad=True), fd.tensor([0, 4, 2, 1, 1, 3], device=device)


def grad_of(x, loss, **options):
    x.grad = None
    loss.backward(**options)
    return x.grad.cpu().numpy().copy()


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_every_way_back_gives_the_same(device, reduction):
    x, target = logits(device)
    loss = F.cross_entropy(x, target, reduction=reduction)
    first, second = (grad_of(x, loss, retain_graph=True) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(grad_of(x, loss, gradient=fd.ones((), device=device)), first)
    torch = pytest.importorskip("torch")
    theirs = torch.tensor(x.detach().cpu().numpy(), requires_grad=True)
    torch.nn.functional.cross_entropy(theirs, torch.tensor(target.tolist()), reduction=reduction).backward()
    np.testing.assert_allclose(first, theirs.grad.numpy(), rtol=1e-5, atol=1e-7)


def test_a_loss_that_is_part_of_another(device):
    x, target = logits(device)
    plain = grad_of(x, F.cross_entropy(x, target))
    np.testing.assert_allclose(grad_of(x, F.cross_entropy(x, target) * 0.25), plain / 4, rtol=1e-6, atol=1e-9)
    got = grad_of(x, F.cross_entropy(x, target) + (x * x).sum())
    np.testing.assert_allclose(got, plain + 2 * x.detach().cpu().numpy(), rtol=1e-5, atol=1e-7)
    loss = F.cross_entropy(x, target)
    np.testing.assert_allclose(grad_of(x, loss + loss), 2 * plain, rtol=1e-6, atol=1e-9)


def test_gradients_add_up_without_changing_what_is_kept(device):
    """The gradient that is given away may be added to by whoever gets it."""
    x, target = logits(device)
    loss = F.cross_entropy(x, target)
    plain = grad_of(x, loss, retain_graph=True)
    loss.backward(retain_graph=True)
    loss.backward()
    np.testing.assert_allclose(x.grad.cpu().numpy(), 3 * plain, rtol=1e-6, atol=1e-9)


def test_logits_of_bfloat16(device):
    pytest.importorskip("ml_dtypes")
    x, target = logits(device)
    low = x.detach().bfloat16().requires_grad_()
    want = F.cross_entropy(low.detach().float(), target)
    with fd.autocast():
        loss = F.cross_entropy(low, target)
    assert loss.dtype == np.float32
    np.testing.assert_allclose(loss.item(), want.item(), rtol=1e-6)
    loss.backward()
    assert low.grad.dtype == fd.bfloat16
    outside = F.cross_entropy(low, target)
    assert outside.dtype == fd.bfloat16 and abs(outside.item() - want.item()) < 0.01
    outside.backward()
    images = fd.zeros(2, 3, 4, device=device).bfloat16()
    assert F.cross_entropy(images, fd.zeros(2, 4, dtype="int64", device=device)).dtype == fd.bfloat16
