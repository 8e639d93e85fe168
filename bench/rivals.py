"""Who is timed beside fastdl: what is installed, and the same number of threads for all of them."""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
from pathlib import Path

from . import gpu, precision

NAMES = ("numpy", "torch", "torch-compile", "torch-graph", "jax")
TORCH = {"torch", "torch-compile", "torch-graph"}
DEFAULT = ("numpy", "torch")


class Rivals:
    """The chosen rivals that are installed, held to `threads` threads.

    names: some of `NAMES`. threads: for fastdl and for every rival; by default what fastdl uses, the cores that this
    process may use. torch, jax: the modules, None if not chosen or not installed. notes: what a reader of the figures
    has to know, such as who is left out.

    Raises ValueError for another name.
    """

    def __init__(self, names=(), threads: int | None = None):
        import fastdl

        unknown = [name for name in names if name not in NAMES]
        if unknown:
            raise ValueError(f"--against must name {', '.join(NAMES[:-1])} or {NAMES[-1]}, got {', '.join(unknown)}")
        if threads is not None:
            if not 1 <= threads <= 256:
                raise ValueError(f"--threads must be in [1, 256], got {threads}")
            fastdl.set_num_threads(threads)
        self.threads = fastdl.get_num_threads()
        self.notes: list[str] = []
        missing = set()
        self.torch = self._load("torch", TORCH & set(names), missing)
        if gpu.in_use():
            names = self._on_gpu(names, missing)
        elif "torch-graph" in names:
            raise ValueError("--against torch-graph is a CUDA graph: it needs --device cuda")
        os.environ["PJRT_NPROC"] = str(self.threads)  # jax reads it when it makes its threads, at its first use
        self.jax = self._load("jax", {"jax"} & set(names), missing)
        self.names = tuple(name for name in NAMES if name in names and name not in missing)
        if self.torch:
            self.torch.set_num_threads(self.threads)
        if "numpy" in names and not limit_blas(self.threads):
            self.notes.append("numpy's threads can't be set (pip install threadpoolctl); it uses as many as it likes")
        if self.jax:
            self._check_jax()

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def _load(self, package: str, wanted: set[str], missing: set[str]):
        """The package's module, or None if nobody wants it or it isn't there."""
        if not wanted:
            return None
        try:
            return importlib.import_module(package)
        except ImportError:
            missing |= wanted
            left_out = " and ".join(sorted(wanted))
            self.notes.append(f"{package} is not installed: {left_out} left out (`make bench` installs the rivals)")
            return None

    def _on_gpu(self, names, missing: set[str]) -> list:
        """The rivals that are timed on a GPU; PyTorch makes its tensors there, at fastdl's precision."""
        if "jax" in names:
            self.notes.append("jax is timed on the CPU only: left out")
        if self.torch and not self.torch.cuda.is_available():
            self.notes.append("this torch has no CUDA: left out")
            missing |= TORCH
            self.torch = None
        if self.torch:
            self.torch.set_default_device("cuda")
            tf32 = precision.current == "tf32"
            self.torch.backends.cuda.matmul.allow_tf32 = self.torch.backends.cudnn.allow_tf32 = tf32
            self.torch.backends.cudnn.benchmark = True
        return [name for name in names if name != "jax"]

    def tensor(self, array, low: bool = True):
        """The array as a PyTorch tensor on the device that is timed; on the host they share memory.

        low: where products are computed in bfloat16, a float32 array is of bfloat16.
        """
        tensor = self.torch.from_numpy(array).to("cuda" if gpu.in_use() else "cpu")
        lowered = low and precision.low() and tensor.dtype == self.torch.float32
        return tensor.bfloat16() if lowered else tensor

    def _check_jax(self) -> None:
        """PJRT_NPROC is no promise of XLA's, so count its threads."""
        self.jax.numpy.zeros(1).block_until_ready()
        names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
        count = names.count("tf_XLAEigen")
        if count and count != self.threads:
            self.notes.append(f"jax was loaded before and keeps its {count} threads")


def limit_blas(threads: int) -> bool:
    """Hold NumPy's BLAS to `threads` threads: by threadpoolctl, or OpenBLAS (which NumPy's wheels carry) directly."""
    try:
        import threadpoolctl
    except ImportError:
        return _limit_openblas(threads)
    threadpoolctl.threadpool_limits(threads, user_api="blas")
    return True


def _limit_openblas(threads: int) -> bool:
    found = False
    try:
        maps = Path("/proc/self/maps").read_text()
    except OSError:
        return False
    for path in {line.split()[-1] for line in maps.splitlines() if "openblas" in line}:
        library = ctypes.CDLL(path)
        for prefix in ("scipy_openblas", "openblas"):
            for suffix in ("64_", ""):
                if hasattr(library, f"{prefix}_set_num_threads{suffix}"):
                    getattr(library, f"{prefix}_set_num_threads{suffix}")(ctypes.c_int(threads))
                    found = True
    return found


def versions() -> dict[str, str | None]:
    """The versions of NumPy and of the packages among the rivals that are loaded; None for one that is not."""
    return {name: getattr(sys.modules.get(name), "__version__", None) for name in ("numpy", "torch", "jax")}
