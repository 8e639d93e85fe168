"""`fastdl bench`: verify and time kernels and training steps beside their rivals, by `fastdl.bench`."""

from __future__ import annotations

from . import check_file


def run(args) -> int:
    """Run the suite that `args` names: suite, filter, against, threads, device, rounds, json, plot, precision."""
    from ..bench import run as bench

    check_file("--json", args.json)
    check_file("--plot", args.plot)
    rivals = [name.strip() for name in args.against.split(",") if name.strip()]
    bench.run(args.suite, args.filter, rivals, args.threads, args.device, args.rounds, args.json, args.plot,
              precision_name=args.precision)
    return 0
