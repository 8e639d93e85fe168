"""The CUDA backend for tests written with NumPy arrays: they are copied to the GPU and back around each call."""

import ctypes
import sys

import numpy as np
import pytest

ALIGNMENT = 512  # of CuPy's allocations


class OnGpu:
    """A backend module whose kernels take and return NumPy arrays; what a call changes in place is changed here too.

    An array's memory is copied with the gaps between its elements, together with what it shares memory with, and lies
    as it did against a border of 512 bytes: kernels meet the strides, the alignment and the overlaps of the test.
    """

    def __init__(self, module, cupy, name):
        self._module, self._cupy, self.name = module, cupy, name

    def __getattr__(self, name):
        kernel = getattr(self._module, name)
        if not callable(kernel):
            return kernel
        host = slice(3, 5) if name == "gather_batch" else slice(0)  # mean and std, which stay
        return lambda *args, **kwargs: self._call(kernel, args, kwargs, [id(x) for x in args[host]])

    def _call(self, kernel, args, kwargs, host):
        arrays = [x for x in _arrays((args, kwargs)) if id(x) not in host]
        if any(isinstance(x, np.ndarray) and x.dtype == object for x in args):
            pytest.skip("CuPy has no arrays of objects")
        if any(not x.flags.writeable and 0 not in x.strides for x in arrays):  # not one that repeats its elements
            pytest.skip("arrays in a GPU's memory are always writeable")
        sent = [(first, size, self._copy(first, size)) for first, size in _together(map(_memory, arrays))]
        there = {id(x): self._view(x, sent) for x in arrays}
        try:
            result = kernel(*_replaced(args, there), **_replaced(kwargs, there))
        except ValueError as error:
            if "aligned to its items" in str(error) and "_step" not in str(error):  # those refuse it on the host, too
                pytest.skip("the host's backends copy what is not aligned to its items; on a GPU it is refused")
            raise
        except TypeError as error:  # tests know the words of the host's backends
            message = str(error).removesuffix("; move it with .to('cuda')").replace("a CuPy array", "a NumPy array")
            raise TypeError(message.replace("float32, float64 or bfloat16", "float32 or float64")) from error
        for first, size, copy in sent:
            here, now = _bytes(first, size), self._cupy.asnumpy(copy)
            if (here != now).any():
                here[...] = now
        return self._received(result, {id(there[id(x)]): x for x in arrays})

    def _copy(self, first, size):
        room = self._cupy.zeros(size + ALIGNMENT, np.uint8)
        copy = room[first % ALIGNMENT : first % ALIGNMENT + size]
        copy.set(_bytes(first, size))
        return copy

    def _view(self, x, sent):
        at, (begin, count) = x.ctypes.data, _memory(x)
        first, copy = next((first, copy) for first, size, copy in sent if first <= begin <= first + size - count)
        return self._cupy.ndarray(x.shape, x.dtype, memptr=copy.data + (at - first), strides=x.strides)

    def _received(self, value, given):
        """The result on the host, in its memory order; an argument that is handed back as what it was here."""
        if isinstance(value, (list, tuple)):
            return type(value)(self._received(item, given) for item in value)
        if not isinstance(value, self._cupy.ndarray):
            return value
        if id(value) in given:
            return given[id(value)]
        order = sorted(range(value.ndim), key=lambda d: -value.strides[d])
        return self._cupy.asnumpy(value.transpose(order)).transpose(np.argsort(order))


def _arrays(value):
    if isinstance(value, np.ndarray) and value.dtype != object:
        yield value
    elif isinstance(value, (list, tuple, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _arrays(item)


def _replaced(value, there):
    if isinstance(value, dict):
        return {key: _replaced(item, there) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_replaced(item, there) for item in value)
    return there.get(id(value), value)


def _memory(x):
    """The first byte in memory of any element of x, and how many there are from it to the last."""
    steps = [(n - 1) * s for n, s in zip(x.shape, x.strides)] if x.size else []
    below, above = sum(s for s in steps if s < 0), sum(s for s in steps if s > 0)
    return x.ctypes.data + below, above - below + x.itemsize if x.size else 0


def _together(ranges):
    """Ranges of memory, those that overlap as one."""
    found = []
    for first, size in sorted(ranges):
        if found and first < sum(found[-1]):
            found[-1][1] = max(found[-1][1], first + size - found[-1][0])
        else:
            found.append([first, size])
    return found


def _bytes(first, size):
    return np.frombuffer((ctypes.c_uint8 * size).from_address(first), np.uint8)


def skip_where_unseen(backend, error):
    """Skip a test of indices out of range on a GPU, whose memory is not read for a check (kernels give NaN there)."""
    if error is IndexError and backend.name in ("cuda", "emulated"):
        pytest.skip("indices in a GPU's memory are not looked at")


def lost() -> str:
    """Why the GPU, if this process uses one, answers nothing any more (after an access to memory that is not there)."""
    cupy = sys.modules.get("cupy")
    if not hasattr(getattr(cupy, "cuda", None), "is_available") or not cupy.cuda.is_available():
        return ""  # not CuPy but its stand-in, or no GPU
    try:
        cupy.cuda.runtime.deviceSynchronize()
    except Exception as error:
        return str(error)
    return ""
