"""Kernels: pure functions of arrays, one implementation per backend, the same names and signatures in each.

`of(*arrays)` is the one place that decides which backend serves a call: host arrays go to the host backend that
`fastdl.set_device` chose ("cpu" when the compiled module is there, else "numpy"). See `fastdl.kernels.numpy` for the
definition of every kernel.
"""

from __future__ import annotations

import importlib
import os
import warnings
from types import ModuleType

# One kernel family, one name on every floor; tests/test_families.py walks this list.
FAMILIES = (
    "gemm", "linear", "im2col", "conv2d", "pool2d", "batch_norm", "activation", "softmax", "cross_entropy", "loss",
    "dropout", "embedding", "gather", "elementwise", "reduce", "copy", "sgd", "rmsprop", "adam", "philox",
)  # fmt: skip

_host: ModuleType | None = None


def backend(name: str) -> ModuleType:
    """The backend module called `name` ("numpy", "cpu", "cuda"); raises RuntimeError saying why it can't be had."""
    if name not in ("numpy", "cpu", "cuda"):
        raise ValueError(f"device must be 'numpy', 'cpu' or 'cuda', got {name!r}")
    try:
        return importlib.import_module(f"fastdl.kernels.{name}")
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "fastdl._cpu":
            why = "fastdl was installed without compiled kernels"
        elif name == "cuda":
            why = str(error)
        else:
            why = f"the compiled module could not be loaded: {error}"
        raise RuntimeError(f"device {name!r} is not available: {why}") from error


def set_host(name: str) -> None:
    """Choose the backend that serves host (NumPy) arrays: "numpy" or "cpu"."""
    global _host
    _host = backend(name)


def host() -> ModuleType:
    """The backend that serves host arrays: "cpu" if its compiled module can be loaded, else "numpy" with a warning.

    No warning where a pure install was asked for with FASTDL_PURE=1.
    """
    if _host is None:
        try:
            set_host("cpu")
        except RuntimeError as error:
            set_host("numpy")
            if not _pure_on_purpose():
                message = (
                    f"fastdl runs on NumPy alone, many times slower: {error}. Install a C++20 compiler and fastdl "
                    "again, or set FASTDL_PURE=1 to silence this."
                )
                warnings.warn(message, RuntimeWarning, stacklevel=2)
    return _host


def _pure_on_purpose() -> bool:
    """Whether the package was installed, or is run, with FASTDL_PURE=1; such a wheel is tagged py3-none-any."""
    from importlib.metadata import PackageNotFoundError, distribution

    if os.environ.get("FASTDL_PURE", "0") not in ("", "0"):
        return True
    try:
        return "Tag: py3-none" in (distribution("fastdl").read_text("WHEEL") or "")
    except PackageNotFoundError:
        return False


def of(*arrays) -> ModuleType:
    """The backend that serves these arrays (None entries are skipped)."""
    return _host or host()
