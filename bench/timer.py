"""The one timer: verify, warm up, time the rivals in interleaved rounds, report medians with their spread.

Shared machines drift: a rival timed a second later may meet another machine. So the rivals take turns, A B C A B C,
each turn long enough to time (MIN_TURN seconds, several calls for a quick kernel), and ratios are taken turn by turn.
Before a turn the machine rests for SETTLE seconds: OpenBLAS keeps its threads spinning for about 26 ms (2^26 cycles)
after a call, OpenMP for some milliseconds, and they would take a core from the next rival. Then it runs untimed
for WARM_UP seconds, as it would in a training loop: the system takes up to 20 ms to move a woken thread to an idle
core.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import numpy as np

from .case import Case

MIN_TURN = 0.003  # seconds; the clock's own cost (50 ns) is nothing beside it
SETTLE = 0.04  # seconds
WARM_UP = 0.03
ROUNDS = 11


@dataclass
class Timing:
    """Seconds per call: median and quartiles; ratio: fastdl's time over this rival's, the median over rounds."""

    median: float
    low: float
    high: float
    ratio: float


def verify(case: Case) -> None:
    """Every rival's result equals the reference's within the case's tolerance; RuntimeError names one that doesn't."""
    want = _arrays(case.runs[case.reference]())
    for rival, run in case.runs.items():
        if rival == case.reference:
            continue
        for position, (got, reference) in enumerate(zip(_arrays(run()), want)):
            scale = float(np.abs(reference).max()) if reference.size else 0.0
            worst = float(np.abs(got - reference).max()) if reference.size else 0.0
            if got.shape != reference.shape or not worst <= case.tolerance * (scale + 1e-30):
                raise RuntimeError(
                    f"{case.family} {case.name}: result {position} of {rival} is off by {worst:.2g} "
                    f"(largest entry {scale:.2g})"
                )


def measure(case: Case, rounds: int = ROUNDS) -> dict[str, Timing]:
    """Time every rival of a verified case."""
    calls = {rival: _calls_per_turn(run) for rival, run in case.runs.items()}
    seconds: dict[str, list[float]] = {rival: [] for rival in case.runs}
    for _ in range(rounds):
        for rival, run in case.runs.items():
            time.sleep(SETTLE)
            _warm_up(run)
            seconds[rival].append(_turn(run, calls[rival]))
    ours = seconds["fastdl"]
    return {
        rival: Timing(*_quartiles(times), statistics.median(a / b for a, b in zip(ours, times)))
        for rival, times in seconds.items()
    }


def _turn(run, calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - start) / calls


def _warm_up(run) -> None:
    end = time.perf_counter() + WARM_UP
    run()
    while time.perf_counter() < end:
        run()


def _calls_per_turn(run) -> int:
    run()  # warm up: caches, lazy set-up
    calls = 1
    while (taken := _turn(run, calls) * calls) < MIN_TURN and calls < 1 << 20:
        calls = max(calls * 2, int(calls * MIN_TURN / max(taken, 1e-9)))
    return calls


def _quartiles(times: list[float]) -> tuple[float, float, float]:
    ordered = sorted(times)
    return statistics.median(ordered), ordered[len(ordered) // 4], ordered[(3 * len(ordered)) // 4]


def _arrays(result) -> list[np.ndarray]:
    items = result if isinstance(result, (tuple, list)) else (result,)
    return [np.asarray(item.detach() if hasattr(item, "detach") else item) for item in items if item is not None]
