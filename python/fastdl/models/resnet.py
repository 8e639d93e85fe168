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


class ResNet(nn.Module):
    """A residual network for small images (N, in_channels, H, W) -> logits (N, num_classes).

    A 3x3 convolution to channels[0] channels with batch norm; stages `layer1`, `layer2`, ... of `BasicBlock`s, all but
    the first beginning with stride 2; the mean over the image; a dense layer. Convolutions start from a normal
    distribution of variance 2 / (kernel area * output channels).

    Args:
        blocks: how many there are in each stage.
        channels: of each stage.
        num_classes: 10 by default.
        in_channels: 3 by default.

    >>> ResNet([1, 1], [8, 16])(fd.ones(2, 3, 32, 32)).shape
    (2, 10)
    """

    def __init__(self, blocks, channels, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        name = type(self).__name__
        blocks, channels = _integers(name, "blocks", blocks), _integers(name, "channels", channels)
        if len(blocks) != len(channels) or not blocks:
            raise ValueError(f"{name}: channels must have a number for each of blocks, got {blocks} and {channels}")
        self.conv1 = nn.Conv2d(in_channels, channels[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels[0])
        before = channels[0], *channels
        self._stages = [f"layer{i}" for i in range(1, len(blocks) + 1)]
        for i, stage in enumerate(self._stages):
            setattr(self, stage, _stage(before[i], channels[i], blocks[i], 2 if i else 1))
        self.fc = nn.Linear(channels[-1], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x):
        x = self.bn1(self.conv1(x), relu=True)
        for stage in self._stages:
            x = getattr(self, stage)(x)
        return self.fc(x.mean((2, 3)))


def _integers(model: str, name: str, values) -> tuple[int, ...]:
    if not isinstance(values, (list, tuple)):
        raise TypeError(f"{model}: {name} must be a list or tuple of ints, got {values!r}")
    return tuple(_check.integer(model, name, value, 1) for value in values)


def _stage(in_channels: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = BasicBlock(in_channels, channels, stride)
    return nn.Sequential(first, *(BasicBlock(channels, channels) for _ in range(blocks - 1)))


class ResNetCifar(ResNet):
    """The residual network of depth 6n + 2 for images (N, 3, 32, 32) (He et al. 2016, section 4.2): a `ResNet` of three
    stages with n blocks and 16, 32 and 64 channels.

    Args:
        depth: 20, 32, 44, 56, ...: 6n + 2.
        num_classes: 10 by default.
        in_channels: 3 by default.

    >>> ResNetCifar(8)(fd.ones(2, 3, 32, 32)).shape
    (2, 10)
    """

    def __init__(self, depth: int = 20, num_classes: int = 10, in_channels: int = 3) -> None:
        if _check.integer("ResNetCifar", "depth", depth) < 8 or (depth - 2) % 6:
            raise ValueError(f"ResNetCifar: depth must be 6n + 2 with n at least 1, got {depth}")
        super().__init__(((depth - 2) // 6,) * 3, (16, 32, 64), num_classes, in_channels)


def resnet20(num_classes: int = 10, in_channels: int = 3) -> ResNetCifar:
    """`ResNetCifar` of depth 20: 0.27 million parameters, images (N, 3, 32, 32) -> logits (N, 10)."""
    return ResNetCifar(20, num_classes, in_channels)


def resnet18_cifar(num_classes: int = 10, in_channels: int = 3) -> ResNet:
    """ResNet-18 as it is used on images of 32x32, with a 3x3 first convolution and no pooling: 11 million parameters.

    Source: He et al. 2016, table 1, stages conv2_x to conv5_x and after.
    """
    return ResNet((2, 2, 2, 2), (64, 128, 256, 512), num_classes, in_channels)
