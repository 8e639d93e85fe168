"""What a benchmark case is: one piece of work and the functions that do it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Case:
    """One row of the report.

    family: kernel family, e.g. "conv2d"; name: what and which shape. flops: arithmetic of one call (a multiply and an
    add count 2); bytes: fewest bytes that must cross memory. runs: rival name to a function without arguments; "fastdl"
    must be there, each returns its result (an array, or a tuple of them) for the check against "numpy". A run that
    changes its arrays in place sets check=False and says in its family's test where it is checked.
    """

    family: str
    name: str
    runs: dict[str, Callable[[], object]]
    flops: float = 0.0
    bytes: float = 0.0
    check: bool = True
    tolerance: float = 1e-3
    extra: dict = field(default_factory=dict)


def torch_or_none():
    """PyTorch if it is installed, else None."""
    try:
        import torch
    except ImportError:
        return None
    return torch
