"""Benchmarks on a GPU: whether it is in use, its name, waiting for it, and its ceilings."""

from __future__ import annotations

import contextlib
import time

import numpy as np

from .ceilings import Ceilings

SIZES = {"1 MB": 1 << 20, "16 MB": 1 << 24, "256 MB": 1 << 28, "1 GB": 1 << 30}  # of each of two arrays
SQUARE = 4096  # rows of the matrices whose product is timed
TRIALS, CALLS = 5, 10


def in_use() -> bool:
    """Whether fastdl makes its tensors on the GPU."""
    import fastdl

    return fastdl.get_device() == "cuda"


def synchronize() -> None:
    """Wait for all work on the GPU, if it is in use."""
    if in_use():
        _cupy().cuda.runtime.deviceSynchronize()


def name() -> str:
    """The GPU as its maker calls it."""
    found = _cupy().cuda.runtime.getDeviceProperties(_cupy().cuda.runtime.getDevice())["name"]
    return found.decode() if isinstance(found, bytes) else found


@contextlib.contextmanager
def precision(tf32: bool):
    """fastdl's precision of products and convolutions within the block; `rivals` gives PyTorch the same."""
    import fastdl

    before = fastdl.get_float32_matmul_precision()
    fastdl.set_float32_matmul_precision("high" if tf32 else "highest")
    try:
        yield
    finally:
        fastdl.set_float32_matmul_precision(before)


def uses_tf32() -> bool:
    """Whether products and convolutions may use TF32."""
    import fastdl

    return in_use() and fastdl.get_float32_matmul_precision() == "high"


def precision_name() -> str:
    """In words."""
    return "TF32 products and convolutions" if uses_tf32() else "float32 without TF32"


def _cupy():
    from fastdl import kernels

    return kernels.backend("cuda").cupy


class GpuCeilings(Ceilings):
    """FLOP/s of a large product by the quickest library there, and bytes/s of copies, at the precision in use."""

    def __init__(self, torch=None):
        super().__init__()
        self._torch = torch
        self._probe = self

    def measure(self) -> None:
        """Measure everything once more."""
        self._add("float32", 2.0 * SQUARE**3, self._product())
        cupy = _cupy()
        for size_name, size in SIZES.items():
            source = cupy.zeros(size // 4, np.float32)
            target = cupy.zeros(size // 4, np.float32)
            self._add(f"copy {size_name}", 2.0 * size, lambda s=source, t=target: cupy.copyto(t, s))
        self._last = time.monotonic()
        self.times += 1

    def lines(self) -> list[str]:
        """For the reader: each ceiling with its spread."""
        rates = ", ".join(f"{size} {self._amount(f'copy {size}')}" for size in SIZES)
        return [f"ceilings: product {self._amount('float32')} float32, copy {rates}"]

    def _measured(self) -> tuple:
        return ("copy",), SIZES

    def _product(self):
        if self._torch is not None:
            a = self._torch.ones(SQUARE, SQUARE, device="cuda")
            return lambda: self._torch.mm(a, a)
        from fastdl import kernels

        backend = kernels.backend("cuda")
        a = backend.cupy.zeros((SQUARE, SQUARE), np.float32)
        return lambda: backend.gemm(a, a)

    def _add(self, name: str, amount: float, call) -> None:
        call()
        seconds = []
        for _ in range(TRIALS):
            synchronize()
            start = time.perf_counter()
            for _ in range(CALLS):
                call()
            synchronize()
            seconds.append((time.perf_counter() - start) / CALLS)
        self._samples.setdefault(name, []).append(amount / min(seconds))
