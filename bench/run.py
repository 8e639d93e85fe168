"""`fastdl bench`: run the cases, print a table as they finish, write JSON."""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import platform
from datetime import datetime, timezone

import numpy as np

from . import timer
from .case import Case, torch_or_none

SUITES = ("kernels", "training")


def modules(suite: str) -> list:
    """The modules with benchmark cases of "kernels", "training" or "all"."""
    found = []
    for name in SUITES if suite == "all" else (suite,):
        package = importlib.import_module(f".{name}", __package__)
        for entry in pkgutil.iter_modules(package.__path__):
            module = importlib.import_module(f"{package.__name__}.{entry.name}")
            found += [module] if hasattr(module, "cases") else []
    return found


def collect(suite: str = "all", pattern: str | None = None):
    """The suite's cases whose "family name" contains `pattern`, one by one, so that few hold memory at a time."""
    for module in modules(suite):
        for case in module.cases():
            if not pattern or pattern in f"{case.family} {case.name}":
                yield case


def environment() -> dict:
    """What the figures were taken on: machine, versions, instruction set, threads."""
    import fastdl
    from fastdl import kernels

    torch = torch_or_none()
    info = {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "fastdl": fastdl.__version__,
        "backend": kernels.host().name,
        "torch": torch.__version__ if torch else None,
    }
    if info["backend"] == "cpu":
        from fastdl import _cpu

        info["isa"], info["threads"] = _cpu.get_isa(), _cpu.get_num_threads()
    return info


def run(
    suite="all",
    pattern=None,
    rivals=("numpy", "torch"),
    threads=None,
    rounds=timer.ROUNDS,
    json_path=None,
    out=None,
) -> dict:
    """Verify and time every selected case; returns what --json writes.

    suite: "kernels", "training" or "all"; pattern: only cases whose "family name" contains it. rivals: which of
    "numpy" and "torch" to time beside fastdl; one that is not installed is named and left out.
    Columns: median time, its spread (quartiles), rate, and fastdl's time over each rival's (below 1: fastdl is faster).
    """
    unknown = set(rivals) - {"numpy", "torch"}
    if unknown:
        raise ValueError(f"--against must name numpy or torch, got {', '.join(sorted(unknown))}")
    torch = torch_or_none()
    if threads is not None:
        import fastdl

        fastdl.set_num_threads(threads)
        if torch:
            torch.set_num_threads(threads)
    machine = environment()
    print(f"{machine['machine']}, {machine.get('threads', 1)} threads, backend {machine['backend']} "
          f"{machine.get('isa', '')}, NumPy {machine['numpy']}", file=out)  # fmt: skip
    if "torch" in rivals and not torch:
        print("torch is not installed and left out", file=out)
    print(
        f"{'case':<38}{'fastdl':>8}{'+-':>6}{'rate':>12}" + "".join(f"{'/' + r:>8}" for r in rivals),
        file=out,
    )
    print("  / ... is fastdl's time over the rival's: below 1 fastdl is faster", file=out)
    rows = []
    for case in collect(suite, pattern):
        if case.check:
            timer.verify(case)
        wanted = ("fastdl", *rivals)
        case.runs = {name: f for name, f in (case.runs | case.others).items() if name in wanted}
        timings = timer.measure(case, rounds)
        rows.append(_row(case, timings))
        print(_line(case, timings, rivals), file=out, flush=True)
    if not rows:
        names = ", ".join(sorted(module.__name__.rpartition(".")[2] for module in modules(suite)))
        raise ValueError(f"no benchmark case contains {pattern!r}; there are cases of {names}")
    report = {"environment": machine, "results": rows}
    if json_path:
        _write_json(json_path, report)
    return report


def _row(case: Case, timings) -> dict:
    return {
        "family": case.family,
        "case": case.name,
        "flops": case.flops,
        "bytes": case.bytes,
        "seconds": {rival: {"median": t.median, "low": t.low, "high": t.high} for rival, t in timings.items()},
        "ratio": {rival: t.ratio for rival, t in timings.items() if rival != "fastdl"},
    }


def _line(case: Case, timings, rivals) -> str:
    ours = timings["fastdl"]
    rate = (
        f"{case.flops / ours.median / 1e9:.0f} GFLOP/s" if case.flops else f"{case.bytes / ours.median / 1e9:.1f} GB/s"
    )
    spread = f"{100 * (ours.high - ours.low) / ours.median:.0f}%"
    ratios = "".join(f"{timings[r].ratio:>8.2f}" if r in timings else f"{'-':>8}" for r in rivals)
    return f"{case.family + ' ' + case.name:<38}{_time(ours.median):>8}{spread:>6}{rate:>12}{ratios}"


def _time(seconds: float) -> str:
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def _write_json(path, report) -> None:
    temporary = f"{path}.{os.getpid()}.tmp"
    with open(temporary, "w") as file:
        json.dump(report, file, indent=1)
    os.replace(temporary, path)


def _cpu_model() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
