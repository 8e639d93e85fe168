"""The ready-made models: shapes, names, bad arguments."""

import numpy as np
import pytest

import fastdl as fd
from fastdl import models, nn


def image(*shape):
    return fd.tensor(np.random.default_rng(0).standard_normal(shape).astype(np.float32))


SHAPES = [
    (lambda: models.LeNet5(), (3, 1, 28, 28), (3, 10), 1663370),
    (lambda: models.LeNet5(7, dropout=0.5, in_channels=3, image_size=32), (2, 3, 32, 32), (2, 7), 2154951),
    (lambda: models.SmallCNN(), (3, 1, 8, 8), (3, 10), 53194),
    (lambda: models.MLP((784, 500, 10)), (3, 1, 28, 28), (3, 10), 397510),
    (lambda: models.MLP([4, 5, 6, 2], nn.Tanh, dropout=0.1), (3, 4), (3, 2), 75),
    (lambda: models.Xor(), (4, 2), (4, 1), 13),
]  # fmt: skip


@pytest.mark.parametrize("make, shape, want, parameters", SHAPES)
def test_shapes(make, shape, want, parameters):
    model = make()
    y = model(image(*shape))
    assert y.shape == want
    assert sum(p.numel() for p in model.parameters()) == parameters
    y.sum().backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in model.parameters())


def test_names():
    assert list(models.LeNet5().state_dict()) == [
        f"{layer}.{kind}" for layer in ("conv1", "conv2", "fc1", "fc2") for kind in ("weight", "bias")
    ]
    assert list(models.MLP((3, 2, 1)).state_dict()) == ["1.weight", "1.bias", "3.weight", "3.bias"]


BAD = [
    (lambda: models.LeNet5(image_size=30), ValueError,
     "LeNet5: image_size must be a multiple of 4, got 30"),
    (lambda: models.SmallCNN(image_size=0), ValueError,
     "SmallCNN: image_size must be at least 1, got 0"),
    (lambda: models.LeNet5(dropout=2.0), ValueError, "Dropout: p must lie in [0, 1], got 2.0"),
    (lambda: models.LeNet5(0), ValueError, "Linear: out_features must be at least 1, got 0"),
    (lambda: models.MLP((3,)), ValueError,
     "MLP: sizes must name at least an input and an output size, got (3,)"),
    (lambda: models.MLP((3, 0, 1)), ValueError, "Linear: out_features must be at least 1, got 0"),
    (lambda: models.Xor(0), ValueError, "Linear: out_features must be at least 1, got 0"),
]  # fmt: skip


@pytest.mark.parametrize("make, error, message", BAD)
def test_bad_input(make, error, message):
    with pytest.raises(error) as caught:
        make()
    assert message in str(caught.value)
