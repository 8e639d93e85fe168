"""`fastdl bench`: run the cases, print a table as they finish, write JSON."""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import platform
import subprocess
import sys
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

from . import first_calls, gpu, memory, plot, precision, sweep, timer
from .case import Case
from .ceilings import Ceilings
from .gpu import GpuCeilings
from .report import Table, summary
from .rivals import DEFAULT, Rivals, versions

SUITES = ("kernels", "training")
SECTIONS = {"first_calls": first_calls, "memory": memory}  # of training on the host, after its rows


def modules(suite: str) -> list:
    """The modules with benchmark cases of "kernels" or "training"."""
    package = importlib.import_module(f".{suite}", __package__)
    names = [entry.name for entry in pkgutil.iter_modules(package.__path__) if not entry.name.startswith("_")]
    names.sort(key=lambda name: (name != "large", name))  # those with a time to be reached first
    return [importlib.import_module(f"{package.__name__}.{name}") for name in names]


def collect(rivals: Rivals, suite: str, pattern: str | None = None):
    """The suite's cases whose "family name" contains `pattern`, one by one, so that few hold memory at a time."""
    for module in modules(suite):
        for case in module.cases(rivals):
            if precision.has(case) and (not pattern or pattern.lower() in f"{case.family} {case.name}".lower()):
                if precision.low() and suite == "kernels":
                    case.bytes /= 2
                case.graph = suite == "kernels" and case.family in gpu.GRAPHS
                yield case


def run(
    suite: str = "all",
    pattern: str | None = None,
    rivals=DEFAULT,
    threads: int | None = None,
    device: str | None = None,
    rounds: int = timer.ROUNDS,
    json_path=None,
    plot_path=None,
    out=None,
    precision_name: str = "fp32",
) -> dict:
    """Verify and time every selected case and print the table; returns what --json writes.

    suite: "kernels", "training" or "all"; pattern: only cases whose "family name" contains it. rivals: which of
    `rivals.NAMES` to time beside fastdl; one that is not installed is named and left out. threads: for fastdl and every
    rival. device: fastdl's backend, "numpy", "cpu" or "cuda". plot_path: also time an MLP's step over batch sizes and
    widths, whatever the suite and the pattern (two minutes), and draw the times into this file.
    precision_name: one of `precision.NAMES`, of fastdl's and PyTorch's products and convolutions on the GPU. Raises
    RuntimeError at the end, when all others are timed and written, if a case fails: a wrong result is not timed.
    """
    import fastdl as fd

    if rounds < 1:
        raise ValueError(f"--rounds must be at least 1, got {rounds}")
    if plot_path:
        plot.check(plot_path)
    if precision_name not in precision.NAMES:
        raise ValueError(f"--precision must be one of {', '.join(precision.NAMES)}, got {precision_name}")
    if precision_name != "fp32" and (device or fd.get_device()) != "cuda":
        raise ValueError(f"--precision {precision_name} is one of the GPU: it needs --device cuda")
    with fd.device(device or fd.get_device()), precision.use(precision_name):
        chosen = Rivals(rivals, threads)
        save = partial(_write_json, json_path) if json_path else lambda report: None
        report = _run(suite, pattern, chosen, rounds, bool(plot_path), out or sys.stdout, save)
    if plot_path:
        plot.draw(report["sweeps"], report["environment"], plot_path)
        print(f"\ncost of a step over batch sizes and widths: {plot_path}", file=out or sys.stdout)
    if json_path:
        _write_json(json_path, report)
    if report["failed"]:
        raise RuntimeError(f"{len(report['failed'])} cases failed, the first: {report['failed'][0]}")
    return report


def _run(suite, pattern, rivals: Rivals, rounds: int, with_sweeps: bool, out, save) -> dict:
    parts = {part: list(collect(rivals, part, pattern)) for part in (SUITES if suite == "all" else (suite,))}
    wanted = (pattern or "").lower()
    sections = {key: part for key, part in SECTIONS.items() if "training" in parts and wanted in part.NAME.lower()}
    sections = {} if gpu.in_use() else sections
    if not any(parts.values()) and not sections and not (with_sweeps and wanted in sweep.NAME.lower()):
        every = [case for part in parts for case in collect(rivals, part)]
        near = _nearest(wanted, [f"{case.family} {case.name}" for case in every])
        families = ", ".join(sorted({repr(case.name) if case.family == "training" else case.family for case in every}))
        raise ValueError(f"no benchmark case contains {pattern!r}; {near}there are cases of {families}")
    machine, ceilings = environment(rivals), GpuCeilings(rivals.torch) if gpu.in_use() else Ceilings()
    print(*_heading(machine), *rivals.notes, sep="\n", file=out, flush=True)
    ceilings.measure()
    print(*ceilings.lines(), sep="\n", file=out, flush=True)
    rows, failed = [], []
    report = {"environment": machine, "results": rows, "failed": failed}
    for part, cases in parts.items():
        columns = (*rivals.names, "eager") if part == "training" and _captures() else rivals.names
        columns = (*columns, "target") if gpu.in_use() else columns
        table = Table(columns, out)
        if cases:
            table.heading()
        count = len(cases)
        while cases:
            case = cases.pop(0)  # so that its arrays go when it is done
            table.measuring(f"{case.family} {case.name}", f"{count - len(cases)} of {count}: ")
            try:
                rows.append(_measure(case, rounds, {"fastdl", "1 thread", *columns}, ceilings))
            except RuntimeError as error:  # a wrong result, or what a rival can't do: the others are still worth having
                failed.append(str(error))
                table.clear()
                print(f"failed: {error}", file=out, flush=True)
                continue
            table.add(rows[-1])
            save(report)  # a run that is stopped has what it had
            ceilings.measure_if_due()
    for key, part in sections.items():
        table = Table((), out)
        report[key] = part.measure(rivals, table.measuring)
        table.clear()
        print(*part.lines(report[key]), sep="\n", file=out, flush=True)
    if with_sweeps:
        table = Table((*rivals.names, "eager") if _captures() else rivals.names, out)
        table.heading()
        few, wanted = min(rounds, sweep.ROUNDS), {"fastdl", *table.rivals}
        row_of = partial(_measure, rounds=few, wanted=wanted, ceilings=ceilings)
        report["sweeps"] = sweep.measure(rivals, ceilings, table, row_of)
    for row in rows:
        row["of_ceiling"] = _of_ceiling(row, ceilings)  # by the median of all measurements of the ceilings
    report["ceilings"] = ceilings.report()
    if len(rows) > 1:
        again = ceilings.lines() if ceilings.times > 1 else []
        print("", *again, *summary(rows, (*rivals.names, "eager", "target")), sep="\n", file=out)
    return report


