"""Making tensors: from data, constants and random numbers, with torch's names and defaults."""

from __future__ import annotations

import math
import numbers

import numpy as np

from . import device as _device
from . import random
from .functional.copy import sizes_of
from .functional.elementwise import number_as
from .kernels import backend, is_array, on_gpu, place, to_host
from .tensor import Tensor, check_dtype, check_tensor, dtype_called, use_bfloat16

_DLPACK_HOST, _DLPACK_CUDA = (1, 3), 2  # kDLCPU, and kDLCUDAHost: pinned; kDLCUDA


def dtype_of(function: str, dtype, default=None):
    """A dtype that tensors hold, given as NumPy understands it; None gives the default."""
    if dtype is None:
        return default
    return dtype_called(function, dtype)


def tensor(data, requires_grad: bool = False, dtype=None, device=None) -> Tensor:
    """A Tensor with a copy of the data.

    Args:
        data: a number, nested lists of numbers, an array or a Tensor. Python floats become float32 and ints
            int64, as in torch; arrays keep their dtype.
        requires_grad: record operations on it.
        dtype: float32, float64, bfloat16, int32, int64, uint8 or bool; None derives it from the data.
        device: "cuda" makes it on the GPU, "cpu" and "numpy" in the host's memory; None: a Tensor's own, else the one
            in use (`fastdl.set_device`).

    Raises TypeError for data that are not numbers, ValueError for ragged lists.
    """
    _device.check(device)
    dtype = dtype_of("tensor", dtype)
    if isinstance(data, Tensor):
        device, data = device or data.device, data.data
    if on_gpu(data):
        array = data.astype(dtype or check_dtype("tensor", data.dtype), order="C")
        return Tensor(place(array, device or "cuda"), requires_grad)
    given = isinstance(data, (np.ndarray, np.generic))
    try:
        array = np.array(_plain(data), dtype=None if not given else dtype, order="C")
    except ValueError:
        raise ValueError("tensor: data must be rectangular, got nested lists of different lengths") from None
    if array.dtype == object or (array.dtype.kind not in "iubf" and array.dtype.name != "bfloat16"):
        kind = type(data).__name__ if array.dtype == object else array.dtype
        raise TypeError(f"tensor: data must be numbers or bools, got {kind}")
    if not given and dtype is None and array.dtype == np.float64 and not _holds_arrays(data):
        dtype = np.dtype(np.float32)
    if dtype is not None and array.dtype != dtype:
        array = _converted(array, dtype)
    check_dtype("tensor", array.dtype)
    return Tensor(place(array, device), requires_grad)


