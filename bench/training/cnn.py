"""Convolutional networks: LeNet-5 of the MNIST recipe, and three blocks of convolution, BatchNorm, ReLU, pooling."""

from .step import step_case


def cases():
    conv1, conv2 = 28 * 28 * 32 * 25, 14 * 14 * 64 * 32 * 25
    dense = 3136 * 512 + 512 * 10
    flops = 2.0 * 100 * (2 * conv1 + 3 * conv2 + 3 * dense)
    yield step_case("LeNet-5, batch 100, Adam", _lenet, (100, 1, 28, 28), 10, "Adam", flops, lr=1e-3)
    blocks = [32 * 32 * 32 * 3 * 9, 16 * 16 * 64 * 32 * 9, 8 * 8 * 128 * 64 * 9]
    flops = 2.0 * 64 * (3 * sum(blocks) - blocks[0])
    yield step_case("conv-BN-pool x3, 64x3x32x32", _blocks, (64, 3, 32, 32), 10, "Adam", flops, lr=1e-3)


def _lenet(nn):
    return nn.Sequential(
        nn.Conv2d(1, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(3136, 512), nn.ReLU(), nn.Linear(512, 10),
    )  # fmt: skip


def _blocks(nn):
    layers, channels = [], 3
    for filters in (32, 64, 128):
        layers += [nn.Conv2d(channels, filters, 3, padding=1), nn.BatchNorm2d(filters), nn.ReLU(), nn.MaxPool2d(2)]
        channels = filters
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(128 * 16, 10))
