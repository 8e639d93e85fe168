"""What a benchmark case is: one piece of work and the functions that do it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Case:
    """One row of the report.

    family: kernel family, e.g. "conv2d"; name: what and which shape. flops: arithmetic of one call (a multiply and an
    add count 2); bytes: fewest bytes that must cross memory. runs: rival name to a function without arguments; "fastdl"
    must be there, and each returns its result (an array, or a tuple of them) for the check against `reference`. A run
    that changes its arrays in place sets check=False. others: rivals that do the same work but can't give the same
    result (their random numbers differ); timed, not checked.
    """

    family: str
    name: str
    runs: dict[str, Callable[[], object]]
    flops: float = 0.0
    bytes: float = 0.0
    check: bool = True
    tolerance: float = 1e-3
    reference: str = "numpy"
    others: dict[str, Callable[[], object]] = field(default_factory=dict)


def calls(kernel: str, *arguments) -> dict[str, Callable[[], object]]:
    """The runs of one kernel call: fastdl's backend in use, and the NumPy reference."""
    from fastdl import kernels
    from fastdl.kernels import numpy as reference

    ours, theirs = getattr(kernels.host(), kernel), getattr(reference, kernel)
    return {"fastdl": lambda: ours(*arguments), "numpy": lambda: theirs(*arguments)}


def random_images(rng, n: int, c: int, h: int, w: int):
    """A float32 array of shape (n, c, h, w), channels-last in memory as layers hand it on."""
    import numpy as np

    return np.moveaxis(rng.standard_normal((n, h, w, c), dtype=np.float32), 3, 1)


def torch_or_none():
    """PyTorch if it is installed, else None."""
    try:
        import torch
    except ImportError:
        return None
    return torch
