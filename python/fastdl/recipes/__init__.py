"""Recipes: complete trainings with sensible settings, one file each.

A recipe is a module with `Settings`, a dataclass of everything that can be set, and `build(settings) -> Task`, which
makes the model and the data; the first line of its docstring says what it trains. `run` trains one into a run folder.

>>> result = fastdl.recipes.run("digits", epochs=3)
>>> result["test"]["accuracy"]
"""

from __future__ import annotations

import difflib
from importlib import import_module

RECIPES = ("digits", "xor", "mnist-mlp", "lenet5")

__all__ = ["RECIPES", "describe", "get", "run"]


def get(name: str):
    """The module of a recipe; ValueError with the nearest match and the list for a name that does not exist."""
    if name not in RECIPES:
        near = difflib.get_close_matches(str(name), RECIPES, n=1)
        hint = f", did you mean {near[0]!r}?" if near else ";"
        raise ValueError(f"unknown recipe {name!r}{hint} Recipes: {', '.join(RECIPES)}")
    return import_module(f"{__name__}.{name.replace('-', '_')}")


def describe(name: str) -> str:
    """What a recipe trains, in one line."""
    return get(name).__doc__.strip().splitlines()[0].rstrip(".")


def run(name: str, *, out=None, device: str | None = None, **settings) -> dict:
    """Train a recipe into a run folder and return the result (see `runner.run`); keywords are its settings."""
    from . import runner

    recipe = get(name)
    return runner.run(name, recipe.Settings.from_dict(settings), out=out, device=device)
