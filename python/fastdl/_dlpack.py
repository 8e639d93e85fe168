"""bfloat16 over DLPack in the host's memory: NumPy, which knows no such dtype there, hands over and takes int16.

The code of the dtype is changed in the capsule (dlpack.h, the same place in both its versions), while it is on its way:
shape, strides, lifetime and read-only memory stay NumPy's business.
"""

from __future__ import annotations

import ctypes

import numpy as np

_INT, _BFLOAT = 0, 4  # kDLInt, kDLBfloat


class _Tensor(ctypes.Structure):
    """The head of DLTensor, with which DLManagedTensor begins."""

    _fields_ = [
        ("data", ctypes.c_void_p), ("device", ctypes.c_int32 * 2), ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16),
    ]  # fmt: skip


class _Versioned(ctypes.Structure):
    """DLManagedTensorVersioned."""

    _fields_ = [
        ("version", ctypes.c_uint32 * 2), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64), ("tensor", _Tensor),
    ]  # fmt: skip


_name = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(("PyCapsule_GetName", ctypes.pythonapi))
_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)


def _tensor(capsule) -> _Tensor:
    name = _name(capsule)
    at = _pointer(capsule, name)
    return _Versioned.from_address(at).tensor if name == b"dltensor_versioned" else _Tensor.from_address(at)


def give(array: np.ndarray, **options):
    """The capsule of an array of bfloat16; options are those of the DLPack protocol."""
    capsule = array.view(np.int16).__dlpack__(**options)
    _tensor(capsule).code = _BFLOAT
    return capsule


class Taken:
    """Another framework's array for NumPy to take: one of bfloat16 comes as int16, and `bfloat16` says so."""

    bfloat16 = False

    def __init__(self, array):
        self._array = array

    def __dlpack__(self, **options):
        capsule = self._array.__dlpack__(**options)
        tensor = _tensor(capsule)
        if (tensor.code, tensor.bits, tensor.lanes) == (_BFLOAT, 16, 1):
            tensor.code, self.bfloat16 = _INT, True
        return capsule

    def __dlpack_device__(self) -> tuple:
        return self._array.__dlpack_device__()
