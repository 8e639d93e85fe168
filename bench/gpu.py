"""Benchmarks on a GPU: whether it is in use, its name, waiting for it, and its ceilings."""

from __future__ import annotations

import time

import numpy as np

from . import precision
from .ceilings import Ceilings

SIZES = {"1 MB": 1 << 20, "16 MB": 1 << 24, "256 MB": 1 << 28, "1 GB": 1 << 30}  # of each of two arrays
SQUARE = 4096  # rows of the matrices whose product is timed
TRIALS, CALLS = 5, 10
REPEATS = 10  # calls of a kernel in a graph
GRAPHS = {  # the families of kernels that are timed in one
    *("gemm", "linear", "conv2d", "pool2d", "batch_norm", "activation", "elementwise", "softmax", "cross_entropy"),
    "dropout",
}

_recorded: dict = {}  # the stream and the memory of fastdl's graph, of which there is one at a time


def in_use() -> bool:
    """Whether fastdl makes its tensors on the GPU."""
    import fastdl

    return fastdl.get_device() == "cuda"


def synchronize() -> None:
    """Wait for all work on the GPU, if it is in use."""
    if in_use():
        _cupy().cuda.runtime.deviceSynchronize()


def repeated(rival: str, run):
    """A function that launches a CUDA graph of `REPEATS` calls of `run`, on which nothing of Python is timed."""
    if rival == "fastdl":
        return _graph(run)

    def several():
        for _ in range(REPEATS):
            run()

    return torch_graph(several) if rival == "torch" else several


def _graph(run):
    cupy = _cupy()
    if not _recorded:
        _recorded.update(stream=cupy.cuda.Stream(non_blocking=True), pool=cupy.cuda.MemoryPool())
    stream, pool = _recorded["stream"], _recorded["pool"]
    synchronize()
    pool.free_all_blocks()  # of the graph before, which is not launched any more
    with cupy.cuda.using_allocator(pool.malloc), stream:
        for _ in range(2):  # makes what can't be made while it records
            run()
        synchronize()
        stream.begin_capture()
        try:
            for _ in range(REPEATS):
                run()
        finally:
            graph = stream.end_capture()
    return graph.launch


def torch_graph(step):
    """A call in PyTorch recorded as a CUDA graph by hand, after three calls on another stream, as its notes say."""
    import torch

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = step()

    def replay():
        graph.replay()
        return result

    return replay


def name() -> str:
    """The GPU as its maker calls it."""
    found = _cupy().cuda.runtime.getDeviceProperties(_cupy().cuda.runtime.getDevice())["name"]
    return found.decode() if isinstance(found, bytes) else found


def _cupy():
    from fastdl import kernels

    return kernels.backend("cuda").cupy


class GpuCeilings(Ceilings):
    """FLOP/s of a large product by the quickest library there, and bytes/s of copies, at the precision in use; what a
    kernel costs that does nothing, called from Python and in a graph. All but the calls are timed in graphs, as kernels
    are.
    """

    def __init__(self, torch=None):
        super().__init__()
        self._torch = torch
        self._probe = self

    def measure(self) -> None:
        """Measure everything once more."""
        from fastdl import kernels

        self._add("float32", 2.0 * SQUARE**3, self._product())
        cupy = _cupy()
        for size_name, size in SIZES.items():
            source = cupy.zeros(size // 4, np.float32)
            target = cupy.zeros(size // 4, np.float32)
            self._add(f"copy {size_name}", 2.0 * size, lambda s=source, t=target: cupy.copyto(t, s))
        kernel, one, other = kernels.backend("cuda").accumulate, cupy.zeros(1, np.float32), cupy.zeros(1, np.float32)
        self._add("nodes", 1.0, lambda: kernel(one, other))
        self._add("calls", 1.0, lambda: kernel(one, other), graph=False)
        self._last = time.monotonic()
        self.times += 1

    def lines(self) -> list[str]:
        """For the reader: each ceiling with its spread."""
        rates = ", ".join(f"{size} {self._amount(f'copy {size}')}" for size in SIZES)
        node, call = (f"{1e6 / self._median(name):.2f} us" for name in ("nodes", "calls"))
        lines = [f"ceilings: product {self._amount('float32')} {precision.current}, copy {rates}"]
        return [*lines, f"  a kernel of one element: {node} in a graph, {call} called from Python"]

    def _measured(self) -> tuple:
        return ("copy",), SIZES

    def _product(self):
        from fastdl import kernels

        if self._torch is not None:
            dtype = self._torch.bfloat16 if precision.low() else self._torch.float32
            a = self._torch.randn(SQUARE, SQUARE, device="cuda").to(dtype)  # of zeros or ones it would be quicker
            return lambda: self._torch.mm(a, a)
        a = np.random.default_rng(0).standard_normal((SQUARE, SQUARE), np.float32)
        a = kernels.place(precision.lowered(a), "cuda")
        return lambda: kernels.of(a).gemm(a, a)

    def _add(self, name: str, amount: float, call, graph: bool = True) -> None:
        if graph:
            call = repeated("torch" if name == "float32" and self._torch else "fastdl", call)
        call()
        seconds = []
        for _ in range(TRIALS):
            synchronize()
            start = time.perf_counter()
            for _ in range(CALLS):
                call()
            synchronize()
            seconds.append((time.perf_counter() - start) / (CALLS * (REPEATS if graph else 1)))
        self._samples.setdefault(name, []).append(amount / min(seconds))
