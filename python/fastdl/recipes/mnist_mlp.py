"""Dense network 784-500-10 on MNIST: 98 % of the test images right.

The last 5,000 of the 60,000 training images are for validation; the 10,000 test images are seen at the end only.
"""

from __future__ import annotations

from dataclasses import dataclass

from .settings import SCHEDULES, setting
from .settings import Settings as Base


@dataclass(kw_only=True)
class Settings(Base):
    """Settings of the recipe."""

    epochs: int = setting(12, "epochs to train in all", least=1)
    batch_size: int = setting(100, "images per step", least=1)
    lr: float = setting(1e-3, "learning rate", above=0)
    schedule: str = setting("cosine", "learning rate over the run", choices=SCHEDULES)
    hidden: int = setting(500, "units in the hidden layer", least=1)
    dropout: float = setting(0.2, "dropped before the last layer", least=0, below=1)
    validation: int = setting(5000, "images split off the training set to validate with", least=1)
    data_dir: str | None = setting(None, "folder with mnist/ in it; default FASTDL_DATA, else downloaded")


def build(settings: Settings):
    """The model and the data."""
    from .. import models, nn
    from .task import MNIST_CONVERSION, Task, mnist_loaders

    train, validation, test = mnist_loaders(settings.data_dir, settings.batch_size, settings.validation)
    model = models.MLP((784, settings.hidden, 10), dropout=settings.dropout)
    parts = (train, validation, test)
    return Task(model, nn.CrossEntropyLoss(), *parts, image_shape=(1, 28, 28), conversion=MNIST_CONVERSION)
