"""Reference of the copy family: memory order, concatenation, and the gradient of a slice.

These move bytes and work on every dtype of the library. Only values and shapes are defined here;
the compiled kernels return 4-D results channels-last in memory except from `contiguous`.
"""

from __future__ import annotations

import numpy as np

from . import _check

__all__ = ["contiguous", "channels_last", "concatenate", "slice_backward", "assign", "cast", "clone"]

DTYPES = {name: np.dtype(name) for name in ("float32", "float64", "int32", "int64", "uint8", "bool")}


def set_bfloat16(dtype: np.dtype) -> None:
    """Take arrays of bfloat16, too, whose dtype NumPy does not have."""
    DTYPES["bfloat16"] = dtype


def _check_plain(kernel: str, name: str, x) -> None:
    """x is an array of one of the library's dtypes."""
    if not isinstance(x, np.ndarray):
        raise TypeError(f"{kernel}: {name} must be a NumPy array, got {_check.type_name(x)}")
    if x.dtype not in DTYPES.values():
        allowed = "float32, float64, bfloat16, int32, int64, uint8 or bool"
        raise TypeError(f"{kernel}: {name} must be {allowed}, got {x.dtype}")


def contiguous(x):
    """x itself if its memory is in C order, else a copy that is. TypeError for another dtype."""
    _check_plain("contiguous", "x", x)
    return x if x.flags.c_contiguous else x.copy(order="C")


def channels_last(x):
    """x (N, C, H, W) with memory in the order N, H, W, C: x itself if it already is, else a copy.

    Raises TypeError for another dtype, ValueError for another rank.
    """
    _check_plain("channels_last", "x", x)
    _check.rank("channels_last", "x", x, 4, "(N, C, H, W)")
    rows = x.transpose(0, 2, 3, 1)
    return x if rows.flags.c_contiguous else rows.copy(order="C").transpose(0, 3, 1, 2)


def concatenate(xs, axis):
    """The arrays of the tuple or list xs joined along axis (negative counts from the end), as torch.cat.

    All have one dtype and, but for that axis, one shape; at least one array, of at least one dimension.
    Always a copy. Raises TypeError or ValueError naming the array at fault.
    """
    if not isinstance(xs, (tuple, list)):
        raise TypeError(f"concatenate: xs must be a tuple or list of arrays, got {type(xs).__name__}")
    if not xs:
        raise ValueError("concatenate: xs must hold at least one array, got none")
    for i, x in enumerate(xs):
        _check_plain("concatenate", f"xs[{i}]", x)
        if x.dtype != xs[0].dtype:
            raise TypeError(f"concatenate: xs[{i}] must be {xs[0].dtype} like xs[0], got {x.dtype}")
    if xs[0].ndim == 0:
        raise ValueError("concatenate: xs[0] must have at least 1 dimension, got shape ()")
    axis = _check.axis("concatenate", "axis", axis, xs[0].ndim)
    others = [x.shape[:axis] + x.shape[axis + 1 :] for x in xs]
    for i, x in enumerate(xs):
        if x.ndim != xs[0].ndim or others[i] != others[0]:
            raise ValueError(
                f"concatenate: xs[{i}] must match xs[0] except along axis {axis}, got {x.shape} and {xs[0].shape}"
            )
    return np.concatenate(xs, axis)


def slice_backward(dy, shape, starts, steps):
    """Gradient of y = x[slices]: zeros of `shape` with dy written at the slice.

    dx[starts + k * steps] = dy[k] for every index k of dy, zero elsewhere. dy, shape, starts and steps have
    one length, the rank of x; a step may be negative but not 0. Raises ValueError if dy does not lie inside
    shape.
    """
    _check_plain("slice_backward", "dy", dy)
    shape, starts, steps = tuple(shape), tuple(starts), tuple(steps)
    lengths = {dy.ndim, len(shape), len(starts), len(steps)}
    inside = len(lengths) == 1 and min(shape, default=0) >= 0 and all(steps)
    if inside:
        ends = [first + (count - 1) * step for first, count, step in zip(starts, dy.shape, steps)]
        inside = all(
            count == 0 or (0 <= first < size and 0 <= last < size)
            for count, first, last, size in zip(dy.shape, starts, ends, shape)
        )
    if not inside:
        raise ValueError(
            f"slice_backward: dy must lie inside shape, got dy {dy.shape}, "
            f"shape {shape}, starts {starts}, steps {steps}"
        )
    dx = np.zeros(shape, dy.dtype)
    taken = (first + np.arange(count) * step for first, count, step in zip(starts, dy.shape, steps))
    dx[np.ix_(*taken)] = dy
    return dx


def clone(x):
    """A copy of x, dense in x's order of dimensions. TypeError for another dtype."""
    _check_plain("clone", "x", x)
    return x.copy(order="K")


def cast(x, dtype):
    """A copy of x in another of the library's dtypes, named by a string.

    Floats lose their fraction on the way to integers; to bool it is x != 0. TypeError for another dtype of x,
    ValueError for another name.
    """
    _check_plain("cast", "x", x)
    _check.choice("cast", "dtype", dtype, ("float32", "float64", "bfloat16", "int32", "int64", "uint8", "bool"))
    if dtype not in DTYPES:
        raise TypeError("bfloat16 must be named by set_bfloat16 first")
    with np.errstate(invalid="ignore", over="ignore"):
        return x.astype(DTYPES[dtype])


def assign(out, x):
    """out[...] = x in place: x has the dtype of out, its shape or one that broadcasts to it.  Returns None.

    out may be strided (a slice of a larger array) and overlap x, but must be writeable. Raises TypeError or ValueError.
    """
    _check_plain("assign", "out", out)
    _check_plain("assign", "x", x)
    if x.dtype != out.dtype:
        raise TypeError(f"assign: x must be {out.dtype} like out, got {x.dtype}")
    lead = out.ndim - x.ndim
    if lead < 0 or any(n not in (1, m) for n, m in zip(x.shape, out.shape[lead:])):
        raise ValueError(f"assign: x must broadcast to out, got shape {x.shape}, out {out.shape}")
    _check.writeable("assign", "out", out)
    out[...] = x.copy() if np.may_share_memory(out, x) else x  # NumPy misses the overlap of x[::2] with x[:n]
