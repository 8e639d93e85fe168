"""Small convolutional network on the 8x8 digits that ship with fastdl.

SmallCNN on the UCI optical digits: 1,258 images to train on, 180 for validation, 359 to test with.
"""

from __future__ import annotations

from dataclasses import dataclass

from .settings import SCHEDULES, setting
from .settings import Settings as Base


@dataclass(kw_only=True)
class Settings(Base):
    """Settings of the recipe."""

    epochs: int = setting(15, "epochs to train in all", least=1)
    batch_size: int = setting(32, "images per step", least=1)
    lr: float = setting(2e-3, "learning rate", above=0)
    schedule: str = setting("cosine", "learning rate over the run", choices=SCHEDULES)
    dropout: float = setting(0.25, "dropped before the last layer", least=0, below=1)


def build(settings: Settings):
    """The model and the data."""
    from .. import data, models, nn
    from .task import Task, loaders

    images, labels, *rows = data.load_digits()
    parts = [data.Subset(data.ArrayDataset(images, labels), part) for part in rows]
    conversion = {"scale": 1 / 16, "mean": data.digits.MEAN, "std": data.digits.STD}
    train, validation, test = loaders(*parts, settings.batch_size, **conversion)
    model = models.SmallCNN(dropout=settings.dropout)
    return Task(model, nn.CrossEntropyLoss(), train, validation, test, image_shape=(1, 8, 8), conversion=conversion)
