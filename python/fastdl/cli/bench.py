"""`fastdl bench`: measure speed. The benchmarks are in the source tree, in bench/."""

from __future__ import annotations


def run(args) -> int:
    """Run the suite that `args` names: suite, filter, threads, json."""
    raise RuntimeError("no benchmarks are installed")
