"""Argument checks of the reference kernels, in the words that csrc/core/check.h uses for the compiled ones.

Every function takes the kernel's name first and raises TypeError for an array kind or dtype, ValueError for a shape or
value, IndexError for an index out of range; the message names the argument, what it was and what is allowed.
"""

from __future__ import annotations

import math

import numpy as np

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
INTEGERS = (np.dtype(np.int32), np.dtype(np.int64))


def type_name(value) -> str:
    """The name of a value's type, with what to do about an array on the GPU, or a tensor in an array's place."""
    name, package = type(value).__name__, type(value).__module__.partition(".")[0]
    if package == "fastdl":
        return f"{name}; a tensor's .data takes an array, as in p.data = t.data"
    return f"cupy.{name}; move it with .cpu()" if package == "cupy" else name


def array(kernel: str, name: str, x) -> None:
    """x is a NumPy array of float32 or float64."""
    if not isinstance(x, np.ndarray):
        raise TypeError(f"{kernel}: {name} must be a NumPy array, got {type_name(x)}")
    if x.dtype not in FLOATS:
        raise TypeError(f"{kernel}: {name} must be float32 or float64, got {x.dtype}")


def like(kernel: str, name: str, x, other_name: str, other) -> None:
    """x is a float array of the dtype of `other`; None passes (an optional argument)."""
    if x is None:
        return
    array(kernel, name, x)
    if x.dtype != other.dtype:
        raise TypeError(f"{kernel}: {name} must be {other.dtype} like {other_name}, got {x.dtype}")


def integers(kernel: str, name: str, x) -> None:
    """x is a NumPy array of int32 or int64."""
    if not isinstance(x, np.ndarray):
        raise TypeError(f"{kernel}: {name} must be a NumPy array, got {type_name(x)}")
    if x.dtype not in INTEGERS:
        raise TypeError(f"{kernel}: {name} must be int32 or int64, got {x.dtype}")


def rank(kernel: str, name: str, x, ndim: int, letters: str) -> None:
    """x has ndim dimensions; `letters` names them, e.g. "(N, C, H, W)"."""
    if x.ndim != ndim:
        raise ValueError(f"{kernel}: {name} must have {ndim} dimensions {letters}, got shape {x.shape}")


def shape(kernel: str, name: str, x, want: tuple) -> None:
    """x has exactly the shape `want`; None passes."""
    if x is not None and x.shape != tuple(want):
        raise ValueError(f"{kernel}: {name} must have shape {tuple(want)}, got {x.shape}")


def pair(kernel: str, name: str, value, minimum: int) -> None:
    """value is a pair of ints, each at least `minimum` (0 or 1)."""
    if not (isinstance(value, tuple) and len(value) == 2 and all(isinstance(v, (int, np.integer)) for v in value)):
        raise TypeError(f"{kernel}: {name} must be a pair of ints, got {value!r}")
    if min(value) < minimum:
        word = "positive" if minimum == 1 else "at least 0"
        raise ValueError(f"{kernel}: {name} must be {word}, got ({value[0]}, {value[1]})")


def indices(kernel: str, name: str, x, size: int) -> None:
    """Every entry of the integer array x lies in [0, size)."""
    if x.size and (x.min() < 0 or x.max() >= size):
        bad = x[(x < 0) | (x >= size)].reshape(-1)[0]
        raise IndexError(f"{kernel}: {name} must lie in [0, {size}), got {bad}")


def number(
    kernel: str, name: str, value, low: float = -math.inf, high: float = math.inf, open_high: bool = False
) -> None:
    """value is a finite number in [low, high] (or [low, high) with open_high)."""
    if not math.isfinite(value):
        raise ValueError(f"{kernel}: {name} must be finite, got {value:g}")
    if value < low or value > high or (open_high and value == high):
        if high == math.inf:
            allowed = f"at least {low:g}"
        else:
            allowed = f"in [{low:g}, {high:g}{')' if open_high else ']'}"
        raise ValueError(f"{kernel}: {name} must be {allowed}, got {value:g}")


def choice(kernel: str, name: str, value: str, allowed: tuple) -> None:
    """value is one of the strings in `allowed`."""
    if value not in allowed:
        words = ", ".join(f"'{a}'" for a in allowed)
        raise ValueError(f"{kernel}: {name} must be one of {words}, got '{value}'")


def axis(kernel: str, name: str, value: int, ndim: int) -> int:
    """The axis as a number in [0, ndim)."""
    if not -ndim <= value < ndim:
        raise ValueError(f"{kernel}: {name} must lie in [{-ndim}, {ndim}), got {value}")
    return value % ndim


