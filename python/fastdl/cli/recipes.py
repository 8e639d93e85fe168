"""`fastdl recipes`: what can be trained, one line each, and the settings of one recipe."""

from __future__ import annotations

import dataclasses

from .. import recipes
from ..recipes.settings import describe
from . import UsageError


def run(args) -> int:
    """Print the list, or one recipe's settings with defaults."""
    if args.recipe is None:
        width = max(map(len, recipes.RECIPES)) + 2
        for name in recipes.RECIPES:
            print(f"{name:<{width}}{recipes.describe(name)}")
        return 0
    try:
        module = recipes.get(args.recipe)
    except ValueError as error:
        raise UsageError(str(error)) from error
    print(f"{args.recipe}: {recipes.describe(args.recipe)}\n")
    for field in dataclasses.fields(module.Settings):
        default = "none" if field.default is None else str(field.default).lower()
        choices = field.metadata.get("choices")
        allowed = f": {describe(module.Settings, field.name)}" if choices else ""
        print(f"  {field.name:<20}{default:<10}{field.metadata['help']}{allowed}")
    print(f"\nfastdl train {args.recipe} --set {dataclasses.fields(module.Settings)[0].name}=...")
    return 0
