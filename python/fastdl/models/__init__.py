"""Ready-made models, small and plain; `fastdl.recipes` trains them."""

from fastdl.models.lenet import LeNet5
from fastdl.models.mlp import MLP, Xor
from fastdl.models.resnet import ResNetCifar, resnet20
from fastdl.models.small_cnn import SmallCNN

__all__ = ["MLP", "LeNet5", "ResNetCifar", "SmallCNN", "Xor", "resnet20"]
