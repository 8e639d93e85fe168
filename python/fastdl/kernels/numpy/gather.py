"""Reference of the gather family: a batch of samples picked from a data set and normalised in one pass."""

from __future__ import annotations

import numpy as np

from . import _check

__all__ = ["gather_batch"]

KERNEL = "gather_batch"


def _check_channels(name: str, x, channels: int) -> None:
    if not isinstance(x, np.ndarray):
        raise TypeError(f"{KERNEL}: {name} must be a NumPy array, got {_check.type_name(x)}")
    if x.dtype != np.float64:
        raise TypeError(f"{KERNEL}: {name} must be float64, got {x.dtype}")
    if x.shape not in ((1,), (channels,)):
        raise ValueError(f"{KERNEL}: {name} must have shape (1,) or ({channels},), got {x.shape}")
    if not np.isfinite(x).all() or (name == "std" and not x.all()):
        word = "finite and not 0" if name == "std" else "finite"
        bad = x[~np.isfinite(x) | (x == 0 if name == "std" else False)][0]
        raise ValueError(f"{KERNEL}: {name} must be {word}, got {bad:g}")


def gather_batch(data, index, scale, mean, std, dtype):
    """y = (data[index] * scale - mean) / std, the rows of a batch as floats.

    data (R, ...) uint8, float32 or float64, index (B,) int64, y (B, ...) of dtype "float32" or "float64".
    mean and std are float64 of shape (1,), or (C,) where C = data.shape[1] is the channel axis; std holds no
    0. Computed in double and rounded once; compiled kernels may round the two constants of the affine map
    first. Raises IndexError for an index outside [0, R), TypeError or ValueError for anything else.
    """
    if not isinstance(data, np.ndarray):
        raise TypeError(f"{KERNEL}: data must be a NumPy array, got {_check.type_name(data)}")
    if data.dtype not in (np.dtype(np.uint8), *_check.FLOATS):
        raise TypeError(f"{KERNEL}: data must be uint8, float32 or float64, got {data.dtype}")
    if data.ndim == 0:
        raise ValueError(f"{KERNEL}: data must have at least 1 dimension, got shape ()")
    if not isinstance(index, np.ndarray):
        raise TypeError(f"{KERNEL}: index must be a NumPy array, got {_check.type_name(index)}")
    if index.dtype != np.int64:
        raise TypeError(f"{KERNEL}: index must be int64, got {index.dtype}")
    _check.rank(KERNEL, "index", index, 1, "(B,)")
    _check.number(KERNEL, "scale", scale)
    channels = data.shape[1] if data.ndim > 1 else 1
    _check_channels("mean", mean, channels)
    _check_channels("std", std, channels)
    _check.choice(KERNEL, "dtype", dtype, ("float32", "float64"))
    _check.indices(KERNEL, "index", index, data.shape[0])
    along = (-1,) + (1,) * (data.ndim - 2)  # the channel axis of a batch
    if data.ndim == 1:
        along = (1,)
    return ((data[index] * np.float64(scale) - mean.reshape(along)) / std.reshape(along)).astype(dtype)
