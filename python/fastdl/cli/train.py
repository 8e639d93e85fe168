"""`fastdl train`: train a recipe into a run folder."""

from __future__ import annotations

import os

from .. import get_device, recipes
from ..recipes.settings import parse
from . import UsageError, check_file


def run(args) -> int:
    """Train; the last line printed carries the test accuracy. Returns 130 when Ctrl-C ended the training."""
    from ..recipes import runner

    name, settings = _resumed(args, runner) if args.resume is not None else _fresh(args)
    check_file("--json", args.json)
    print(f"{name}: {recipes.describe(name)}", flush=True)
    result = runner.run(
        name, settings, out=args.resume or args.out, device=args.device, capture=args.capture,
        resume=args.resume is not None,
        started=lambda task, trainer, folder: _introduce(settings, task, trainer, folder),
    )  # fmt: skip
    if result["interrupted"]:
        again = f"fastdl train --resume {result['folder']}"
        print(f"\nThe training is saved after step {result['steps']:,}. To go on: {again}")
        return 130
    if args.json is not None:
        runner.write_text(args.json, runner.json_text(result))
    print(_summary(result))
    return 0


def _fresh(args) -> tuple:
    """(recipe, settings) from the command line."""
    name = args.recipe or recipes.RECIPES[0]
    try:
        kind = recipes.get(name).Settings
        return name, kind.from_dict(_given(args, kind))
    except (ValueError, TypeError) as error:
        raise UsageError(str(error)) from error


def _resumed(args, runner) -> tuple:
    """(recipe, settings) of the run folder; only its length may be changed."""
    name, saved = runner.read_config(args.resume)
    if args.recipe not in (None, name):
        raise UsageError(f"{args.resume} holds a run of {name}, not of {args.recipe}")
    if args.settings or args.seed is not None or args.precision is not None:
        raise UsageError("--resume takes the settings from the run; only --epochs or --steps can be given with it")
    kind = recipes.get(name).Settings
    try:
        length = _given(args, kind)
    except (ValueError, TypeError) as error:
        raise UsageError(str(error)) from error
    try:
        settings = kind.from_dict(saved)
        changed = kind.from_dict({**saved, **length, **({"steps": None} if "epochs" in length else {})})
    except (ValueError, TypeError) as error:
        raise ValueError(f"{os.path.join(args.resume, runner.CONFIG)} is damaged: {error}") from error
    if changed != settings and settings.schedule != "constant":
        raise UsageError(
            f"the {settings.schedule} schedule was laid out for the run's length, which can't be changed; a run that "
            "is to be extended later starts with --set schedule=constant"
        )
    return name, changed


def _given(args, kind) -> dict:
    """Values given by --set or by an option of their own, parsed by the types of the settings."""
    given: dict = {}
    for item in args.settings:
        key, equals, text = item.partition("=")
        if not equals:
            raise ValueError(f"--set takes KEY=VALUE, got {item!r}")
        given[key.strip()] = parse(kind, key.strip(), text.strip())
    for key in ("epochs", "steps", "seed", "precision"):
        if getattr(args, key) is not None:
            if key in given:
                raise ValueError(f"{key} is given twice, by --{key} and by --set")
            given[key] = parse(kind, key, getattr(args, key))
    return given


def _introduce(settings, task, trainer, folder: str) -> None:
    """What is about to happen, in two or three lines."""
    parameters = sum(parameter.numel() for parameter in task.model.parameters())
    sizes = [f"{len(loader.dataset):,}" for loader in (task.train, task.validation, task.test)]
    print(f"{sizes[0]} {task.unit} to train, {sizes[1]} to validate, {sizes[2]} to test; {parameters:,} parameters")
    rule = f"{settings.optimizer}, lr {settings.lr:g}, batch {settings.batch_size}"
    print(f"{rule}, on {get_device()}{' in bf16' if settings.precision == 'bf16' else ''}, into {folder}")
    if trainer.step:
        print(f"going on after step {trainer.step:,}, epoch {trainer.epoch}")
    print(flush=True)


def _summary(result: dict) -> str:
    """The last lines: what was done, where it lies, and the test accuracy."""
    test, validation = result["test"], result["validation"]
    steps = result["steps"] - result["resumed_at"]
    speed = f"{result['samples_per_second']:,.0f} {result['unit']}/s"
    return (
        f"\n{steps:,} steps in {result['seconds']:.1f} s, {speed}; results in {result['folder']}\n"
        f"validation accuracy {100 * validation['accuracy']:.2f} %, test accuracy {100 * test['accuracy']:.2f} %"
    )
