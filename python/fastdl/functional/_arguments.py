"""Turning the arguments that people type into what kernels take."""

from __future__ import annotations

import numbers

import numpy as np

from ..tensor import Tensor, check_tensor


def pair(function: str, name: str, value) -> tuple:
    """An int or a pair of ints as a tuple (height, width); their range is the kernel's to check."""
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return (int(value), int(value))
    if isinstance(value, (tuple, list)) and len(value) == 2:
        if all(isinstance(v, (int, np.integer)) and not isinstance(v, bool) for v in value):
            return (int(value[0]), int(value[1]))
    raise TypeError(f"{function}: {name} must be an int or a pair of ints, got {value!r}")


def flag(function: str, name: str, value) -> bool:
    """A bool."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{function}: {name} must be a bool, got {type(value).__name__}")
    return bool(value)


def number(function: str, name: str, value) -> float:
    """A Python or NumPy number; its range is the kernel's to check."""
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        return float(value)
    raise TypeError(f"{function}: {name} must be a number, got {type(value).__name__}")


def images(function: str, input) -> Tensor:
    """A Tensor of images, (N, C, H, W) or (C, H, W)."""
    check_tensor(function, "input", input)
    if input.data.ndim not in (3, 4):
        raise ValueError(
            f"{function}: input must have 4 dimensions (N, C, H, W) or 3 (C, H, W), got shape {input.data.shape}"
        )
    return input


def without_grad(function: str, **tensors) -> None:
    """Tensors (or None) that an operation treats as constants."""
    for name, value in tensors.items():
        if value is not None:
            check_tensor(function, name, value)
            if value._requires:
                raise ValueError(f"{function}: {name} must not require grad; detach() it")
