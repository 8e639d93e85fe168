"""Finding NVIDIA's libraries for the CUDA backend: looked for when a kernel first asks, never required.

A copy that the process already has (PyTorch's) is taken first, then one from wheels, conda or the system, at last what
the dynamic linker's own search finds. Where none is found, `status()` says why and fastdl's own kernels serve.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType


class Library:
    """One library of an extension module (`fastdl._cuda`), which opens it with `load_<name>(path)`.

    Args:
        name: as the extension has it.
        work: what the library does and fastdl's own kernels do without it, for `status`.
        find: returns a path, or None for the dynamic linker's own search; raises where there is nothing to be found.
    """

    def __init__(self, name: str, work: str, find: Callable[[], str | None]):
        self.name, self.work, self.find = name, work, find
        self._lock = threading.Lock()
        self.forget()

    def forget(self) -> None:
        """Be as if not looked for yet."""
        self._version: int | None = None
        self._reasons: list[str] | None = None  # None: not looked for yet

    def load(self, extension: ModuleType) -> None:
        """Open the library for `extension` once; a failure is kept for `status`."""
        with self._lock:
            if self._reasons is not None:
                return
            reasons = []
            for find in (self.find, lambda: None):
                try:
                    self._version = getattr(extension, f"load_{self.name}")(find())
                    break
                except (ImportError, OSError, RuntimeError) as error:
                    reasons.append(str(error).strip().splitlines()[0] if str(error).strip() else repr(error))
            self._reasons = reasons

    def status(self) -> str:
        """The version in use, or why there is none."""
        if self._version is not None:
            return f"{self._version // 10000}.{self._version // 100 % 100}.{self._version % 100}"
        if self._reasons is None:
            return f"not looked for yet: the first of the {self.work} does"
        return f"missing, fastdl's own {self.work} serve: " + "; ".join(self._reasons)


def _cublaslt_path() -> str | None:
    """As cuda-pathfinder, which comes with CuPy, finds it: in the process, in wheels, conda or the system."""
    from cuda.pathfinder import load_nvidia_dynamic_lib

    return load_nvidia_dynamic_lib("cublasLt").abs_path


def _cudnn_path() -> str | None:
    """In the process, or among wheels, which cuda-pathfinder knows by their headers alone."""
    soname = "libcudnn.so.9"
    try:
        ctypes.CDLL(soname, mode=os.RTLD_NOW | os.RTLD_NOLOAD)
        return None  # the dynamic linker gives the same copy again; by another path it would be a second one
    except OSError:
        pass
    spec = importlib.util.find_spec("nvidia.cudnn")
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder, "lib", soname)
        if path.is_file():
            return str(path)
    raise RuntimeError(f"no package has nvidia/cudnn/lib/{soname}")


cublaslt = Library("cublaslt", "products", _cublaslt_path)
cudnn = Library("cudnn", "convolutions", _cudnn_path)
