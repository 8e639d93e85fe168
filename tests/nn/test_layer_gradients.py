"""Gradients of every layer with respect to its input and its parameters, by central differences."""

import numpy as np
import pytest

import fastdl as fd
from fastdl import nn

# Inputs keep away from kinks: distinct values at least 0.02 apart, none within 0.01 of zero.
CASES = [
    (lambda: nn.Linear(3, 2), (2, 3)),
    (lambda: nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2), (2, 2, 4, 3)),
    (lambda: nn.Conv2d(2, 2, 3, padding="same", dilation=2, bias=False), (1, 2, 3, 4)),
    (lambda: nn.MaxPool2d(2, stride=1, padding=1), (1, 2, 3, 3)),
    (lambda: nn.AvgPool2d(2, ceil_mode=True), (1, 2, 3, 3)),
    (lambda: nn.AdaptiveAvgPool2d((2, None)), (1, 2, 3, 3)),
    (lambda: nn.BatchNorm1d(3), (4, 3)),
    (lambda: nn.BatchNorm1d(3, momentum=None, affine=False), (2, 3, 2)),
    (lambda: nn.BatchNorm2d(2, track_running_stats=False), (2, 2, 2, 2)),
    (lambda: nn.BatchNorm2d(2).eval(), (2, 2, 2, 2)),
    (lambda: nn.Flatten(), (2, 3, 2)),
    (lambda: nn.Unflatten(1, (3, -1)), (2, 6)),
    (lambda: nn.ReLU(), (3, 4)),
    (lambda: nn.LeakyReLU(0.3), (3, 4)),
    (lambda: nn.Sigmoid(), (3, 4)),
    (lambda: nn.Tanh(), (3, 4)),
    (lambda: nn.Softplus(2.0, 1.0), (3, 4)),
    (lambda: nn.ELU(0.7), (3, 4)),
    (lambda: nn.GELU(), (3, 4)),
    (lambda: nn.GELU("tanh"), (3, 4)),
    (lambda: nn.Softmax(1), (3, 4)),
    (lambda: nn.LogSoftmax(0), (3, 4)),
    (lambda: nn.Dropout(0.4), (3, 4)),
    (lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2)), (4, 3)),
]  # fmt: skip


def spread(shape, seed=0):
    """Values that no step of a central difference carries across zero or past one another."""
    size = int(np.prod(shape))
    values = 0.05 * (np.arange(size) - size // 2) + 0.02
    return np.random.default_rng(seed).permutation(values).reshape(shape)


def as_function(layer):
    """layer as a function of (x, *parameters), and the parameters."""
    owners = [(m, name) for m in layer.modules() for name, p in m._parameters.items() if p is not None]

    def call(x, *values):
        fd.manual_seed(0)  # the same dropout mask every time
        for (module, name), value in zip(owners, values):
            module.__dict__[name] = value
        return layer(x)

    return call, [module._parameters[name] for module, name in owners]


@pytest.mark.parametrize("make, shape", CASES)
def test_layer(device, make, shape):
    fd.manual_seed(1)
    layer = make().double()
    call, parameters = as_function(layer)
    x = fd.tensor(spread(shape), requires_grad=True)
    assert fd.gradcheck(call, (x, *parameters))


def test_embedding(device):
    layer = nn.Embedding(4, 2).double()
    call, parameters = as_function(layer)
    assert fd.gradcheck(call, (fd.tensor(np.array([[0, 3], [3, 1]])), *parameters))


LOSSES = [
    (lambda: nn.MSELoss(), "same"),
    (lambda: nn.MSELoss(reduction="none"), "same"),
    (lambda: nn.L1Loss(reduction="sum"), "same"),
    (lambda: nn.BCEWithLogitsLoss(np.array([0.5, 2.0, 1.0]), pos_weight=np.array([1.5, 0.5, 3.0])), "unit"),
    (lambda: nn.CrossEntropyLoss(), "class"),
    (lambda: nn.CrossEntropyLoss(np.array([0.5, 2.0, 1.0]), ignore_index=1, label_smoothing=0.1), "class"),
]  # fmt: skip


@pytest.mark.parametrize("make, kind", LOSSES)
def test_loss(device, make, kind):
    x = fd.tensor(spread((4, 3)), requires_grad=True)
    other = spread((4, 3), seed=1)
    targets = {"same": other + 0.007, "unit": other + 0.5, "class": np.array([0, 1, 2, 0])}
    assert fd.gradcheck(make(), (x, fd.tensor(targets[kind])))
