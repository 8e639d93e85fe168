"""ResNet-20 here and in PyTorch, from the same state_dict: the same logits, losses and gradients.

In float64, where only the order of sums differs; ReLU's and batch norm's conditioning amplify it through 20 layers.
"""

import numpy as np
import pytest

import fastdl as fd
from fastdl.models import ResNet, ResNetCifar, resnet18_cifar, resnet20
from fastdl.nn import functional as F
from tolerances import assert_close

torch = pytest.importorskip("torch")
theirs = pytest.importorskip("fastdl.bench.training._torch_resnet")


def batch(n, size):
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, 3, size, size)), rng.integers(0, 10, n)


def residual(depth):
    """The same network in both."""
    torch.manual_seed(0)
    return ResNetCifar(depth).to("float64"), theirs.ResNet(((depth - 2) // 6,) * 3, (16, 32, 64)).double()


@pytest.mark.parametrize("depth, size", [(8, 8), (14, 12), (20, 16), ((1, 2), 6)])
def test_forward_and_gradients(device, depth, size):
    if isinstance(depth, tuple):
        torch.manual_seed(0)
        model, other = ResNet(depth, (5, 3)).to("float64"), theirs.ResNet(depth, (5, 3)).double()
    else:
        model, other = residual(depth)
    assert list(model.state_dict()) == list(other.state_dict())
    model.load_state_dict(other.state_dict())
    images, labels = batch(4, size)
    logits, want = model(fd.tensor(images)), other(torch.tensor(images))
    assert_close(logits.detach().cpu().numpy(), want.detach().cpu().numpy(), "training")
    loss = F.cross_entropy(logits, fd.tensor(labels))
    other_loss = torch.nn.functional.cross_entropy(want, torch.tensor(labels))
    assert_close(loss.item(), other_loss.item(), "training")
    loss.backward()
    other_loss.backward()
    for (name, p), q in zip(model.named_parameters(), other.parameters()):
        scale = float(q.grad.abs().max())
        assert_close(p.grad.cpu().numpy() / scale, q.grad.cpu().numpy() / scale, "training"), name
    for key, value in other.state_dict().items():
        assert_close(model.state_dict()[key].cpu().numpy(), value.cpu().numpy(), "training")


def test_evaluation(device):
    model, other = (net.eval() for net in residual(8))
    model.load_state_dict(other.state_dict())
    images, _ = batch(2, 8)
    got, want = model(fd.tensor(images)), other(torch.tensor(images))
    assert_close(got.detach().cpu().numpy(), want.detach().numpy(), "training")


def test_size_is_the_paper_s():
    count = sum(p.numel() for p in resnet20().parameters())
    assert count == 272_474  # the paper's 0.27M with option A, which has no projections: 269,722
    assert sum(p.numel() for p in resnet18_cifar().parameters()) == 11_173_962
    assert resnet18_cifar(100, 1)(fd.ones(2, 1, 8, 8)).shape == (2, 100)


@pytest.mark.parametrize(
    "blocks, channels, error, message",
    [
        ([1], [8, 16], ValueError, r"channels must have a number for each of blocks, got \(1,\) and \(8, 16\)"),
        ([], [], ValueError, r"got \(\) and \(\)"),
        ([0], [8], ValueError, "blocks must be at least 1, got 0"),
        ([1], [True], TypeError, "channels must be an int, got True"),
        (2, [8], TypeError, "blocks must be a list or tuple of ints, got 2"),
    ],
)
def test_bad_stages(blocks, channels, error, message):
    with pytest.raises(error, match=message):
        ResNet(blocks, channels)