def _measure(case: Case, rounds: int, wanted: set[str], ceilings: Ceilings) -> dict:
    """Verify and time one case: its row."""
    if gpu.in_use() and case.reference == "numpy" and "torch" in case.ways() and "torch" not in case.others:
        case.reference = "torch"  # which takes no time there
    timer.verify(case, wanted)
    timings = timer.measure(case, rounds, wanted)
    row = {
        "family": case.family,
        "case": case.name,
        "flops": case.flops,
        "bytes": case.bytes,
        "seconds": {rival: {"median": t.median, "low": t.low, "high": t.high} for rival, t in timings.items()},
        "ratio": {rival: t.ratio for rival, t in timings.items() if rival != "fastdl"},
        "way": {rival: t.way for rival, t in timings.items() if t.way},
    }
    if target := case.target.get(precision.current):
        row["target"] = target * 1e-6
        row["ratio"]["target"] = row["seconds"]["fastdl"]["median"] / row["target"]
    return row | {"of_ceiling": _of_ceiling(row, ceilings)}


def _of_ceiling(row: dict, ceilings: Ceilings) -> float | None:
    floor = ceilings.seconds(row["flops"], row["bytes"])
    return floor / row["seconds"]["fastdl"]["median"] if floor > 0 else None


def environment(rivals: Rivals) -> dict:
    """What the figures were taken on: machine, versions, instruction set, threads, commit."""
    from fastdl.device import config

    found = config()
    return {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": gpu.name() if gpu.in_use() else _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": rivals.threads,
        "backend": found["device"],
        "precision": precision.WORDS[precision.current],
        "isa": found["isa"] if found["device"] == "cpu" else None,
        "commit": _commit(),
        "python": platform.python_version(),
        "fastdl": found["version"],
        **versions(),
        "notes": rivals.notes,
    }


def _heading(machine: dict) -> list[str]:
    packages = ", ".join(f"{name} {machine[name]}" for name in ("numpy", "torch", "jax") if machine[name])
    if machine["backend"] == "cuda":
        words = f"{machine['precision']}; a turn ends when the GPU has done its work"
        return [f"{machine['machine']}; {packages}", words]
    threads = f"{machine['threads']} thread{'s' if machine['threads'] != 1 else ''}"
    return [f"{machine['machine']}, {threads}", f"fastdl on {machine['backend']} {machine['isa'] or ''}; {packages}"]


def _captures() -> bool:
    import fastdl

    return hasattr(fastdl, "capture") and fastdl.get_device() != "numpy"


def _nearest(wanted: str, names: list[str], most: int = 5) -> str:
    """The names with the most words of a pattern that none contains, for the message; empty if no word is known."""
    known = {name: sum(word in name.lower() for word in wanted.split()) for name in names}
    best = max(known.values(), default=0)
    found = [name for name, count in known.items() if count == best > 0]
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return f"the nearest are {', '.join(map(repr, found[:most]))}{more}; " if found else ""


def _write_json(path, report) -> None:
    temporary = f"{path}.{os.getpid()}.tmp"
    with open(temporary, "w") as file:
        json.dump(report, file, indent=1)
    os.replace(temporary, path)


def _commit() -> str | None:
    """The commit of the checkout that this code is part of, with "+" if files differ from it; None elsewhere.

    An installed copy has FASTDL_COMMIT from `make bench`, which installs what it then runs.
    """
    if os.environ.get("FASTDL_COMMIT"):
        return os.environ["FASTDL_COMMIT"]
    git = ["git", "-C", str(Path(__file__).resolve().parent)]
    try:
        text = {"capture_output": True, "text": True, "check": True, "timeout": 10}
        tracked = subprocess.run([*git, "ls-files", "--error-unmatch", Path(__file__).name], **text)
        commit = subprocess.run([*git, "rev-parse", "HEAD"], **text).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain", "--untracked-files=no"], **text).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+" if changed else "") if tracked else None


def _cpu_model() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
