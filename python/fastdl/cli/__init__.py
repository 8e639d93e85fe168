"""The command `fastdl`: info, recipes, train, bench.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted by Ctrl-C. What went wrong is one line on stderr,
`fastdl: error: ...`; FASTDL_TRACEBACK=1 shows where it came from.
"""

from __future__ import annotations

import argparse
import os
import sys

__all__ = ["main"]


class UsageError(Exception):
    """The command was called in a wrong way: exit code 2."""


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line."""

    def error(self, message: str):
        raise UsageError(f"{message} (see {self.prog} --help)")


class _Version(argparse.Action):
    """--version; the version is looked up only when it is asked for."""

    def __init__(self, option_strings, dest, **kwargs):
        super().__init__(option_strings, dest, nargs=0, help="print the version and exit")

    def __call__(self, parser, *args, **kwargs):
        from .. import __version__

        print(f"fastdl {__version__}")
        parser.exit(0)


def main(argv: list[str] | None = None) -> int:
    """Run the command line with `argv` (default: sys.argv) and return the exit code."""
    try:
        args = _parser().parse_args(argv)
        return args.run(args) or 0
    except SystemExit as stop:  # argparse's way to leave after --help and --version
        return int(stop.code or 0)
    except UsageError as error:
        return _fail(str(error), 2)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except BrokenPipeError:  # the reader of our output has left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, RuntimeError, ImportError, OSError, ArithmeticError) as error:
        _trace()
        return _fail(str(error) or type(error).__name__, 1)
    except Exception as error:
        _trace()
        return _fail(f"{type(error).__name__}: {error}", 1)


def check_file(option: str, path: str | None) -> None:
    """Fail before the work where its result could not be written after it."""
    if path is not None:
        folder = os.path.dirname(os.path.abspath(path))
        if not os.path.isdir(folder) or os.path.isdir(path):
            raise UsageError(f"{option} must name a file in an existing folder, got {path!r}")


def _fail(message: str, code: int) -> int:
    sys.stdout.flush()
    print(f"fastdl: error: {message}", file=sys.stderr)
    return code


def _trace() -> None:
    if os.environ.get("FASTDL_TRACEBACK"):
        import traceback

        traceback.print_exc()


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="fastdl", description="Train small and medium neural networks, fast.", allow_abbrev=False)
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Parser)

    info = commands.add_parser("info", help="what this installation has: backends, instruction set, threads, GPU")
    info.set_defaults(run=_lazily("info"))

    recipes = commands.add_parser("recipes", help="what can be trained")
    recipes.add_argument("recipe", nargs="?", metavar="RECIPE", help="show the settings of this one")
    recipes.set_defaults(run=_lazily("recipes"))

    train = commands.add_parser("train", help="train a recipe into a run folder", allow_abbrev=False)
    train.add_argument("recipe", nargs="?", metavar="RECIPE", help="one of `fastdl recipes`; default digits")
    train.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings",
                       help="change a setting (`fastdl recipes RECIPE` lists them); can be repeated")  # fmt: skip
    length = train.add_mutually_exclusive_group()
    length.add_argument("--epochs", metavar="N", help="train for N epochs in all")
    length.add_argument("--steps", metavar="N", help="train for N steps in all")
    train.add_argument("--device", choices=("numpy", "cpu", "cuda"), help="where to compute; default: cpu if there")
    train.add_argument("--precision", metavar="NAME",
                       help="fp32 (default), or bf16: products in bfloat16, for GPUs")  # fmt: skip
    train.add_argument("--seed", metavar="N", help="seed of weights, shuffles and dropout; default 0")
    folder = train.add_mutually_exclusive_group()
    folder.add_argument("--out", metavar="DIR", help="the run folder; default runs/<recipe>-<timestamp>")
    folder.add_argument("--resume", metavar="DIR", help="go on with the run in this folder")
    train.add_argument("--no-capture", action="store_false", dest="capture", default=None,
                       help="run every step from Python instead of replaying a recorded program")  # fmt: skip
    train.add_argument("--json", metavar="PATH", help="write settings and results to this file")
    train.set_defaults(run=_lazily("train"))

    bench = commands.add_parser("bench", help="measure speed beside NumPy, PyTorch and JAX", allow_abbrev=False)
    bench.add_argument("suite", nargs="?", choices=("kernels", "training", "all"), default="all",
                       help="what to time; default: all")  # fmt: skip
    bench.add_argument("--against", default="numpy,torch", metavar="RIVALS",
                       help="some of numpy, torch, torch-compile, torch-graph (on a GPU), jax; "
                            "default numpy,torch")  # fmt: skip
    bench.add_argument("--filter", metavar="TEXT", help="only benchmarks whose name contains TEXT")
    bench.add_argument("--device", choices=("numpy", "cpu", "cuda"),
                       help="where fastdl computes; default: cpu if there")  # fmt: skip
    bench.add_argument("--precision", choices=("fp32", "tf32", "bf16"), default="fp32",
                       help="of products and convolutions on a GPU; default fp32")  # fmt: skip
    bench.add_argument("--threads", type=int, metavar="N", help="threads of fastdl and of every rival; default: all")
    bench.add_argument("--rounds", type=int, default=11, metavar="N", help="turns of every rival; default 11")
    bench.add_argument("--json", metavar="PATH", help="write the results to this file")
    bench.add_argument("--plot", metavar="PATH",
                       help="also time an MLP over batch sizes and widths, two minutes more; draw it")  # fmt: skip
    bench.set_defaults(run=_lazily("bench"))
    return parser


def _lazily(command: str):
    """Import the command's module when it runs: `fastdl --help` loads none of them."""

    def run(args):
        from importlib import import_module

        return import_module(f"{__name__}.{command}").run(args)

    return run
