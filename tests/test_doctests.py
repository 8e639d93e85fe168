"""Every example in a docstring of the package runs and prints what it says."""

import doctest
import pkgutil
from importlib import import_module

import numpy
import pytest

import fastdl

# These examples train for a while; tests of their own run the same calls.
LONG = {"fastdl.recipes", "fastdl.train.trainer"}


def _modules():
    names = ["fastdl"] + [m.name for m in pkgutil.walk_packages(fastdl.__path__, "fastdl.")]
    return [name for name in names if name not in LONG and not name.endswith(("__main__", "._cpu", ".cuda"))]


@pytest.mark.parametrize("name", _modules())
def test_examples(name, tmp_path, monkeypatch):
    try:
        module = import_module(name)
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"{name} needs what is not installed: {error}")
    # What examples may use without importing or making it.
    model = fastdl.nn.Linear(2, 3)
    names = {"fastdl": fastdl, "fd": fastdl, "np": numpy, "nn": fastdl.nn, "model": model}
    monkeypatch.chdir(tmp_path)
    if name == "fastdl.serialization":
        pytest.importorskip("safetensors")
        fastdl.save(model.state_dict(), "model.safetensors")
    assert doctest.testmod(module, extraglobs=names).failed == 0
