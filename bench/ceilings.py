"""What the machine can do at best, measured in the same run as the cases: multiply-adds and memory.

A shared machine changes its speed while the cases run, so the ceilings are measured again every AGAIN seconds; the
report has the median and the spread. A working set of any size is set against the bandwidth measured around it: a small
one lies in a cache.
"""

from __future__ import annotations

import math
import statistics
import time

import numpy as np

SIZES = {"32 KB": 1 << 15, "1 MB": 1 << 20, "16 MB": 1 << 24, "256 MB": 1 << 28}
LOOPS = ("copy", "stream", "read")
AGAIN = 60.0  # seconds
TRIALS = 5


class Ceilings:
    """FLOP/s of multiply-adds and bytes/s of memory loops on all threads; empty without the compiled kernels.

    >>> ceilings = Ceilings()
    >>> ceilings.measure()
    >>> ceilings.seconds(flops=1e9, bytes=1e6) <= 0  # NaN without the compiled kernels
    False
    """

    def __init__(self):
        try:
            from fastdl import _cpu
        except ImportError:
            _cpu = None
        self._probe = _cpu
        self._samples: dict[str, list[float]] = {}
        self._last = -math.inf
        self.times = 0  # how often they were measured

    def measure(self) -> None:
        """Measure everything once more."""
        if self._probe is None:
            return
        for dtype in ("float32", "float64"):
            self._samples.setdefault(dtype, []).append(self._probe.measure_fma(dtype, trials=TRIALS))
        for name, size in SIZES.items():
            for loop in LOOPS:
                self._samples.setdefault(f"{loop} {name}", []).append(self._probe.measure_memory(loop, size, TRIALS))
        self._last = time.monotonic()
        self.times += 1

    def measure_if_due(self) -> None:
        """Measure again if the last time was AGAIN seconds ago."""
        if time.monotonic() - self._last > AGAIN:
            self.measure()

    def flops(self, dtype: str = "float32") -> float:
        """FLOP/s of multiply-adds; NaN if not measured."""
        return self._median(dtype)

    def bandwidth(self, size: float) -> float:
        """Bytes/s of the best memory loop over a working set of `size` bytes, between the sizes measured."""
        loops, sizes = self._measured()
        best = [max(self._median(f"{loop} {name}") for loop in loops) for name in sizes]
        return float(np.interp(math.log(max(size, 1)), [math.log(s) for s in sizes.values()], best))

    def seconds(self, flops: float, bytes: float) -> float:
        """The least time for this work: that of the arithmetic or that of the memory, whichever is longer."""
        arithmetic = flops / self.flops() if flops else 0.0
        return max(arithmetic, bytes / self.bandwidth(bytes) if bytes else 0.0)

    def report(self) -> dict:
        """For JSON: median, lowest and highest of every ceiling, and how often it was measured."""
        return {
            name: {"median": statistics.median(s), "low": min(s), "high": max(s), "samples": len(s)}
            for name, s in self._samples.items()
        }

    def lines(self) -> list[str]:
        """For the reader: each ceiling with its spread."""
        if not self._samples:
            return ["ceilings: none, they are measured with the compiled kernels"]
        single, double = (f"{self._amount(dtype)} {dtype}" for dtype in ("float32", "float64"))
        lines = [f"ceilings: multiply-add {single}, {double}"]
        for name in SIZES:
            rates = ", ".join(f"{loop} {self._amount(f'{loop} {name}')}" for loop in LOOPS)
            lines.append(f"  {name:>6}: {rates}")
        return lines

    def _measured(self) -> tuple:
        """The memory loops, and the sizes of their working sets."""
        return LOOPS, SIZES

    def _median(self, name: str) -> float:
        return statistics.median(self._samples.get(name, [math.nan]))

    def _amount(self, name: str) -> str:
        samples, median = self._samples[name], self._median(name)
        unit = "GF/s" if name.startswith("float") else "GB/s"
        spread = f" +-{100 * (max(samples) - min(samples)) / 2 / median:.0f}%" if len(samples) > 1 else ""
        return f"{median / 1e9:.0f} {unit}{spread}"
