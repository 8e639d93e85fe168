"""What a recipe builds, and the parts that all of them share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import get_device, optim
from ..data import ArrayDataset, DataLoader, load_mnist, mnist
from ..data.dataset import fits_on_gpu
from .settings import Settings


@dataclass
class Task:
    """A model, its loss and its data. `train` gives shuffled batches, `validation` and `test` ordered ones."""

    model: Any
    loss: Any
    train: Any
    validation: Any
    test: Any
    metrics: tuple = ("accuracy",)
    unit: str = "images"
    image_shape: tuple | None = None  # (C, H, W) of an input, to draw a dense first layer as images
    conversion: dict | None = None  # how a raw input became the model's: (x * scale - mean) / std


def make_optimizer(settings: Settings, parameters):
    """The optimizer that the settings name."""
    common = {"lr": settings.lr, "weight_decay": settings.weight_decay}
    if settings.optimizer == "sgd":
        return optim.SGD(parameters, momentum=settings.momentum, **common)
    if settings.optimizer == "rmsprop":
        return optim.RMSprop(parameters, momentum=settings.momentum, **common)
    return {"adam": optim.Adam, "adamw": optim.AdamW}[settings.optimizer](parameters, **common)


def make_scheduler(settings: Settings, optimizer, total_steps: int):
    """The schedule that the settings name, advanced every step, or None for a constant rate.

    cosine: from lr to 0 over the run. step: a tenth of it after half of the run, a hundredth after 3/4.
    """
    if settings.schedule == "cosine":
        return optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=total_steps)
    if settings.schedule == "step":
        milestones = [max(1, total_steps // 2), max(2, total_steps * 3 // 4)]
        return optim.lr_scheduler.MultiStepLR(optimizer, milestones=milestones, gamma=0.1)
    return None


MNIST_CONVERSION = {"scale": 1 / 255, "mean": mnist.MEAN, "std": mnist.STD}


def mnist_loaders(data_dir: str | None, batch_size: int, validation: int) -> tuple:
    """(train, validation, test) loaders of MNIST, normalised.

    The last `validation` images of the training set are split off, as is the custom: accuracies can be compared with
    those that others report, and don't depend on a seed.
    """
    data = load_mnist(data_dir)
    count = len(data.train_images) - validation
    if count <= 0:
        raise ValueError(
            f"setting 'validation' must be below the {len(data.train_images)} training images, got {validation}"
        )
    train = ArrayDataset(data.train_images[:count], data.train_labels[:count])
    held_out = ArrayDataset(data.train_images[count:], data.train_labels[count:])
    test = ArrayDataset(data.test_images, data.test_labels)
    return loaders(train, held_out, test, batch_size, **MNIST_CONVERSION)


def loaders(train, validation, test, batch_size: int, **conversion) -> tuple:
    """(train, validation, test) loaders: shuffled batches to train on, larger ordered ones to measure with.

    On a GPU the data sets are copied there, those that don't fit batch by batch.
    """
    on_gpu = get_device() == "cuda"

    def loader(part, size: int, shuffle: bool):
        part = part.to("cuda") if on_gpu and fits_on_gpu(part) else part
        return DataLoader(part, size, shuffle, device="cuda" if on_gpu else None, **conversion)

    large = max(batch_size, 500)
    return loader(train, batch_size, True), loader(validation, large, False), loader(test, large, False)


def floats(array) -> np.ndarray:
    """The array as float32."""
    return np.asarray(array, dtype=np.float32)
