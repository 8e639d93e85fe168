"""Arrays of bfloat16 in kernels that have no code of their own for them: computed in float32, results rounded.

bfloat16 is a float with 8 bits of precision; its dtype is that of the package ml_dtypes, on the host as in CuPy. This
is also the definition of every kernel on bfloat16: those that take it as it is give what is given here, up to the order
of their sums. Gradients of weights and statistics stay in float32, as weights do in mixed precision.
"""

from __future__ import annotations

import functools
import inspect
from types import ModuleType

import numpy as np

from . import numpy as _reference

# Results that are not rounded, by their place, and arrays that a call changes, by name.
_EXACT = {
    "linear_backward": (1, 2),
    "conv2d_backward": (1, 2),
    "batch_norm_forward": (1, 2),
    "batch_norm_backward": (1, 2),
    "batch_norm_residual_backward": (1, 2),
    "batch_norm_inference_backward": (1, 2),
    "cross_entropy_forward": (0, 1),
}
_CHANGED = {
    "accumulate": ("out",),
    "scale": ("x",),
    "batch_norm_forward": ("running_mean", "running_var"),
}
# What may be float32 (or a float64 number) beside arrays of bfloat16; kernels of batch norm and cross-entropy that take
# bfloat16 take nothing else.
_WIDE = {"weight", "bias", "running_mean", "running_var", "mean", "invstd", "lse", "dloss", "factor"}
_WIDE_FAMILIES = ("batch_norm", "cross_entropy", "scale")
_WITH_NUMBERS = ("add", "subtract", "multiply", "divide")  # take a number in float32, 0-d, as either operand


class Rounding:
    """The kernels of a backend module for calls with arrays of bfloat16; other names are the module's."""

    def __init__(self, module: ModuleType, dtype: np.dtype):
        self._module, self._dtype, self.name = module, dtype, module.name

    def __getattr__(self, name: str):
        found = getattr(self._module, name)
        if name in _reference.__all__:
            if name not in self._module.BFLOAT16:
                found = _rounding(name, found, self._module, self._dtype)
            elif name.startswith(("batch_norm", "cross_entropy")):
                found = _unless_narrow(name, found, self._module, self._dtype)
        self.__dict__[name] = found
        return found


def _rounding(name: str, kernel, module: ModuleType, dtype: np.dtype):
    parameters = list(inspect.signature(getattr(_reference, name)).parameters)
    exact, changed = _EXACT.get(name, ()), _CHANGED.get(name, ())

    @functools.wraps(getattr(_reference, name))
    def call(*args, **options):
        given = dict(zip(parameters, args), **options)
        if not any(_is(x, dtype) for x in given.values()):
            return kernel(*args, **options)
        _check(name, given, dtype)
        wide = {key: module.cast(x, "float32") if _is(x, dtype) else x for key, x in given.items()}
        result = kernel(*[wide[key] for key in parameters[: len(args)]], **{key: wide[key] for key in options})
        for key in changed:
            if _is(given.get(key), dtype):
                module.assign(given[key], module.cast(wide[key], "bfloat16"))
        if not isinstance(result, tuple):
            return rounded(result)
        return tuple([x if i in exact else rounded(x) for i, x in enumerate(result)])

    def rounded(x):
        return module.cast(x, "bfloat16") if _is(x, np.dtype(np.float32)) else x

    return call


def _unless_narrow(name: str, kernel, module: ModuleType, dtype: np.dtype):
    """The kernel itself, but rounding where an array that should be float32 is of bfloat16."""
    parameters = list(inspect.signature(getattr(_reference, name)).parameters)
    rounding = _rounding(name, kernel, module, dtype)

    @functools.wraps(getattr(_reference, name))
    def call(*args, **options):
        try:
            return kernel(*args, **options)
        except TypeError:  # asked only then: a call takes a tenth of the time that looking at its arguments does
            given = dict(zip(parameters, args), **options)
            if not any(_is(given.get(key), dtype) for key in _WIDE):
                raise
        return rounding(*args, **options)

    return call


def _check(name: str, given: dict, dtype: np.dtype) -> None:
    """Raise TypeError where arrays of other floats are given that must be bfloat16 too."""
    may = _WIDE if name.startswith(_WIDE_FAMILIES) else ()
    first = next(key for key, x in given.items() if _is(x, dtype))
    for key, x in given.items():
        if name in _WITH_NUMBERS and x.ndim == 0 and _is(x, np.dtype(np.float32)):
            continue
        if key not in may and (_is(x, np.dtype(np.float32)) or _is(x, np.dtype(np.float64))):
            raise TypeError(f"{name}: {key} must be bfloat16 like {first}, got {x.dtype}")


def _is(x, dtype: np.dtype) -> bool:
    """Whether x is an array of this dtype."""
    return hasattr(x, "dtype") and x.dtype == dtype  # None == np.dtype("float64")
