"""Every example in a docstring of the package runs and prints what it says."""

import doctest
import pkgutil
from importlib import import_module

import numpy
import pytest

import fastdl


def _modules():
    names = ["fastdl"] + [m.name for m in pkgutil.walk_packages(fastdl.__path__, "fastdl.")]
    return [name for name in names if not name.endswith(("__main__", "._cpu", ".cuda"))]


@pytest.mark.parametrize("name", _modules())
def test_examples(name):
    try:
        module = import_module(name)
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"{name} needs what is not installed: {error}")
    # What examples may use without importing or making it.
    names = {"fd": fastdl, "np": numpy, "nn": fastdl.nn, "model": fastdl.nn.Linear(2, 3)}
    assert doctest.testmod(module, extraglobs=names).failed == 0
