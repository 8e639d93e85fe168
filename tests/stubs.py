"""Libraries for tests, compiled when a test needs them."""

import contextlib
import ctypes
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


class Stub:
    """The emulated kernels with a stand-in for the library `name` behind them, which counts and checks its calls."""

    def __init__(self, module, path, name):
        self.module, self.stand_in, self.path, self.name = module, ctypes.CDLL(path), path, name
        self.stand_in.stub_wrong.restype = ctypes.c_char_p

    def count(self, what="products"):
        return self.stand_in.stub_count(what.encode())

    def wrong(self):
        return self.stand_in.stub_wrong().decode()

    def reset(self, supports=True, create_fails=False):
        """Forget counts and plans; `supports`: whether it proposes algorithms, `create_fails`: no handle."""
        self.stand_in.stub_reset(supports, create_fails)
        getattr(self.module, f"load_{self.name}")(self.path)


@contextlib.contextmanager
def in_use(stub, *leaks):
    """The stub, loaded; afterwards no rule was broken and nothing of what `leaks` names is left."""
    stub.reset()
    yield stub
    stub.module.set_tf32(False)
    stub.module.emulate_capture(False)
    stub.module.emulate_clock(False)
    getattr(stub.module, f"unload_{stub.name}")()
    assert stub.wrong() == ""
    assert [stub.count(what) for what in leaks] == [0] * len(leaks)
