"""The CUDA backend: the names of `fastdl.kernels.numpy`, served by the extension module `fastdl._cuda` on CuPy arrays.

A kernel runs on CuPy's current stream and returns CuPy arrays. The import raises ImportError with the link that fails:
no such module in this build, no CuPy, no driver or GPU, or a GPU that this build has no code for. `import fastdl` does
not import it.
"""

try:
    import fastdl._cuda as _cuda
except ModuleNotFoundError as error:
    raise ImportError(
        "this build of fastdl has no CUDA kernels; in a checkout: "
        "pip install '.[cuda13]' -C cmake.define.FASTDL_CUDA=ON"
    ) from error

try:
    import cupy as _cupy
except ModuleNotFoundError as error:
    raise ImportError("CuPy is not installed: pip install 'cupy-cuda13x[ctk]'") from error

from . import _cublaslt
from . import numpy as _reference

name = "cuda"
__all__ = [kernel for kernel in _reference.__all__ if hasattr(_cuda, kernel)]
globals().update({kernel: getattr(_cuda, kernel) for kernel in __all__})
set_tf32, get_tf32 = _cuda.set_tf32, _cuda.get_tf32
_cuda.set_cublaslt_finder(lambda: _cublaslt.load(_cuda))


def cublaslt() -> str:
    """The version of cuBLASLt that matrix products use, looked for now if need be, or why there is none."""
    _cublaslt.load(_cuda)
    return _cublaslt.status()


def _check_gpu() -> None:
    """Raise ImportError unless a kernel of this build runs on the current GPU."""
    try:
        count = _cupy.cuda.runtime.getDeviceCount()
    except _cupy.cuda.runtime.CUDARuntimeError as error:
        raise ImportError(f"CUDA finds no NVIDIA driver or GPU: {error}") from error
    if count == 0:
        raise ImportError("CUDA finds no GPU")
    try:
        _cuda.probe()
    except RuntimeError as error:
        device = _cupy.cuda.Device()
        raise ImportError(
            f"GPU {device.id} (compute capability {device.compute_capability}) can't run the kernels of this build, "
            f"which are for {_cuda.architectures}: {error}"
        ) from error


_check_gpu()
