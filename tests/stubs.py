"""Libraries for tests, compiled when a test needs them."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def compile_library(source, target, *flags):
    """The path of a shared library made of one C++ file; skips without a compiler."""
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None:
        pytest.skip(f"no C++ compiler to make a library of {Path(source).name} with")
    command = [compiler, "-std=c++17", "-O1", "-shared", "-fPIC", "-fvisibility=hidden", *flags]
    subprocess.run([*command, f"-I{ROOT / 'csrc'}", str(source), "-o", str(target)], check=True, timeout=300)
    return str(target)