def counter(kernel: str, value) -> int:
    """The counter of a random stream: an int in [0, 2**64), or a 0-d int64 array that holds its bits."""
    if isinstance(value, np.ndarray):
        if value.ndim or value.dtype != np.int64:
            raise TypeError(
                f"{kernel}: counter must be an int or a 0-d array of int64, got shape {value.shape} of {value.dtype}"
            )
        return int(value) % 2**64
    integer(kernel, "counter", value, 0, 2**64)
    return int(value)


def integer(kernel: str, name: str, value, low: int, high: int) -> None:
    """value is an int in [low, high)."""
    if not isinstance(value, (int, np.integer)):
        raise TypeError(f"{kernel}: {name} must be an int, got {type_name(value)}")
    if not low <= value < high:
        raise ValueError(f"{kernel}: {name} must lie in [{low}, {high}), got {value}")


def writeable(kernel: str, name: str, x) -> None:
    """x may be written to (it is updated in place)."""
    if not x.flags.writeable:
        raise ValueError(f"{kernel}: {name} must be writeable, got a read-only array")


def place(kernel: str, name: str, x) -> None:
    """x can be written to as if it were new: contiguous, aligned and writeable."""
    if not x.flags.c_contiguous:
        raise ValueError(f"{kernel}: {name} must be contiguous, got strides {x.strides}")
    if not x.flags.aligned:
        raise ValueError(f"{kernel}: {name} must be aligned to its items, got an odd address")
    writeable(kernel, name, x)


def flat(kernel: str, name: str, x, other_name: str, other) -> None:
    """x is a contiguous, writeable 1-D float array with the dtype and shape of `other` (the first one: itself)."""
    array(kernel, name, x)
    like(kernel, name, x, other_name, other)
    rank(kernel, name, x, 1, "(n)")
    shape(kernel, name, x, other.shape)
    place(kernel, name, x)


def placed(kernel: str, out, gradients: tuple, inputs: tuple) -> tuple:
    """(dx, dweight, dbias) with the last two in the arrays of `out`, a tuple of (dweight, dbias), where it has them."""
    if out is None:
        return gradients
    if not (isinstance(out, tuple) and len(out) == 2):
        raise TypeError(f"{kernel}: out must be None or a tuple of 2 arrays or None, got {type_name(out)}")
    found = list(gradients)
    for i, (given, gradient) in enumerate(zip(out, gradients[1:])):
        if given is None or gradient is None:
            continue
        name = f"out[{i}]"
        if not isinstance(given, np.ndarray):
            raise TypeError(f"{kernel}: {name} must be a NumPy array, got {type_name(given)}")
        if given.dtype != gradient.dtype:
            raise TypeError(f"{kernel}: {name} must be {gradient.dtype}, got {given.dtype}")
        shape(kernel, name, given, gradient.shape)
        place(kernel, name, given)
        if any(x is not None and np.may_share_memory(given, x) for x in inputs):
            raise ValueError(f"{kernel}: {name} must not share memory with an input")
        given[...] = gradient
        found[i + 1] = given
    return tuple(found)


def rounded(kernel: str, x, param) -> None:
    """x is a contiguous, writeable array of bfloat16 of the shape of `param`; None passes."""
    if x is None:
        return
    if not isinstance(x, np.ndarray):
        raise TypeError(f"{kernel}: rounded must be a NumPy array, got {type_name(x)}")
    if x.dtype.name != "bfloat16":
        raise TypeError(f"{kernel}: rounded must be bfloat16, got {x.dtype}")
    shape(kernel, "rounded", x, param.shape)
    place(kernel, "rounded", x)


def apart(kernel: str, **arrays) -> None:
    """No two of the contiguous arrays share memory; None passes."""
    given = [(name, x) for name, x in arrays.items() if x is not None]
    for i, (name, x) in enumerate(given):
        for other_name, other in given[:i]:
            if np.may_share_memory(x, other):
                raise ValueError(f"{kernel}: {name} must not share memory with {other_name}, got arrays that overlap")


def need(kernel: str, value, count: int) -> None:
    """value is a tuple of `count` bools: which gradients the caller wants."""
    if not (isinstance(value, tuple) and len(value) == count and all(isinstance(v, bool) for v in value)):
        raise TypeError(f"{kernel}: need must be a tuple of {count} bools, got {value!r}")


def min_rank(kernel: str, name: str, x, ndim: int, letters: str) -> None:
    """x has at least ndim dimensions; `letters` names them, e.g. "(..., M, K)"."""
    if x.ndim < ndim:
        plural = "dimension" if ndim == 1 else "dimensions"
        raise ValueError(f"{kernel}: {name} must have at least {ndim} {plural} {letters}, got shape {x.shape}")