def _converted(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The array in another dtype; numbers that an integer dtype can't hold raise rather than wrap round."""
    if dtype.kind in "iu" and array.size:
        low, high, limits = array.min(), array.max(), np.iinfo(dtype)
        if not (limits.min <= low and high <= limits.max):
            raise ValueError(f"tensor: data must be in the range of {dtype}, got {low} to {high}")
    return array.astype(dtype)


def _plain(data):
    """Nested lists with their Tensors replaced by arrays."""
    if isinstance(data, Tensor):
        return to_host(data.data)
    if isinstance(data, (list, tuple)):
        return [_plain(item) for item in data]
    return data


def _holds_arrays(data) -> bool:
    """Whether nested lists hold NumPy values, whose dtype is to be kept."""
    while isinstance(data, (list, tuple)) and len(data):
        data = data[0]
    return isinstance(data, (np.ndarray, np.generic, Tensor))


def from_numpy(array) -> Tensor:
    """A Tensor that shares the array's memory."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"from_numpy: array must be a NumPy array, got {type(array).__name__}")
    return _shared("from_numpy", array)


def _shared(function: str, array) -> Tensor:
    check_dtype(function, array.dtype)
    return Tensor(array)


def from_dlpack(array) -> Tensor:
    """A Tensor that shares the memory of another framework's array or tensor, by the DLPack protocol.

    array: anything with `__dlpack__` and `__dlpack_device__`: a PyTorch tensor without autograd, a JAX, NumPy or CuPy
        array. Read-only memory of the host gives a Tensor that in-place operations refuse. On a GPU, CuPy's current
        stream waits for the other framework's work, as the protocol has it.

    Raises TypeError for something else or a dtype that tensors don't hold, RuntimeError for memory of a GPU that isn't
    NVIDIA's or can't be used, with the reason; what the other framework raises when it can't hand its memory over
    (BufferError) is passed on.
    """
    if not (hasattr(array, "__dlpack__") and hasattr(array, "__dlpack_device__")):
        raise TypeError(f"from_dlpack: array must speak DLPack (__dlpack__), got {type(array).__name__}")
    kind, number = array.__dlpack_device__()
    if kind == _DLPACK_CUDA:
        return _shared("from_dlpack", backend("cuda").cupy.from_dlpack(array))
    if kind not in _DLPACK_HOST:
        raise RuntimeError(
            "from_dlpack: array must lie in the memory of the host or of an NVIDIA GPU, got DLPack device "
            f"{int(kind)}:{number}"
        )
    from ._dlpack import Taken

    taken = Taken(array)
    try:
        shared = np.from_dlpack(taken)
    except RuntimeError as error:  # of NumPy, for a dtype that it doesn't know
        if "dtype" not in str(error):
            raise
        raise TypeError(
            f"from_dlpack: dtype must be float32, float64, bfloat16, int32, int64, uint8 or bool, got {array.dtype}"
        ) from None
    return _shared("from_dlpack", shared.view(use_bfloat16()) if taken.bfloat16 else shared)


def as_tensor(data, dtype=None, device=None) -> Tensor:
    """data as a Tensor, sharing memory where it is a Tensor or array of that dtype and on that device already.

    Arrays are NumPy's, CuPy's, and what describes memory of a GPU by `__cuda_array_interface__` (a PyTorch tensor there
    without autograd, Numba's arrays): CuPy's current stream then waits for the other library's, if that names one.
    """
    _device.check(device)
    dtype = dtype_of("as_tensor", dtype)
    if is_array(data):
        data = _shared("as_tensor", data)
    elif not isinstance(data, Tensor) and hasattr(data, "__cuda_array_interface__"):
        data = _shared("as_tensor", backend("cuda").cupy.asarray(data))
    if isinstance(data, Tensor):
        data = data if dtype is None else data.to(dtype)
        return data if device is None else data.to(device)
    return tensor(data, dtype=dtype, device=device)


def _finish(array, requires_grad, device) -> Tensor:
    _device.check(device)
    return Tensor(place(array, device), requires_grad)


def _sizes(function: str, size: tuple) -> tuple:
    sizes = sizes_of(function, size, "size")
    if any(n < 0 for n in sizes):
        raise ValueError(f"{function}: size must be at least 0, got {sizes}")
    return sizes


def zeros(*size, dtype=np.float32, requires_grad: bool = False, device=None) -> Tensor:
    """A Tensor of zeros; size as ints or one tuple."""
    return _finish(np.zeros(_sizes("zeros", size), dtype_of("zeros", dtype, np.float32)), requires_grad, device)


def ones(*size, dtype=np.float32, requires_grad: bool = False, device=None) -> Tensor:
    """A Tensor of ones; size as ints or one tuple."""
    return _finish(np.ones(_sizes("ones", size), dtype_of("ones", dtype, np.float32)), requires_grad, device)


def empty(*size, dtype=np.float32, requires_grad: bool = False, device=None) -> Tensor:
    """A Tensor to be filled; zeros, so that nothing depends on old memory."""
    return zeros(*size, dtype=dtype, requires_grad=requires_grad, device=device)


def full(size, fill_value, dtype=None, requires_grad: bool = False, device=None) -> Tensor:
    """One value: float32 for floats, int64 for ints, bool for bools, or of the given dtype."""
    if not isinstance(fill_value, (numbers.Real, np.bool_)):
        raise TypeError(f"full: fill_value must be a number, got {type(fill_value).__name__}")
    if isinstance(fill_value, (bool, np.bool_)):
        default = np.bool_
    else:
        default = np.int64 if isinstance(fill_value, numbers.Integral) else np.float32
    value = number_as("full", "fill_value", fill_value, dtype_of("full", dtype, np.dtype(default)))
    return _finish(np.full(_sizes("full", (size,)), value), requires_grad, device)


def zeros_like(input, dtype=None, requires_grad: bool = False) -> Tensor:
    """Zeros in the shape, dtype and memory order of input."""
    return full_like(input, 0, dtype, requires_grad)


def ones_like(input, dtype=None, requires_grad: bool = False) -> Tensor:
    """Ones in the shape, dtype and memory order of input."""
    return full_like(input, 1, dtype, requires_grad)


def full_like(input, fill_value, dtype=None, requires_grad: bool = False) -> Tensor:
    """One value in the shape, dtype and memory order of input."""
    x = check_tensor("full_like", "input", input).data
    if not isinstance(fill_value, (numbers.Real, np.bool_)):
        raise TypeError(f"full_like: fill_value must be a number, got {type(fill_value).__name__}")
    value = number_as("full_like", "fill_value", fill_value, dtype_of("full_like", dtype, x.dtype))
    return Tensor(np.full_like(x, value, value.dtype), requires_grad)


def empty_like(input, dtype=None, requires_grad: bool = False) -> Tensor:
    """Zeros in the shape, dtype and memory order of input, to be filled."""
    return zeros_like(input, dtype, requires_grad)


def arange(start, end=None, step=1, dtype=None, requires_grad: bool = False, device=None) -> Tensor:
    """start, start + step, ... below end; arange(end) starts at 0. int64 for ints, else float32."""
    if end is None:
        start, end = 0, start
    for name, value in (("start", start), ("end", end), ("step", step)):
        if not isinstance(value, numbers.Real):
            raise TypeError(f"arange: {name} must be a number, got {type(value).__name__}")
        if not math.isfinite(value):
            raise ValueError(f"arange: {name} must be finite, got {value}")
    if step == 0 or (end - start) * step < 0:
        raise ValueError(f"arange: step must lead from start to end, got {start}, {end}, {step}")
    whole = all(isinstance(value, numbers.Integral) for value in (start, end, step))
    return _finish(
        np.arange(start, end, step).astype(dtype_of("arange", dtype, np.int64 if whole else np.float32)),
        requires_grad,
        device,
    )


def linspace(
    start: float, end: float, steps: int, dtype=np.float32, requires_grad: bool = False, device=None
) -> Tensor:
    """`steps` numbers evenly spaced from start to end, both included."""
    (steps,) = _sizes("linspace", (steps,))
    array = np.linspace(start, end, steps).astype(dtype_of("linspace", dtype, np.float32))
    return _finish(array, requires_grad, device)


def eye(n: int, m: int | None = None, dtype=np.float32, requires_grad: bool = False, device=None) -> Tensor:
    """The (n, m) matrix with ones on its diagonal; m None is n."""
    rows, columns = _sizes("eye", (n, n if m is None else m))
    return _finish(np.eye(rows, columns, dtype=dtype_of("eye", dtype, np.float32)), requires_grad, device)


def rand(*size, generator=None, dtype=np.float32, requires_grad: bool = False, device=None) -> Tensor:
    """Uniform random numbers in [0, 1)."""
    array = random.uniform(_sizes("rand", size), dtype=dtype_of("rand", dtype, np.float32), generator=generator)
    return _finish(array, requires_grad, device)


def randn(*size, generator=None, dtype=np.float32, requires_grad: bool = False, device=None) -> Tensor:
    """Normal random numbers with mean 0 and variance 1."""
    array = random.normal(_sizes("randn", size), dtype=dtype_of("randn", dtype, np.float32), generator=generator)
    return _finish(array, requires_grad, device)


def rand_like(input, dtype=None, requires_grad: bool = False) -> Tensor:
    """Uniform random numbers in the shape and dtype of input."""
    check_tensor("rand_like", "input", input)
    dtype = input.data.dtype if dtype is None else dtype
    return rand(input.data.shape, dtype=dtype, requires_grad=requires_grad, device=input.device)


def randn_like(input, dtype=None, requires_grad: bool = False) -> Tensor:
    """Normal random numbers in the shape and dtype of input."""
    check_tensor("randn_like", "input", input)
    dtype = input.data.dtype if dtype is None else dtype
    return randn(input.data.shape, dtype=dtype, requires_grad=requires_grad, device=input.device)


def randint(low: int, high, size=None, *, generator=None, dtype=np.int64, device=None) -> Tensor:
    """Uniform integers in [low, high); randint(high, size) starts at 0."""
    if size is None:
        low, high, size = 0, low, high
    values = random._pick("randint", generator).integers(low, high, _sizes("randint", (size,)))
    return _finish(values.astype(dtype_of("randint", dtype, np.int64), copy=False), False, device)


def randperm(n: int, *, generator=None, device=None) -> Tensor:
    """A random order of 0 .. n-1, int64."""
    return _finish(random.permutation(n, generator), False, device)
