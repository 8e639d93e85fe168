"""The CUDA backend: the names of `fastdl.kernels.numpy`, served by the extension module `fastdl._cuda` on CuPy arrays.

A kernel runs on CuPy's current stream and returns CuPy arrays. The import raises ImportError with all links that are
missing (driver, the module in this build, CuPy), or with what keeps it from using the GPU. `import fastdl` does not
import it.
"""

import ctypes
import functools

import numpy as np

from .. import recording
from . import _libraries
from . import numpy as _reference

_missing = []
try:
    import fastdl._cuda as _cuda
except ModuleNotFoundError:
    _missing.append(
        "this build of fastdl has no CUDA kernels (in a checkout: "
        "pip install '.[cuda13]' -C cmake.define.FASTDL_CUDA=ON)"
    )
try:
    import cupy
except ModuleNotFoundError:
    _missing.append("CuPy is not installed (pip install 'cupy-cuda13x[ctk]')")
if _missing:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        _missing.insert(0, "there is no NVIDIA driver (libcuda.so.1)")
    raise ImportError("; ".join(_missing))

name = "cuda"
__all__ = [kernel for kernel in _reference.__all__ if hasattr(_cuda, kernel)]
globals().update({kernel: getattr(_cuda, kernel) for kernel in __all__})
# The kernels that take bfloat16 as it is.
BFLOAT16 = [
    *_reference.BFLOAT16,
    *("gemm", "linear_forward", "linear_backward", "conv2d_forward", "conv2d_backward"),
    *_reference.batch_norm.__all__,
    *_reference.cross_entropy.__all__,
    *_reference.activation.__all__,
    *(kernel for kernel in _reference.pool2d.__all__ if kernel != "max_pool2d_indices"),
    "dropout",
    *_reference.elementwise.__all__,
    *("sum", "mean", "sum_to", "sum_squares"),
]
set_bfloat16, write_words, Staging = _cuda.set_bfloat16, _cuda.write_words, _cuda.Staging
set_tf32, get_tf32 = _cuda.set_tf32, _cuda.get_tf32
cublaslt_plans, cudnn_plans = _cuda.cublaslt_plans, _cuda.cudnn_plans
_cuda.set_cublaslt_finder(lambda: _libraries.cublaslt.load(_cuda))
_cuda.set_cudnn_finder(lambda: _libraries.cudnn.load(_cuda))


def cublaslt() -> str:
    """The version of cuBLASLt that matrix products use, looked for now if need be, or why there is none."""
    _libraries.cublaslt.load(_cuda)
    return _libraries.cublaslt.status()


def cudnn() -> str:
    """The version of cuDNN that convolutions use, looked for now if need be, or why there is none."""
    _libraries.cudnn.load(_cuda)
    return _libraries.cudnn.status()


def _check_gpu() -> None:
    """Raise ImportError unless a kernel of this build runs on the current GPU."""
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise ImportError(f"CUDA finds no NVIDIA driver or GPU: {error}") from error
    if count == 0:
        raise ImportError("CUDA finds no GPU")
    try:
        _cuda.probe()
    except RuntimeError as error:
        device = cupy.cuda.Device()
        raise ImportError(
            f"GPU {device.id} (compute capability {device.compute_capability}) can't run the kernels of this build, "
            f"which are for {_cuda.architectures}: {error}"
        ) from error


_check_gpu()


# Arrays that are not made by kernels.


def to_device(array: np.ndarray):
    """A copy on the current GPU, in the same memory order; the array may change once the call is over."""
    if array.ndim == 0:  # CuPy fills such an array, and a fill makes 0.0 of -0.0
        return to_device(array.reshape(1)).reshape(())
    order = _memory_order(array)
    dense = np.asarray(array.transpose(order), order="C")
    return cupy.asarray(dense, blocking=True).transpose(np.argsort(order).tolist())


def to_host(array) -> np.ndarray:
    """A copy in the host's memory, in the same memory order; waits for what computes it."""
    order = _memory_order(array)
    return cupy.asnumpy(array.transpose(order)).transpose(np.argsort(order).tolist())


def _memory_order(array) -> list:
    """The axes from the outermost in memory to the innermost."""
    return sorted(range(array.ndim), key=lambda axis: -array.strides[axis])


def constant(value, dtype):
    """A 0-d array, copied once and kept: not to be written to.

    Raises RuntimeError for a new one while a CUDA graph is recorded, which can't hold the copy.
    """
    host = np.array(value, dtype)
    made = _constant(cupy.cuda.runtime.getDevice(), host.dtype, host.tobytes())
    if recording.session is not None:
        recording.session.keep(made)
    return made


@functools.lru_cache(maxsize=4096)
def _constant(device: int, dtype: np.dtype, content: bytes):
    value = np.frombuffer(content, dtype).reshape(())
    if cupy.cuda.get_current_stream().is_capturing():
        raise RuntimeError(
            f"the step uses the number {value}, which it did not use the first time: what changes from step to step "
            "must be in a tensor"
        )
    return to_device(value)
