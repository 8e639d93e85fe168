"""How the rows of an array become floats on their way into a batch."""

from __future__ import annotations

import numpy as np

from .. import kernels

_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
_CONVERTIBLE = (np.dtype(np.uint8), *_FLOATS)


class Convert:
    """Say how the rows of one array become floats: y = (x * scale - mean) / std.

    Args:
        scale: a finite number; default 1.
        mean: a number, or one for each channel (dimension 1 of the array); default 0.
        std: positive, a number or one for each channel; default 1.
        dtype: "float32" (default) or "float64".

    Raises:
        TypeError, ValueError: naming the argument. DataLoader checks that mean and std fit the channels.
    """

    def __init__(self, scale=1.0, mean=0.0, std=1.0, dtype="float32"):
        self.scale = _numbers("scale", scale)
        if self.scale.shape != (1,):
            raise ValueError(f"Convert: scale must be one number, got {scale!r}")
        self.scale = float(self.scale[0])
        self.mean, self.std = _numbers("mean", mean), _numbers("std", std)
        if (self.std <= 0).any():
            raise ValueError(f"Convert: std must be positive, got {std!r}")
        try:
            known = dtype is not None and np.dtype(dtype) in _FLOATS  # np.dtype(None) is float64
        except TypeError:
            known = False
        if not known:
            raise ValueError(f"Convert: dtype must be 'float32' or 'float64', got {dtype!r}")
        self.dtype = np.dtype(dtype).name


def _numbers(name: str, value) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"Convert: {name} must be a number or numbers, got {value!r}")
    if array.ndim > 1 or array.size == 0:
        raise ValueError(f"Convert: {name} must be one number or one a channel, got shape {array.shape}")
    array = np.atleast_1d(array).astype(np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"Convert: {name} must be finite, got {value!r}")
    return array


class Source:
    """One array of a data set as the kernel wants it, with its conversion (None: its rows as they are).

    Floats always take the kernel's way, which gives them the backend's memory order.
    """

    def __init__(self, number: int, array: np.ndarray, convert: Convert | None):
        name, native = f"DataLoader: array {number}", array.dtype.newbyteorder("=")
        if convert is not None and native not in _CONVERTIBLE:
            raise TypeError(f"{name} must be uint8, float32 or float64 to be converted, got {array.dtype}")
        if native.kind == "f":
            if native not in _FLOATS:
                raise TypeError(f"{name} must be float32, float64, bfloat16, bool or integers, got {array.dtype}")
            convert = convert or Convert(dtype=native)
        channels = array.shape[1] if array.ndim > 1 else 1
        for key in ("mean", "std") if convert else ():
            size = getattr(convert, key).size
            if size not in (1, channels):
                allowed = "1 number" if channels == 1 else f"1 number or {channels}"
                raise ValueError(f"{name} of shape {array.shape} must have {allowed} as {key}, got {size}")
        # Made contiguous once here: the kernel would copy the whole array in every call.
        same = array.dtype == native and array.flags.c_contiguous
        self.array, self._convert = array if same else array.astype(native, order="C"), convert

    def gather(self, rows):
        """The rows with these numbers (int64, in range, where the array lies), converted."""
        array, c = self.array, self._convert
        if c is None:
            return array[rows]
        return kernels.of(array).gather_batch(array, rows, c.scale, c.mean, c.std, c.dtype)


def converts(count: int, first: dict, others) -> list[Convert | None]:
    """The conversion of each of `count` arrays, from the loader's arguments."""
    first = {key: value for key, value in first.items() if value is not None}
    others = {} if others is None else others
    if not isinstance(others, dict):
        raise TypeError(f"DataLoader: convert must be a dict, got {type(others).__name__}")
    for number, value in others.items():
        if not isinstance(value, Convert):
            raise TypeError(f"DataLoader: convert[{number!r}] must be a Convert, got {type(value).__name__}")
        if number not in range(count):
            raise ValueError(f"DataLoader: convert must name arrays in [0, {count}), got {number!r}")
    if first and 0 in others:
        raise ValueError(f"DataLoader: give {', '.join(first)} or convert[0], not both")
    return [Convert(**first) if first and i == 0 else others.get(i) for i in range(count)]
