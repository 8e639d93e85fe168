"""The one timer: verify, warm up, time the rivals in interleaved rounds, report medians with their spread.

Shared machines drift: a rival timed a second later may meet another machine. So the rivals take turns, A B C A B C,
each turn long enough to time (MIN_TURN seconds, several calls for a quick kernel), and ratios are taken turn by turn.
Before a turn the process must have come to rest: OpenBLAS keeps its threads spinning for up to 120 ms (2^28 cycles)
after a call, OpenMP for some milliseconds, and they would take a core from the next rival, which can be fifty times
slower then. Then the rival runs untimed for WARM_UP seconds, as it would in a training loop: the system takes up to
20 ms to move a woken thread to an idle core. On a GPU a turn ends when the GPU has done its work, and where a case asks
for that, a call is a graph of several.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import numpy as np

from . import gpu, precision
from .case import Case, Run, to_numpy

MIN_TURN = 0.003  # seconds; the clock's own cost (50 ns) is nothing beside it
REST = 0.01  # seconds in which no thread may have worked
LONGEST_REST = 2.0
WARM_UP = 0.03
ROUNDS = 11
SLOW = 0.4  # a rival whose call takes longer has FEW rounds and no warm-up but its first call
FEW = 3
TRIALS = 3  # turns to find a rival's quickest way


@dataclass
class Timing:
    """Seconds per call: median and quartiles; ratio: fastdl's time over this rival's, the median over rounds.

    way: the name of the rival's quickest way, "" where there is one only.
    """

    median: float
    low: float
    high: float
    ratio: float
    way: str = ""


def verify(case: Case, wanted=None) -> None:
    """Every rival's result equals the reference's within the case's tolerance; RuntimeError names one that doesn't.

    wanted: the rivals to look at; all by default.
    """
    ways = {rival: ways for rival, ways in case.ways().items() if rival not in case.others}
    want = _results(case, case.reference, next(iter(ways[case.reference].values())))
    for rival in ways if wanted is None else [rival for rival in ways if rival in wanted]:
        for way, run in ways[rival].items():
            if (rival, way) != (case.reference, next(iter(ways[case.reference]))):
                _compare(case, f"{rival} ({way})" if way else rival, _results(case, rival, run), want)


def _compare(case: Case, rival: str, results: list[np.ndarray], want: list[np.ndarray]) -> None:
    if len(results) != len(want):
        raise RuntimeError(f"{case.family} {case.name}: {rival} has {len(results)} results, not {len(want)}")
    for position, (got, reference) in enumerate(zip(results, want)):
        if got.shape != reference.shape:
            raise RuntimeError(
                f"{case.family} {case.name}: result {position} of {rival} has shape {got.shape}, not {reference.shape}"
            )
        scale = float(np.abs(reference).max()) if reference.size else 0.0
        worst = float(np.abs(got - reference).max()) if reference.size else 0.0
        if not worst <= max(case.tolerance, precision.TOLERANCES[precision.current]) * (scale + 1e-30):
            raise RuntimeError(
                f"{case.family} {case.name}: result {position} of {rival} is off by {worst:.2g} "
                f"(largest entry {scale:.2g})"
            )


def measure(case: Case, rounds: int = ROUNDS, wanted=None) -> dict[str, Timing]:
    """Time every rival of a verified case, or those in `wanted`."""
    chosen, calls, slow = {}, {}, set()
    graphs = case.graph and gpu.in_use()
    pieces = case.pieces * (gpu.REPEATS if graphs else 1)
    for rival, ways in case.ways().items():
        if wanted is None or rival in wanted:
            ways = {way: gpu.repeated(rival, run) for way, run in ways.items()} if graphs else ways
            way = _quickest(ways)
            calls[rival], taken = _calls_per_turn(ways[way])
            chosen[rival] = way, ways[way]
            slow |= {rival} if taken > SLOW else set()
    seconds: dict[str, list[float]] = {rival: [] for rival in chosen}
    for number in range(rounds):
        for rival, (_, run) in chosen.items():
            if rival in slow and number >= FEW:
                continue
            _rest()
            if rival not in slow:
                _warm_up(run)
            seconds[rival].append(_turn(run, calls[rival]))
    ours, timings = seconds["fastdl"], {}
    for rival, times in seconds.items():
        quartiles = (t / pieces for t in _quartiles(times))
        timings[rival] = Timing(*quartiles, statistics.median(a / b for a, b in zip(ours, times)), chosen[rival][0])
    return timings


def _quickest(ways: dict[str, Run]) -> str:
    if len(ways) == 1:
        return next(iter(ways))
    calls = {way: _calls_per_turn(run)[0] for way, run in ways.items()}
    times = {way: [] for way in ways}
    for _ in range(TRIALS):
        for way, run in ways.items():
            _rest()
            _warm_up(run)
            times[way].append(_turn(run, calls[way]))
    return min(ways, key=lambda way: statistics.median(times[way]))


def _rest() -> None:
    """Wait until the threads of this process have stopped working, or the GPU has."""
    if gpu.in_use():
        return gpu.synchronize()
    end = time.perf_counter() + LONGEST_REST
    while time.perf_counter() < end:
        before = time.process_time()
        time.sleep(REST)
        if time.process_time() - before < REST / 10:
            return


def _turn(run: Run, calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        run()
    gpu.synchronize()
    return (time.perf_counter() - start) / calls


def _warm_up(run: Run) -> None:
    end = time.perf_counter() + (WARM_UP / 3 if gpu.in_use() else WARM_UP)
    run()
    while time.perf_counter() < end:
        run()


def _calls_per_turn(run: Run) -> tuple[int, float]:
    """How many calls make a turn, and the seconds of one."""
    run()  # warm up: caches, lazy set-up
    calls = 1
    while (taken := _turn(run, calls) * calls) < MIN_TURN and calls < 1 << 20:
        calls = max(calls * 2, int(calls * MIN_TURN / max(taken, 1e-9)))
    return calls, taken / calls


def _quartiles(times: list[float]) -> tuple[float, float, float]:
    ordered = sorted(times)
    return statistics.median(ordered), ordered[len(ordered) // 4], ordered[(3 * len(ordered)) // 4]


def _results(case: Case, rival: str, run: Run) -> list[np.ndarray]:
    show = case.shown.get(rival, lambda result: result)
    return [array for _ in range(case.steps) for array in _arrays(show(run()))]


def _arrays(result) -> list[np.ndarray]:
    items = result if isinstance(result, (tuple, list)) else (result,)
    return [to_numpy(item).copy() for item in items if item is not None]
