"""What the first call of a captured step costs: it runs the Python code, records and plans."""

from __future__ import annotations

import statistics
import time

import fastdl as fd

from ..explain import duration
from .training import cnn, mlp
from .training._step import fastdl_step

NAME = "first calls"
FRESH, REPLAYS = 7, 10  # fresh models and captures per task, and replays of each


def measure(rivals, progress) -> list[dict]:
    """Seconds per task, medians over fresh models: the first call captured and not, the second, which checks, a replay.

    Rivals have no part in it. progress: called with the name of each task before it is measured.
    """
    rows = []
    if fd.get_device() != "cpu":  # where nothing is captured
        return rows
    for task in (*mlp.tasks(), *cnn.tasks()):
        progress(f"{NAME} {task.name}")
        fastdl_step(task)()  # wakes threads and pages
        plain, calls = [], []
        for _ in range(FRESH):
            plain.append(_seconds(fastdl_step(task, captured=False)))
            step = fastdl_step(task)
            calls.append([_seconds(step) for _ in range(2 + REPLAYS)])
        first, second = (statistics.median(times[i] for times in calls) for i in (0, 1))
        replay = statistics.median(seconds for times in calls for seconds in times[2:])
        names = {"first": first, "plain": statistics.median(plain), "second": second, "replay": replay}
        rows.append({"case": task.name, **names})
    return rows


def lines(rows: list[dict]) -> list[str]:
    """The section of the report."""
    if not rows:
        return []
    text = [
        "",
        f"{NAME} of captured steps with fresh models, in replays; the first runs the Python",
        "code, which a first call that is not captured (plain) does too, the second checks",
        f"{'':<38}{'replay':>10}{'plain':>10}{'first':>10}{'second':>10}",
    ]
    for row in rows:
        parts = "".join(f"{row[name] / row['replay']:>10.2g}" for name in ("plain", "first", "second"))
        text.append(f"  {row['case']:<36}{duration(row['replay']):>10}{parts}")
    return text


def _seconds(step) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start
