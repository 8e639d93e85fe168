"""`fastdl bench`: verify and time kernels beside NumPy and PyTorch; the cases and the timer are in `fastdl.bench`."""

from __future__ import annotations


def run(args) -> int:
    """Run the suite that `args` names: suite, filter, against, threads, json."""
    from ..bench import run as bench

    rivals = [name for name in args.against.split(",") if name]
    bench.run(args.suite, args.filter, rivals, args.threads, json_path=args.json)
    return 0
