"""Checks of constructor arguments: errors name the layer, the argument, what it was and what is allowed."""

from __future__ import annotations

import math
import numbers


def _is_int(value) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def integer(layer: str, name: str, value, low: int = 1, high: int | None = None) -> int:
    """value is an int, at least `low` and, where given, below `high`."""
    if not _is_int(value):
        raise TypeError(f"{layer}: {name} must be an int, got {value!r}")
    if high is not None and not low <= value < high:
        raise ValueError(f"{layer}: {name} must lie in [{low}, {high}), got {value}")
    if value < low:
        raise ValueError(f"{layer}: {name} must be at least {low}, got {value}")
    return int(value)


def pair(layer: str, name: str, value, low: int = 1) -> tuple[int, int]:
    """value is an int or a pair of ints, each at least `low`; returned as a pair."""
    parts = (value, value) if _is_int(value) else value
    if not (isinstance(parts, (tuple, list)) and len(parts) == 2 and all(map(_is_int, parts))):
        raise TypeError(f"{layer}: {name} must be an int or a pair of ints, got {value!r}")
    if min(parts) < low:
        raise ValueError(f"{layer}: {name} must be at least {low}, got {value!r}")
    return int(parts[0]), int(parts[1])


def number(layer: str, name: str, value, low: float = -math.inf, high: float = math.inf, positive=False) -> float:
    """value is a finite number in [low, high], above 0 with `positive`."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise TypeError(f"{layer}: {name} must be a number, got {value!r}")
    if math.isfinite(value) and low <= value <= high and not (positive and value <= 0):
        return value
    if positive:
        allowed = "be positive and finite"
    elif high < math.inf:
        allowed = f"lie in [{low:g}, {high:g}]"
    else:
        allowed = "be finite" if low == -math.inf else f"be finite and at least {low:g}"
    raise ValueError(f"{layer}: {name} must {allowed}, got {value}")


def flag(layer: str, name: str, value) -> bool:
    """value is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{layer}: {name} must be True or False, got {value!r}")
    return value


def choice(layer: str, name: str, value, allowed: tuple) -> str:
    """value is one of the strings in `allowed`."""
    if value not in allowed:
        words = ", ".join(f"'{word}'" for word in allowed)
        raise ValueError(f"{layer}: {name} must be one of {words}, got {value!r}")
    return value
