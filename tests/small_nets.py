"""A small network and a batch for it, for tests on several devices."""

import numpy as np

import fastdl as fd
from fastdl import nn


def small_net(device=None):
    fd.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False, device=device), nn.BatchNorm2d(4, device=device), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 3, device=device),
    )  # fmt: skip


def batch(n=12):
    rng = np.random.default_rng(0)
    return fd.from_numpy(rng.standard_normal((n, 1, 8, 8)).astype(np.float32)), fd.from_numpy(rng.integers(0, 3, n))
