"""2-3-1 network that learns exclusive or: cross-entropy, SGD.

Four points, used to train, to validate and to test: there are no others.
"""

from __future__ import annotations

from dataclasses import dataclass

from .settings import OPTIMIZERS, setting
from .settings import Settings as Base


@dataclass(kw_only=True)
class Settings(Base):
    """Settings of the recipe."""

    epochs: int = setting(300, "epochs to train in all, one step each", least=1)
    batch_size: int = setting(4, "points per step", least=1)
    optimizer: str = setting("sgd", "update rule", choices=OPTIMIZERS)
    lr: float = setting(0.5, "learning rate", above=0)
    momentum: float = setting(0.9, "momentum of sgd and rmsprop", least=0, below=1)
    hidden: int = setting(3, "units in the hidden layer", least=1)
    checkpoint_epochs: int = setting(100, "save a checkpoint every so many epochs", least=1)


def build(settings: Settings):
    """The model and the data."""
    from .. import data, models, nn
    from .task import Task, floats, loaders

    points = data.ArrayDataset(floats([[0, 0], [0, 1], [1, 0], [1, 1]]), floats([[0], [1], [1], [0]]))
    train, validation, test = loaders(points, points, points, settings.batch_size)
    return Task(models.Xor(settings.hidden), nn.BCEWithLogitsLoss(), train, validation, test, unit="points")
