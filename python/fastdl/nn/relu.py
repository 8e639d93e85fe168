"""A layer and the ReLU after it."""

from __future__ import annotations

from fastdl import functional as F
from fastdl.nn.batchnorm import BatchNorm1d, BatchNorm2d
from fastdl.nn.conv import Conv2d
from fastdl.nn.linear import Linear
from fastdl.nn.module import Module

_FUSE = BatchNorm1d, BatchNorm2d, Conv2d, Linear


def then_relu(module: Module, x):
    """relu(module(x)), made by the layer itself if it can and has no hook that would see the difference."""
    return module(x, relu=True) if type(module) in _FUSE and not module._hooked else F.relu(module(x))
