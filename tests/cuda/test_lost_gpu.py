"""A test that loses the GPU ends its process and says so; one that only fails does not."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import on_gpu

TESTS = Path(on_gpu.__file__).parent
FAILING = """
import sys, types

def synchronize():
    raise RuntimeError("cudaErrorIllegalAddress")

def test_first():
    runtime = types.SimpleNamespace(deviceSynchronize=SYNCHRONIZE)
    sys.modules["cupy"] = types.SimpleNamespace(cuda=types.SimpleNamespace(is_available=lambda: True, runtime=runtime))
    assert 0

def test_second():
    assert 0
"""


@pytest.mark.parametrize("synchronize, status", [("synchronize", 3), ("lambda: None", 1)])
def test_the_run_ends(tmp_path, synchronize, status):
    (tmp_path / "conftest.py").write_text((TESTS / "conftest.py").read_text())
    (tmp_path / "test_it.py").write_text(FAILING.replace("SYNCHRONIZE", synchronize))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={tmp_path}", str(tmp_path)]
    path = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=120)
    assert done.returncode == status, done.stdout + done.stderr
    told = "the GPU is lost since <test_it.py::test_first>: cudaErrorIllegalAddress" in done.stdout
    assert told == (status == 3) and ("2 failed" in done.stdout) == (status == 1)


def test_no_gpu_can_be_lost(monkeypatch):
    for found in (None, SimpleNamespace(), SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: False))):
        monkeypatch.setitem(sys.modules, "cupy", found)
        assert on_gpu.lost() == ""
