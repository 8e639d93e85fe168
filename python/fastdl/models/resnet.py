"""Residual networks for small images.

Source: He, Zhang, Ren, Sun, "Deep residual learning for image recognition", 2016, section 4.2, with projection
shortcuts (option B of section 4.1) where the shape changes.
"""

from __future__ import annotations

from fastdl import nn
from fastdl.nn import _check


class BasicBlock(nn.Module):
    """y = relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut(x)), images (N, in_channels, H, W) -> (N, channels, H', W').

    conv1 and conv2 are 3x3 without bias; stride is conv1's. The shortcut is x itself, or `downsample`, a 1x1
    convolution with batch norm, where the stride or the number of channels changes.

    >>> BasicBlock(16, 32, stride=2)(fd.ones(2, 16, 8, 8)).shape
    (2, 32, 4, 4)
    """

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = None
        if stride != 1 or in_channels != channels:
            projection = nn.Conv2d(in_channels, channels, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(channels))

    def forward(self, x):
        y = self.bn1(self.conv1(x), relu=True)
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.bn2(self.conv2(y), relu=True, residual=shortcut)


class ResNetCifar(nn.Module):
    """A residual network of depth 6n + 2, images (N, 3, 32, 32) -> logits (N, 10).

    A 3x3 convolution to 16 channels with batch norm; three stages of n blocks with 16, 32 and 64 channels, the
    second and third beginning with stride 2; the mean over the image; a dense layer. Convolutions start from a
    normal distribution of variance 2 / (kernel area * output channels).

    Args:
        depth: 20, 32, 44, 56, ...: 6n + 2.
        num_classes: 10 by default.
        in_channels: 3 by default.

    >>> ResNetCifar(8)(fd.ones(2, 3, 32, 32)).shape
    (2, 10)
    """

    def __init__(self, depth: int = 20, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        if _check.integer("ResNetCifar", "depth", depth) < 8 or (depth - 2) % 6:
            raise ValueError(f"ResNetCifar: depth must be 6n + 2 with n at least 1, got {depth}")
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(in_channels, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, blocks, 1)
        self.layer2 = _stage(16, 32, blocks, 2)
        self.layer3 = _stage(32, 64, blocks, 2)
        self.fc = nn.Linear(64, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x):
        x = self.bn1(self.conv1(x), relu=True)
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))


def _stage(in_channels: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = BasicBlock(in_channels, channels, stride)
    return nn.Sequential(first, *(BasicBlock(channels, channels) for _ in range(blocks - 1)))


def resnet20(num_classes: int = 10, in_channels: int = 3) -> ResNetCifar:
    """`ResNetCifar` of depth 20: 0.27 million parameters, images (N, 3, 32, 32) -> logits (N, 10)."""
    return ResNetCifar(20, num_classes, in_channels)
