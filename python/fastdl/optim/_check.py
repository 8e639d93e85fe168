"""Checks of hyper-parameters, in the words of the kernels' checks."""

from __future__ import annotations

import math
import numbers


def number(
    owner: str, name: str, value, low: float = -math.inf, high: float = math.inf, open_high: bool = False
) -> float:
    """value as a float, if it is a finite number in [low, high], or [low, high) with open_high."""
    if not isinstance(value, numbers.Real):
        raise TypeError(f"{owner}: {name} must be a number, got {type(value).__name__}")
    value = float(value)
    if not math.isfinite(value):
        raise ValueError(f"{owner}: {name} must be finite, got {value:g}")
    if value < low or value > high or (open_high and value == high):
        if high == math.inf:
            allowed = f"at least {low:g}"
        else:
            allowed = f"in [{low:g}, {high:g}{')' if open_high else ']'}"
        raise ValueError(f"{owner}: {name} must be {allowed}, got {value:g}")
    return value


def betas(owner: str, value) -> tuple[float, float]:
    """value as a pair of floats in [0, 1)."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(f"{owner}: betas must be a pair of numbers, got {value!r}")
    return (
        number(owner, "betas[0]", value[0], 0, 1, open_high=True),
        number(owner, "betas[1]", value[1], 0, 1, open_high=True),
    )


def integer(owner: str, name: str, value, low: int) -> int:
    """value as an int, if it is a whole number of at least `low`."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        raise TypeError(f"{owner}: {name} must be an int, got {type(value).__name__}")
    if value < low:
        raise ValueError(f"{owner}: {name} must be at least {low}, got {value}")
    return int(value)


def flag(owner: str, name: str, value) -> bool:
    """value, if it is a bool."""
    if not isinstance(value, bool):
        raise TypeError(f"{owner}: {name} must be a bool, got {type(value).__name__}")
    return value
