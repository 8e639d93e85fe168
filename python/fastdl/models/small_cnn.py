"""A convolutional network for the 8x8 digits."""

from __future__ import annotations

from fastdl import nn
from fastdl.nn import _check
from fastdl.nn import functional as F
from fastdl.nn.relu import then_relu


class SmallCNN(nn.Module):
    """Two convolutions with batch norm and pooling, two dense layers: (N, 1, 8, 8) -> logits (N, 10).

    conv1 32 @ 3x3 pad 1, batch norm, ReLU, pool 2; conv2 64 @ 3x3 pad 1, the same; fc1 128, ReLU, dropout;
    fc2.

    Args:
        num_classes: 10 by default.
        dropout: probability after fc1. Default 0.25.
        in_channels, image_size: 1 and 8 by default; the side must be divisible by 4.

    >>> SmallCNN()(fd.ones(2, 1, 8, 8)).shape
    (2, 10)
    """

    def __init__(self, num_classes: int = 10, dropout: float = 0.25, in_channels: int = 1, image_size: int = 8) -> None:
        super().__init__()
        if _check.integer("SmallCNN", "image_size", image_size) % 4:
            raise ValueError(f"SmallCNN: image_size must be a multiple of 4, got {image_size}")
        self.conv1 = nn.Conv2d(in_channels, 32, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(32)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(64)
        self.fc1 = nn.Linear(64 * (image_size // 4) ** 2, 128)
        self.dropout = nn.Dropout(dropout)
        self.fc2 = nn.Linear(128, num_classes)

    def forward(self, x):
        x = F.max_pool2d(self.bn1(self.conv1(x), relu=True), 2)
        x = F.max_pool2d(self.bn2(self.conv2(x), relu=True), 2)
        x = then_relu(self.fc1, x.flatten(1))
        return self.fc2(self.dropout(x))
