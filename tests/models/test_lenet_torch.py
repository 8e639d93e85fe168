"""The same LeNet in PyTorch and here, from the same state_dict: the same losses over ten Adam steps."""

import numpy as np
import pytest
from tolerances import assert_close

import fastdl as fd
from fastdl.models import LeNet5
from fastdl.nn import functional as F

torch = pytest.importorskip("torch")

STEPS, BATCH = 10, 8


class TorchLeNet5(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(1, 32, 5, padding=2)
        self.conv2 = torch.nn.Conv2d(32, 64, 5, padding=2)
        self.fc1 = torch.nn.Linear(64 * 7 * 7, 512)
        self.fc2 = torch.nn.Linear(512, 10)

    def forward(self, x):
        x = torch.nn.functional.max_pool2d(torch.relu(self.conv1(x)), 2)
        x = torch.nn.functional.max_pool2d(torch.relu(self.conv2(x)), 2)
        return self.fc2(torch.relu(self.fc1(x.flatten(1))))


def batches(dtype):
    """One pattern for each class, under noise: ten steps learn a good part of it."""
    rng = np.random.default_rng(0)
    patterns = rng.standard_normal((10, 1, 28, 28))
    for _ in range(STEPS):
        label = rng.integers(0, 10, BATCH)
        yield (patterns[label] + 0.5 * rng.standard_normal((BATCH, 1, 28, 28))).astype(dtype), label


def torch_losses(state, dtype):
    model = TorchLeNet5().to(getattr(torch, dtype))
    model.load_state_dict(state)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for image, label in batches(dtype):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(torch.tensor(image)), torch.tensor(label))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return np.array(losses, dtype)


def our_losses(state, dtype):
    model = LeNet5().to(dtype)
    model.load_state_dict(state)
    optimizer = fd.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for image, label in batches(dtype):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(fd.tensor(image)), fd.tensor(label))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return np.array(losses, dtype)


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(0)
    return TorchLeNet5().state_dict()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_ten_steps(device, state, dtype):
    want = torch_losses(state, dtype)
    assert want[0] - want[-1] > 1  # the steps matter: they change the loss by far more than the tolerance
    assert_close(our_losses(state, dtype), want, "training")
