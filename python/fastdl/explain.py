"""The report of a recorded program: what `CapturedStep.explain()` returns."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass
class Row:
    """One call. call: the kernel's name, or the names of several that are made together, piece by piece; arrays: (role,
    shape, item size) of each array argument, role "read", "write" or "update"; bytes: of all of them once; flops:
    multiplies and adds of matrix products and convolutions (with the zeros around an image, which kernels may leave
    out), 0 for others; seconds: median.
    """

    call: str
    arrays: list
    bytes: int
    flops: float
    seconds: float


@dataclass
class Report:
    """A program call by call; `print(report)` shows the table.

    memory: bytes of the program's intermediates; shapes: of its inputs; programs: how many the step has, of which this
    one was replayed most often.
    """

    rows: list[Row]
    memory: int
    shapes: list[tuple]
    programs: int = 1

    @classmethod
    def of(cls, program, rounds: int, programs: int = 1) -> Report:
        """Time every call of a `capture._Program`, one of several."""
        seconds = program.native.time(rounds)
        rows = []
        for (call, arrays), taken in zip(program.native.calls(), seconds):
            total = sum(math.prod(shape) * size for _, shape, size in arrays)
            rows.append(Row(call, arrays, total, _flops(call, arrays), taken))
        return cls(rows, program.native.arena_bytes, program.shapes, programs)

    @property
    def seconds(self) -> float:
        """The sum over all calls."""
        return sum(row.seconds for row in self.rows)

    def __str__(self) -> str:
        total = self.seconds or 1.0
        lines = [f"{'call':<26}{'result':<18}{'bytes':>8}{'rate':>13}{'time':>9}{'share':>6}"]
        for row in self.rows:
            written = [shape for role, shape, _ in row.arrays if role != "read"]
            result = "x".join(map(str, written[0])) if written else ""
            more = f" +{len(written) - 1}" if len(written) > 1 else ""
            share = f"{100 * row.seconds / total:.0f}%"
            lines.append(
                f"{_short(row.call):<26}{(result or '()' if written else '') + more:<18}{_bytes(row.bytes):>8}"
                f"{_rate(row):>13}{duration(row.seconds):>9}{share:>6}"
            )
        flops = sum(row.flops for row in self.rows)
        lines.append(
            f"{len(self.rows)} calls, {duration(self.seconds)}, {flops / total / 1e9:.0f} GFLOP/s, "
            f"{_bytes(self.memory)} of intermediates"
        )
        if self.programs > 1:
            shapes = ", ".join("x".join(map(str, shape)) or "()" for shape in self.shapes) or "none"
            lines.append(f"the most replayed of {self.programs} programs, inputs {shapes}")
        return "\n".join(lines)


def _short(call: str) -> str:
    """The name of a call in 25 characters; a chain's is those of its calls."""
    return call if len(call) <= 25 else call[:23] + ".."


def _flops(call: str, arrays: list) -> float:
    read = [shape for role, shape, _ in arrays if role == "read"]
    written = [shape for role, shape, _ in arrays if role != "read"]
    if call in ("gemm", "linear_forward"):
        return 2.0 * math.prod(written[0]) * read[0][-1]
    if call == "conv2d_forward":
        return 2.0 * math.prod(written[0]) * math.prod(read[1][1:])
    if call in ("linear_backward", "conv2d_backward"):
        dy, x, weight = read[:3]
        one = 2.0 * math.prod(dy) * math.prod(weight[1:])
        return one * ((x in written) + (weight in written))
    return 0.0


def _rate(row: Row) -> str:
    if row.flops:
        return f"{row.flops / row.seconds / 1e9:.0f} GFLOP/s" if row.seconds else ""
    return f"{row.bytes / row.seconds / 1e9:.1f} GB/s" if row.seconds else ""


def _bytes(count: int) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count} B"


def duration(seconds: float) -> str:
    """A time with three digits and its unit."""
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.4g} {unit}" if seconds * factor >= 1000 else f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"
