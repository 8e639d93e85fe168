"""How the cost of a training step grows: an MLP over batch sizes and over widths, beside the rivals."""

from __future__ import annotations

from collections.abc import Callable

from .training._step import step_case
from .training.mlp import mlp

NAME = "sweep MLP"
INPUTS, CLASSES = 784, 10
BATCH, WIDTH = 128, 512
AXES = {"batch": [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024], "width": [16, 32, 64, 128, 256, 512, 1024, 2048]}
ROUNDS = 7


def measure(rivals, ceilings, table, row_of: Callable) -> dict:
    """Verify and time every step: per axis "values", and per rival the medians and quartiles in seconds.

    "ceiling" is the least time that the machine could take. table: a `report.Table`, which gets a row for each step;
    row_of: makes it of a case.
    """
    found, steps = {}, sum(map(len, AXES.values()))
    for axis, values in AXES.items():
        lines: dict[str, dict[str, list[float]]] = {}
        for number, value in enumerate(values, sum(len(before["values"]) for before in found.values()) + 1):
            case = _case(rivals, axis, value)
            table.measuring(f"{case.name}, {number} of {steps}")
            row = row_of(case)
            table.add(row)
            for rival, times in row["seconds"].items():
                line = lines.setdefault(rival, {"median": [], "low": [], "high": []})
                for name, series in line.items():
                    series.append(times[name])
            if (least := ceilings.seconds(case.flops, case.bytes)) > 0:  # NaN where none were measured
                lines.setdefault("ceiling", {"median": []})["median"].append(least)
        found[axis] = {"model": model(axis), "values": list(values), "seconds": lines}
    return found


def model(axis: str) -> str:
    """The network in words, the axis by its letter."""
    width = "width" if axis == "width" else WIDTH
    batch = "" if axis == "batch" else f", batch {BATCH}"
    return f"{INPUTS}-{width}-{width}-{CLASSES}{batch}, Adam"


def _case(rivals, axis: str, value: int):
    width, batch = (value, BATCH) if axis == "width" else (WIDTH, value)
    return step_case(rivals, mlp(f"{NAME}, {axis} {value}", (INPUTS, width, width, CLASSES), batch))
