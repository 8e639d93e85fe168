"""What a benchmark case is: one piece of work and the functions that do it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from . import precision

Run = Callable[[], object]


@dataclass
class Case:
    """One row of the report.

    family: kernel family, e.g. "conv2d"; name: what and which shape. flops: arithmetic of one call (a multiply and an
    add count 2); bytes: fewest bytes that must cross memory. runs: rival to a function without arguments that returns
    its result (an array, or a tuple of them); "fastdl" must be there. Or a function that makes this dictionary, called
    only if the case is wanted. A rival with several ways to do the work has a dictionary of them, {"channels_last":
    ...}: the quickest is timed.
    The check: every rival's result must equal that of `reference`; where calls change their arrays (training steps),
    the results of the first `steps` calls. others: rivals that do the same work but can't give the same result (their
    random numbers differ); timed, not checked. shown: rival to a function that makes of a run's result what can be
    compared. pieces: how many pieces of work are in one call; times, flops and bytes are of one. graph: on a GPU, some
    calls of each rival are recorded as a CUDA graph, whose time is the GPU's and not that of Python and of launches.
    target: microseconds to be reached on an H200, by precision.
    """

    family: str
    name: str
    runs: dict[str, Run | dict[str, Run]] | Callable[[], dict]
    flops: float = 0.0
    bytes: float = 0.0
    tolerance: float = 1e-3
    reference: str = "numpy"
    steps: int = 1
    pieces: int = 1
    graph: bool = False
    target: dict[str, float] = field(default_factory=dict)
    others: dict[str, Run] = field(default_factory=dict)
    shown: dict[str, Callable] = field(default_factory=dict)

    def ways(self) -> dict[str, dict[str, Run]]:
        """The runs, each rival with a dictionary of its ways; a single one has the name ""."""
        if callable(self.runs):
            self.runs = self.runs()
        return {rival: run if isinstance(run, dict) else {"": run} for rival, run in (self.runs | self.others).items()}


def calls(kernel: str, *arguments) -> dict[str, Run]:
    """The runs of one kernel call: fastdl's backend in use, and the NumPy reference."""
    from fastdl.kernels import numpy as reference

    placed = tuple(map(place, arguments))
    ours, theirs = getattr(backend(*placed), kernel), getattr(reference, kernel)
    arguments = tuple(map(precision.rounded, arguments))
    return {"fastdl": lambda: ours(*placed), "numpy": lambda: theirs(*arguments)}


def several_calls(function: Callable, *arrays, per_channel=()) -> dict[str, Run]:
    """The runs of function(kernels, *arrays, *per_channel): with fastdl's backend in use, and with the NumPy reference.

    per_channel: arrays that stay float32 in every precision.
    """
    from fastdl.kernels import numpy as reference

    placed = (*map(place, arrays), *(place(array, low=False) for array in per_channel))
    ours = backend(*placed)
    given = (*map(precision.rounded, arrays), *per_channel)
    return {"fastdl": lambda: function(ours, *placed), "numpy": lambda: function(reference, *given)}


def backend(*arguments):
    """The kernels of the device in use, for these arguments."""
    import fastdl
    from fastdl import kernels

    module = kernels.backend(fastdl.get_device())
    return kernels.of(*filter(kernels.is_array, arguments)) if precision.low() else module


def place(value, low: bool = True):
    """An array where the device in use wants it, in the precision in use (low); anything else as it is."""
    import numpy as np

    from fastdl import kernels

    if not isinstance(value, np.ndarray):
        return value
    return kernels.place(precision.lowered(value) if low else value)


def to_numpy(value):
    """An array or tensor of any framework, from wherever it lies."""
    import numpy as np

    from fastdl import kernels

    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if "bfloat16" in str(value.dtype) else value
    array = np.asarray(kernels.to_host(value))
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def normal(rng, *shape: int):
    """A random float32 array on a 64-byte border, where fastdl and PyTorch place theirs and NumPy does not."""
    import numpy as np

    count = math.prod(shape)
    room = np.empty(count + 16, np.float32)
    skip = -room.ctypes.data % 64 // 4
    array = room[skip : skip + count].reshape(shape)
    array[...] = rng.standard_normal(shape, np.float32)
    return array


def products(size: int, channels: int, filters: int, kernel: int, stride: int = 1, padding: int = 0) -> int:
    """Multiply-adds of a convolution of one square image, without those with the zeros around it."""
    outputs = range(-padding, size + padding - kernel + 1, stride)
    inside = sum(0 <= at + tap < size for at in outputs for tap in range(kernel))
    return inside * inside * channels * filters


def random_images(rng, n: int, c: int, h: int, w: int):
    """An array of `normal` of shape (n, c, h, w), channels-last in memory as layers hand it on."""
    import numpy as np

    return np.moveaxis(normal(rng, n, h, w, c), 3, 1)


def formats(rivals, *arrays):
    """Pairs of a way's name and the arrays as tensors: PyTorch's two memory formats of images."""
    torch = rivals.torch
    for way, layout in (("channels_last", torch.channels_last), ("contiguous", torch.contiguous_format)):
        yield way, [rivals.tensor(array).contiguous(memory_format=layout) for array in arrays]
