"""`fastdl.models.ResNet` in PyTorch, with the same names, to compare with."""

import torch
from torch import nn
from torch.nn import functional as F


class BasicBlock(nn.Module):
    def __init__(self, inputs: int, filters: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, filters, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(filters)
        self.downsample = None
        if stride != 1 or inputs != filters:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, filters, 1, stride, bias=False), nn.BatchNorm2d(filters)
            )

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(self.bn2(self.conv2(y)) + shortcut)


class ResNet(nn.Module):
    def __init__(self, blocks, channels, num_classes: int = 10, in_channels: int = 3):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels[0])
        before = channels[0], *channels
        stages = [_stage(before[i], channels[i], blocks[i], 2 if i else 1) for i in range(len(blocks))]
        for i, stage in enumerate(stages):
            setattr(self, f"layer{i + 1}", stage)
        self._count = len(stages)
        self.fc = nn.Linear(channels[-1], num_classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        for i in range(self._count):
            x = getattr(self, f"layer{i + 1}")(x)
        return self.fc(torch.mean(x, (2, 3)))


def _stage(inputs: int, filters: int, blocks: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        *(BasicBlock(filters if i else inputs, filters, 1 if i else stride) for i in range(blocks))
    )
