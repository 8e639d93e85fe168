"""A small problem that exercises everything a checkpoint must hold: dropout, batch norm, shuffling, a schedule."""

import numpy as np
import pytest

import fastdl as fd
from fastdl import data, nn, optim, train


class Problem:
    """Forty points in two classes, a net with batch norm and dropout, Adam with a schedule."""

    def __init__(self, seed=0, batch_size=4, callbacks=(), metrics=("accuracy",), scheduler_every="step", lr=0.02):
        fd.manual_seed(seed)
        x = fd.random.normal((40, 6), generator=fd.Generator(1))
        y = (x[:, 0] + x[:, 1] * x[:, 2] > 0).astype(np.int64)
        self.x, self.y = x, y
        self.model = nn.Sequential(
            nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 2)
        )
        self.optimizer = optim.Adam(self.model.parameters(), lr=lr)
        scheduler = optim.lr_scheduler.StepLR(self.optimizer, step_size=7, gamma=0.8)
        self.train = data.DataLoader(data.ArrayDataset(x, y), batch_size=batch_size, shuffle=True)
        self.validation = data.DataLoader(data.ArrayDataset(x[:15], y[:15]), batch_size=7)
        self.trainer = train.Trainer(
            self.model,
            self.optimizer,
            nn.CrossEntropyLoss(),
            metrics,
            callbacks,
            scheduler,
            scheduler_every=scheduler_every,
        )

    def fit(self, **length):
        return self.trainer.fit(self.train, self.validation, **length)

    def weights(self):
        return {name: np.array(value.detach().numpy()) for name, value in self.model.state_dict().items()}


def same_bits(left: dict, right: dict) -> None:
    """Arrays by name, equal to the bit."""
    assert left.keys() == right.keys()
    for name in left:
        assert left[name].tobytes() == right[name].tobytes(), name


@pytest.fixture
def problem():
    """The class `Problem`."""
    return Problem


@pytest.fixture(name="same_bits")
def _same_bits():
    """The function `same_bits`."""
    return same_bits
