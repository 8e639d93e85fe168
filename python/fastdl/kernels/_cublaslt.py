"""Finding NVIDIA's cuBLASLt for the CUDA backend: looked for at the first matrix product, never required.

cuda-pathfinder, which comes with CuPy, takes the copy that the process already has (PyTorch's), then one from wheels,
conda or the system; without it the dynamic linker's own search decides. Where none is found, `status()` says why and
fastdl's own products serve.
"""

from __future__ import annotations

import threading
from types import ModuleType

_lock = threading.Lock()
_version: int | None = None
_reasons: list[str] | None = None  # None: not looked for yet


def load(extension: ModuleType) -> None:
    """Open cuBLASLt for `extension` (`fastdl._cuda`) once; a failure is kept for `status`."""
    global _version, _reasons
    with _lock:
        if _reasons is not None:
            return
        reasons = []
        for find in (_path_by_pathfinder, lambda: None):
            try:
                _version = extension.load_cublaslt(find())
                break
            except (ImportError, OSError, RuntimeError) as error:
                reasons.append(str(error).strip().splitlines()[0] if str(error).strip() else repr(error))
        _reasons = reasons


def _path_by_pathfinder() -> str | None:
    from cuda.pathfinder import load_nvidia_dynamic_lib

    return load_nvidia_dynamic_lib("cublasLt").abs_path


def status() -> str:
    """The version in use, or why there is none."""
    if _version is not None:
        return f"{_version // 10000}.{_version // 100 % 100}.{_version % 100}"
    if _reasons is None:
        return "not looked for yet: the first matrix product does"
    return "missing, fastdl's own products serve: " + "; ".join(_reasons)
