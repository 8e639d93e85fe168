"""Convolutional networks: the MNIST recipe, three blocks of convolution, BatchNorm, ReLU, pooling, and ResNets."""

from .. import gpu
from ..case import products
from ._step import Task, step_case


def cases(rivals):
    for task in tasks():
        yield step_case(rivals, task)


def tasks():
    """What is trained."""
    yield lenet5()
    blocks = [products(size, c, o, 3, 1, 1) for size, c, o in ((32, 3, 32), (16, 32, 64), (8, 64, 128))]
    flops = 2.0 * 64 * (3 * sum(blocks) - blocks[0])
    yield Task("conv-BN-pool x3, 64x3x32x32", _blocks, (64, 3, 32, 32), 10, "Adam", flops, {"lr": 1e-3})
    options = {"lr": 0.1, "momentum": 0.9}
    flops = 64 * _resnet_flops(3, (16, 32, 64))
    yield Task("ResNet-20, 64, Momentum", _resnet20, (64, 3, 32, 32), 10, "Momentum", flops, options)
    if gpu.in_use():
        flops = 512 * _resnet_flops(2, (64, 128, 256, 512))
        yield Task("ResNet-18, 512, Momentum", _resnet18, (512, 3, 32, 32), 10, "Momentum", flops, options)


def _resnet_flops(blocks: int, channels: tuple[int, ...]) -> float:
    """Of a training step on one image of 32x32, with so many blocks in each stage."""
    first, size = products(32, 3, channels[0], 3, 1, 1), 32
    stages = [2 * blocks * products(size, channels[0], channels[0], 3, 1, 1)]
    for fewer, filters in zip(channels, channels[1:]):
        stages += [products(size, fewer, filters, 3, 2, 1), products(size, fewer, filters, 1, 2)]
        size //= 2
        stages += [(2 * blocks - 1) * products(size, filters, filters, 3, 1, 1)]
    return 2.0 * (2 * first + 3 * sum(stages))


def lenet5() -> Task:
    """LeNet-5 on a batch of 100 with Adam."""
    conv1, conv2 = products(28, 1, 32, 5, 1, 2), products(14, 32, 64, 5, 1, 2)
    dense = 3136 * 512 + 512 * 10
    flops = 2.0 * 100 * (2 * conv1 + 3 * conv2 + 3 * dense)
    return Task("LeNet-5, batch 100, Adam", _lenet, (100, 1, 28, 28), 10, "Adam", flops, {"lr": 1e-3}, {"tf32": 120})


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


def _resnet20(nn):
    if nn.__name__ == "torch.nn":
        from ._torch_resnet import ResNet

        return ResNet((3, 3, 3), (16, 32, 64))
    from fastdl.models import resnet20

    return resnet20()


def _resnet18(nn):
    if nn.__name__ == "torch.nn":
        from ._torch_resnet import ResNet

        return ResNet((2, 2, 2, 2), (64, 128, 256, 512))
    from fastdl.models import resnet18_cifar

    return resnet18_cifar()
