"""Settings of a recipe: a dataclass whose fields say what they mean and what is allowed."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from dataclasses import dataclass

from ..functional.precision import PRECISIONS

OPTIMIZERS = ("sgd", "rmsprop", "adam", "adamw")
SCHEDULES = ("constant", "cosine", "step")


def setting(default, text: str, *, least=None, above=None, below=None, choices=None):
    """A field of `Settings`: default, one line of help, and the allowed values."""
    limits = {"least": least, "above": above, "below": below, "choices": choices}
    return dataclasses.field(default=default, metadata={"help": text, **limits})


@dataclass(kw_only=True)
class Settings:
    """What every recipe can be told. A recipe adds its own fields and changes defaults.

    Raises TypeError or ValueError naming the setting, what it was and what is allowed.
    """

    epochs: int = setting(10, "epochs to train in all", least=1)
    steps: int | None = setting(None, "stop after so many steps in all; overrides epochs", least=1)
    batch_size: int = setting(100, "samples per step", least=1)
    optimizer: str = setting("adam", "update rule", choices=OPTIMIZERS)
    lr: float = setting(1e-3, "learning rate", above=0)
    momentum: float = setting(0.0, "momentum of sgd and rmsprop", least=0, below=1)
    weight_decay: float = setting(0.0, "weight decay", least=0)
    schedule: str = setting("constant", "learning rate over the run", choices=SCHEDULES)
    max_grad_norm: float | None = setting(None, "clip the gradient to this norm", above=0)
    patience: int | None = setting(None, "stop after so many epochs without lower validation loss", least=1)
    precision: str = setting("fp32", "bf16: products in bfloat16, for GPUs", choices=PRECISIONS)
    seed: int = setting(0, "of initial weights, shuffles and dropout", least=0)
    checkpoint_epochs: int = setting(1, "save a checkpoint every so many epochs", least=1)
    checkpoint_steps: int | None = setting(None, "and every so many steps", least=1)
    tensorboard: bool = setting(False, "write TensorBoard event files to the run folder")

    def __post_init__(self):
        for name, (kind, optional) in kinds(type(self)).items():
            setattr(self, name, _checked(type(self), name, getattr(self, name), kind, optional))

    @classmethod
    def from_dict(cls, values: dict):
        """Settings with some values given; an unknown key is a ValueError with the nearest match and the valid ones."""
        for key in values:
            check_key(cls, key)
        return cls(**values)


def kinds(cls) -> dict:
    """{field: (type, whether None is allowed)} of a Settings class."""
    hints = typing.get_type_hints(cls)
    found = {}
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        found[field.name] = (next(o for o in options if o is not type(None)), type(None) in options)
    return found


def check_key(cls, key: str) -> None:
    """Raise ValueError for a setting that does not exist, with the nearest match and the valid ones."""
    names = [field.name for field in dataclasses.fields(cls)]
    if key not in names:
        near = difflib.get_close_matches(key, names, n=1)
        hint = f", did you mean {near[0]!r}?" if near else ";"
        raise ValueError(f"unknown setting {key!r}{hint} Valid settings: {', '.join(sorted(names))}")


def parse(cls, key: str, text: str):
    """The value that `text` spells for the field `key`; "none" where None is allowed. Raises ValueError."""
    check_key(cls, key)
    kind, optional = kinds(cls)[key]
    if optional and text.lower() == "none":
        return None
    if kind is bool:
        words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if text.lower() not in words:
            raise ValueError(f"setting {key!r} must be true or false, got {text!r}")
        return words[text.lower()]
    try:
        return kind(text)
    except ValueError:
        name = {int: "an integer", float: "a number"}[kind]
        raise ValueError(f"setting {key!r} must be {name}{' or none' if optional else ''}, got {text!r}") from None


def describe(cls, name: str) -> str:
    """The allowed values of a field in words."""
    limits = next(field.metadata for field in dataclasses.fields(cls) if field.name == name)
    kind, optional = kinds(cls)[name]
    if limits.get("choices"):
        return " or ".join(limits["choices"])
    words = {int: "an integer", float: "a finite number", bool: "true or false", str: "text"}[kind]
    if limits.get("least") is not None:
        words += f", at least {limits['least']:g}"
    if limits.get("above") is not None:
        words += f" above {limits['above']:g}"
    if limits.get("below") is not None:
        words += f" and below {limits['below']:g}"
    return words + (" or none" if optional else "")


def _checked(cls, name: str, value, kind: type, optional: bool):
    if value is None and optional:
        return None
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"setting {name!r} must be {describe(cls, name)}, got {value!r}")
    limits = next(field.metadata for field in dataclasses.fields(cls) if field.name == name)
    wrong = (
        (limits.get("choices") and value not in limits["choices"])
        or (kind is float and not math.isfinite(value))
        or (limits.get("least") is not None and value < limits["least"])
        or (limits.get("above") is not None and value <= limits["above"])
        or (limits.get("below") is not None and value >= limits["below"])
    )
    if wrong:
        raise ValueError(f"setting {name!r} must be {describe(cls, name)}, got {value!r}")
    return value
