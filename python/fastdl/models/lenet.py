"""LeNet-5 in today's form, with ReLU, max pooling and wider layers.

Source: LeCun et al., "Gradient-based learning applied to document recognition", 1998, section II.B.
"""

from __future__ import annotations

from fastdl import nn
from fastdl.nn import _check
from fastdl.nn import functional as F
from fastdl.nn.relu import then_relu


class LeNet5(nn.Module):
    """Two convolutions with pooling and two dense layers, images (N, 1, 28, 28) -> logits (N, 10).

    conv1 32 @ 5x5 pad 2, ReLU, pool 2; conv2 64 @ 5x5 pad 2, ReLU, pool 2; fc1 512, ReLU, dropout; fc2.

    Args:
        num_classes: 10 by default.
        dropout: probability after fc1. Default 0: none.
        in_channels, image_size: 1 and 28 by default; the side must be divisible by 4.

    >>> LeNet5()(fd.zeros(2, 1, 28, 28)).shape
    (2, 10)
    """

    def __init__(self, num_classes: int = 10, dropout: float = 0.0, in_channels: int = 1, image_size: int = 28) -> None:
        super().__init__()
        if _check.integer("LeNet5", "image_size", image_size) % 4:
            raise ValueError(f"LeNet5: image_size must be a multiple of 4, got {image_size}")
        self.conv1 = nn.Conv2d(in_channels, 32, 5, padding=2)
        self.conv2 = nn.Conv2d(32, 64, 5, padding=2)
        self.fc1 = nn.Linear(64 * (image_size // 4) ** 2, 512)
        self.dropout = nn.Dropout(dropout)
        self.fc2 = nn.Linear(512, num_classes)

    def forward(self, x):
        x = F.max_pool2d(then_relu(self.conv1, x), 2)
        x = F.max_pool2d(then_relu(self.conv2, x), 2)
        x = then_relu(self.fc1, x.flatten(1))
        return self.fc2(self.dropout(x))
