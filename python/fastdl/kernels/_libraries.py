"""Finding NVIDIA's libraries for the CUDA backend: looked for when a kernel first asks, never required.

cuda-pathfinder, which comes with CuPy, takes the copy that the process already has (PyTorch's), then one from wheels,
conda or the system; without it the dynamic linker's own search decides. Where none is found, `status()` says why and
fastdl's own kernels serve.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType


class Library:
    """One library of an extension module (`fastdl._cuda`), which opens it with `load_<name>(path)`.

    Args:
        name: as the extension has it.
        work: what the library does and fastdl's own kernels do without it, for `status`.
        finders: each returns a path or raises; the dynamic linker's own search comes after them.
    """

    def __init__(self, name: str, work: str, *finders: Callable[[], str]):
        self.name, self.work, self.finders = name, work, finders
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
            for find in (*self.finders, lambda: None):
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


def _by_pathfinder(name: str) -> str:
    from cuda.pathfinder import load_nvidia_dynamic_lib

    return load_nvidia_dynamic_lib(name).abs_path


def _cudnn_of_wheel() -> str:
    """For versions of cuda-pathfinder that know cuDNN's headers alone."""
    soname = "libcudnn.so.9"
    spec = importlib.util.find_spec("nvidia.cudnn")
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder, "lib", soname)
        if path.is_file():
            return str(path)
    raise RuntimeError(f"no package has nvidia/cudnn/lib/{soname}")


cublaslt = Library("cublaslt", "products", lambda: _by_pathfinder("cublasLt"))
cudnn = Library("cudnn", "convolutions", lambda: _by_pathfinder("cudnn"), _cudnn_of_wheel)
