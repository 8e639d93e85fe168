"""Every kernel family stands on every floor, under one name: a half-added kernel fails here."""

import os
from importlib import import_module
from pathlib import Path

import pytest

from fastdl import kernels

ROOT = Path(__file__).parent.parent
FLOORS = [
    "csrc/core/{}.h",
    "csrc/cpu/{}.cpp",
    "csrc/bindings/{}.cpp",
    "python/fastdl/kernels/numpy/{}.py",
    "tests/kernels/test_{}.py",
]


@pytest.mark.parametrize("family", kernels.FAMILIES)
@pytest.mark.parametrize("floor", FLOORS)
def test_floor_has_the_family(family, floor):
    assert (ROOT / floor.format(family)).is_file()


@pytest.mark.parametrize("folder", ["csrc/cpu", "csrc/bindings", "python/fastdl/kernels/numpy"])
def test_no_family_is_missing_from_the_list(folder):
    helpers = {"array", "attributes", "module", "program", "python_state", "isa", "memory", "threads", "probe"}
    helpers |= {"cuda_array", "cuda_module", "libraries", "layout", "staging"}
    found = {p.stem for p in (ROOT / folder).glob("*") if p.suffix in (".cpp", ".py")}
    named = {stem for stem in found if not stem.startswith("_")} - helpers
    assert named == set(kernels.FAMILIES)


def test_every_family_has_cuda_kernels():
    assert {p.stem for p in (ROOT / "csrc/cuda").glob("*.cu")} - {"runtime", "conv2d_weights"} == set(kernels.FAMILIES)


@pytest.mark.parametrize("family", kernels.FAMILIES)
def test_compiled_kernels_are_complete(cpu, family):
    names = import_module(f"fastdl.kernels.numpy.{family}").__all__
    extension = import_module("fastdl._cpu")
    assert [name for name in names if not hasattr(extension, name)] == []


@pytest.mark.skipif("FASTDL_EXPECT_COMPILED" not in os.environ, reason="FASTDL_EXPECT_COMPILED is not set")
def test_compiled_module_is_there():
    assert kernels.backend("cpu").name == "cpu"
