"""Kernels: pure functions of arrays, one implementation per backend, the same names and signatures in each.

`of(*arrays)` is the one place that decides which backend serves a call: CuPy arrays go to "cuda", host arrays to the
host backend that `fastdl.set_device` chose ("cpu" when the compiled module is there, else "numpy"). See
`fastdl.kernels.numpy` for the definition of every kernel.
"""

from __future__ import annotations

import importlib
import numbers
import os
import warnings
from types import ModuleType

import numpy as np

from .. import recording

# One kernel family, one name on every floor; tests/test_families.py walks this list.
FAMILIES = (
    "gemm", "linear", "im2col", "conv2d", "pool2d", "batch_norm", "activation", "softmax", "cross_entropy", "loss",
    "dropout", "embedding", "gather", "elementwise", "reduce", "copy", "sgd", "rmsprop", "adam", "philox",
)  # fmt: skip

_host: ModuleType | None = None
_cuda: ModuleType | None = None  # once it is loaded
_default: ModuleType | None = None  # serves new tensors; None: the host's backend
gpu_arrays: tuple = ()  # the array types of `_cuda`
bfloat16: np.dtype | None = None  # once it is in use
_rounding: dict = {}  # module: its kernels for arrays of bfloat16
tf32 = False  # whether float32 products on the GPU round their operands


def backend(name: str) -> ModuleType:
    """The backend module called `name` ("numpy", "cpu", "cuda"); raises RuntimeError saying why it can't be had."""
    global _cuda, gpu_arrays
    if name not in ("numpy", "cpu", "cuda"):
        raise ValueError(f"device must be 'numpy', 'cpu' or 'cuda', got {name!r}")
    try:
        module = importlib.import_module(f"fastdl.kernels.{name}")
        if name == "cuda":
            _cuda, gpu_arrays = module, (module.cupy.ndarray,)
            module.set_tf32(tf32)
        if bfloat16 is not None:
            module.set_bfloat16(bfloat16)
        return module
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "fastdl._cpu":
            why = "fastdl was installed without compiled kernels"
        elif name == "cuda":
            why = str(error)
        else:
            why = f"the compiled module could not be loaded: {error}"
        raise RuntimeError(f"device {name!r} is not available: {why}") from error


def use_bfloat16() -> np.dtype:
    """The dtype bfloat16, which the backends take from then on; raises ImportError without the package ml_dtypes."""
    global bfloat16
    if bfloat16 is None:
        try:
            from ml_dtypes import bfloat16 as scalar
        except ModuleNotFoundError as error:
            raise ImportError("bfloat16 needs the package ml_dtypes: pip install ml_dtypes") from error
        dtype = np.dtype(scalar)
        for module in filter(None, {_host or host(), _cuda}):
            module.set_bfloat16(dtype)
        numbers.Real.register(scalar)  # as NumPy's own floats are
        bfloat16 = dtype
    return bfloat16


def set_host(name: str) -> None:
    """Choose the backend that serves host (NumPy) arrays: "numpy" or "cpu"."""
    global _host
    _host = backend(name)


def choose(name: str) -> None:
    """Choose the backend that serves new tensors; "numpy" or "cpu" then serves all host arrays too."""
    global _default
    if name == "cuda":
        _default = backend(name)
    else:
        set_host(name)
        _default = None


def set_tf32(on: bool) -> None:
    """Let float32 products on the GPU round their operands to TF32; before the backend is loaded, too."""
    global tf32
    tf32 = on
    if _cuda is not None:
        _cuda.set_tf32(on)


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
    """The backend that serves these arrays (None entries are skipped): "cuda" if one of them is a CuPy array."""
    if gpu_arrays:
        for array in arrays:
            if isinstance(array, gpu_arrays):
                if recording.session is not None:
                    recording.session.on_gpu(arrays)
                return _cuda if bfloat16 is None else _for(_cuda, arrays)
    return (_host or host()) if bfloat16 is None else _for(_host or host(), arrays)


def _for(module: ModuleType, arrays):
    """The kernels of a module for these arrays, among which there may be some of bfloat16."""
    for array in arrays:
        if array is not None and array.dtype is bfloat16:
            if module not in _rounding:
                from ._bfloat16 import Rounding

                _rounding[module] = Rounding(module, bfloat16)
            return _rounding[module]
    return module


def is_array(value) -> bool:
    """Whether the value is an array that a backend serves.

    Raises RuntimeError with the reason where it is a CuPy array and the CUDA backend can't be had.
    """
    if isinstance(value, (np.ndarray, *gpu_arrays)):
        return True
    if gpu_arrays or type(value).__module__.partition(".")[0] != "cupy":
        return False
    backend("cuda")
    return isinstance(value, gpu_arrays)


def on_gpu(array) -> bool:
    """Whether the array lies in a GPU's memory."""
    return isinstance(array, gpu_arrays)


def place(array: np.ndarray, device: str | None = None):
    """An array where `device` (None: the one in use) wants it: itself, or a copy."""
    if not (_default is not None if device is None else device == "cuda"):
        return to_host(array)
    return array if isinstance(array, gpu_arrays) else backend("cuda").to_device(array)


def to_host(array) -> np.ndarray:
    """The array in the host's memory: itself, or a copy in the same memory order."""
    return _cuda.to_host(array) if isinstance(array, gpu_arrays) else array


def beside(array, like):
    """The array in the memory where `like` lies: itself, or a copy, for moves that were asked for."""
    if isinstance(like, gpu_arrays):
        return array if isinstance(array, gpu_arrays) else _cuda.to_device(np.asarray(array))
    return to_host(array)
