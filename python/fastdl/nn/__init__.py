"""Layers, containers and losses, named as in `torch.nn`."""

import sys

from fastdl import functional
from fastdl.nn import init, utils
from fastdl.nn.activation import ELU, GELU, LeakyReLU, LogSoftmax, ReLU, Sigmoid, Softmax, Softplus, Tanh
from fastdl.nn.batchnorm import BatchNorm1d, BatchNorm2d
from fastdl.nn.container import ModuleDict, ModuleList, Sequential
from fastdl.nn.conv import Conv2d
from fastdl.nn.dropout import Dropout
from fastdl.nn.embedding import Embedding
from fastdl.nn.flatten import Flatten, Unflatten
from fastdl.nn.linear import Identity, Linear
from fastdl.nn.loss import BCEWithLogitsLoss, CrossEntropyLoss, L1Loss, MSELoss
from fastdl.nn.module import Module
from fastdl.nn.parameter import Parameter
from fastdl.nn.pooling import AdaptiveAvgPool2d, AvgPool2d, MaxPool2d

__all__ = [
    "AdaptiveAvgPool2d", "AvgPool2d", "BCEWithLogitsLoss", "BatchNorm1d", "BatchNorm2d", "Conv2d",
    "CrossEntropyLoss", "Dropout", "ELU", "Embedding", "Flatten", "GELU", "Identity", "L1Loss", "LeakyReLU",
    "Linear", "LogSoftmax", "MSELoss", "MaxPool2d", "Module", "ModuleDict", "ModuleList", "Parameter",
    "ReLU", "Sequential", "Sigmoid", "Softmax", "Softplus", "Tanh", "Unflatten", "functional", "init",
    "utils",
]  # fmt: skip

sys.modules["fastdl.nn.functional"] = functional  # so that `import fastdl.nn.functional as F` works as in PyTorch
