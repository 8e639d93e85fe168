"""Where work runs: the backend that serves host arrays, the number of threads, and what this build has."""

from __future__ import annotations

import os
import warnings

import numpy as np

from . import kernels

MAX_THREADS = 256  # of the compiled kernels' pool
NAMES = ("numpy", "cpu", "cuda")


def check(name) -> None:
    """Raise unless `name` is None or a device that can be had.

    TypeError for another type, ValueError for an unknown name, RuntimeError with the reason for one that is missing.
    """
    if name is None:
        return
    if not isinstance(name, str):
        raise TypeError(f"device must be 'numpy', 'cpu' or 'cuda', got {type(name).__name__}")
    kernels.backend(name)


def set_device(name: str) -> None:
    """Choose where new tensors are made and host arrays are computed on: "numpy" (reference), "cpu" (compiled), "cuda".

    Tensors compute where their arrays lie: on the GPU by "cuda", in the host's memory by "numpy" or "cpu", whichever
    was chosen last. With "cuda" new tensors and parameters are made on the GPU; arrays that are given as they are
    (`from_numpy`, data sets) stay in the host's memory until `.to("cuda")`.
    Raises TypeError or ValueError for another name, RuntimeError with the reason where it can't be had;
    nothing falls back in silence.
    """
    if name is None:
        raise TypeError("device must be 'numpy', 'cpu' or 'cuda', got NoneType")
    check(name)
    kernels.choose(name)


def get_device() -> str:
    """The name of the backend that new tensors are made for."""
    return (kernels._default or kernels.host()).name


class device:
    """Context manager: `set_device` inside the block.

    >>> with device("numpy"):
    ...     get_device()
    'numpy'
    """

    def __init__(self, name: str):
        if name is None:
            raise TypeError("device must be 'numpy', 'cpu' or 'cuda', got NoneType")
        check(name)
        self.name = name
        self._before: list = []

    def __enter__(self):
        self._before.append((kernels._host, kernels._default))  # None while no backend has been chosen yet
        set_device(self.name)
        return self

    def __exit__(self, *error):
        kernels._host, kernels._default = self._before.pop()


_PRECISIONS = {"highest": False, "high": True}


def set_float32_matmul_precision(precision: str) -> None:
    """How float32 products, dense layers and convolutions are computed on the GPU.

    The names are those of `torch.set_float32_matmul_precision`.

    precision: "highest" (the default), float32 throughout; "high", operands rounded to TF32 (10 bits of mantissa, three
        decimal digits) and multiplied on tensor cores, sums in float32. Products on the host are always "highest".

    Raises ValueError for another one.
    """
    if precision not in _PRECISIONS:
        raise ValueError(f"set_float32_matmul_precision: precision must be 'highest' or 'high', got {precision!r}")
    kernels.set_tf32(_PRECISIONS[precision])


def get_float32_matmul_precision() -> str:
    """What `set_float32_matmul_precision` has set."""
    return "high" if kernels.tf32 else "highest"


def _compiled():
    """The extension module, or None where it is missing."""
    try:
        from .kernels import cpu  # which applies the environment's settings the first time
    except ImportError:
        return None
    return cpu._cpu


_threads = 1  # of the numpy backend, for get_num_threads to report what was set


def set_num_threads(n: int) -> None:
    """Let kernels use up to n threads; results do not depend on n. n is in [1, 256].

    Raises TypeError for another type, ValueError for another number.
    """
    global _threads
    if not isinstance(n, (int, np.integer)) or isinstance(n, bool):
        raise TypeError(f"set_num_threads: n must be an int, got {type(n).__name__}")
    if not 1 <= n <= MAX_THREADS:
        raise ValueError(f"set_num_threads: n must lie in [1, {MAX_THREADS}], got {n}")
    module = _compiled()
    if module is None:
        _threads = int(n)
    else:
        module.set_num_threads(int(n))


def get_num_threads() -> int:
    """How many threads kernels may use."""
    module = _compiled()
    return _threads if module is None else module.get_num_threads()


def check_environment() -> None:
    """Warn of a FASTDL_NUM_THREADS that kernels can't follow, and forget it."""
    global _threads
    value = os.environ.pop("FASTDL_NUM_THREADS", "").strip()  # blanks are no part of it
    if value:
        if not (value.isascii() and value.isdigit() and 1 <= int(value) <= MAX_THREADS):
            message = f"FASTDL_NUM_THREADS must be a whole number in [1, {MAX_THREADS}], got {value!r}, and is ignored"
            warnings.warn(message, RuntimeWarning, stacklevel=2)
        else:
            _threads = int(value)
            os.environ["FASTDL_NUM_THREADS"] = value


def config() -> dict:
    """What this installation has: version, NumPy, backends (True or why missing), device, instruction set, threads."""
    from . import __version__

    backends = {}
    for name in NAMES:
        try:
            kernels.backend(name)
            backends[name] = True
        except RuntimeError as error:
            backends[name] = str(error)
    module = _compiled()
    return {
        "version": __version__,
        "numpy": np.__version__,
        "backends": backends,
        "device": get_device(),
        "isa": None if module is None else module.get_isa(),
        "isa_levels": [] if module is None else list(module.isa_levels()),
        "threads": get_num_threads(),
    }


def show_config() -> None:
    """Print the version, the backends (or why one is missing), the instruction set and the threads."""
    found = config()
    print(f"fastdl {found['version']}, NumPy {found['numpy']}")
    for name, state in found["backends"].items():
        chosen = " (in use)" if name == found["device"] else ""
        print(f"  {name:<6} {'available' + chosen if state is True else 'missing: ' + state}")
    if found["isa"] is not None:
        print(f"  instruction set {found['isa']} of {', '.join(found['isa_levels'])}")
    print(f"  threads {found['threads']}")


check_environment()
