"""Ready-made models, small and plain; `fastdl.recipes` trains them."""

from fastdl.models.lenet import LeNet5
from fastdl.models.mlp import MLP, Xor
from fastdl.models.resnet import ResNet, ResNetCifar, resnet18_cifar, resnet20
from fastdl.models.small_cnn import SmallCNN

__all__ = ["MLP", "LeNet5", "ResNet", "ResNetCifar", "SmallCNN", "Xor", "resnet18_cifar", "resnet20"]
