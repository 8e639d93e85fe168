"""How the cost of a training step grows: an MLP over batch sizes and over widths, beside the rivals."""

from __future__ import annotations

from . import timer
from .training._step import step_case
from .training.mlp import mlp

NAME = "sweep MLP"
INPUTS, CLASSES = 784, 10
BATCH, WIDTH = 128, 512
AXES = {"batch": [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024], "width": [16, 32, 64, 128, 256, 512, 1024, 2048]}
ROUNDS = 7


def measure(rivals, wanted: set[str], ceilings, rounds: int, progress, axes=None) -> dict:
    """Verify and time every step: per axis "values", and per rival the medians and quartiles in seconds.

    wanted: fastdl and the rivals to time. "ceiling" is the least time that the machine could take. progress: called
    with the name of each step.
    """
    found = {}
    for axis, values in (axes or AXES).items():
        lines: dict[str, dict[str, list[float]]] = {}
        for value in values:
            progress(f"{NAME}, {axis} {value}")
            case = _case(rivals, axis, value)
            timer.verify(case, wanted)
            for rival, timing in timer.measure(case, min(rounds, ROUNDS), wanted).items():
                line = lines.setdefault(rival, {"median": [], "low": [], "high": []})
                for name, series in line.items():
                    series.append(getattr(timing, name))
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
