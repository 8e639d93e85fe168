"""The vector functions of csrc/cpu/vmath.h, through the kernels made of them: errors in units of the last place.

The exact value comes from NumPy's long double functions (64 bits of mantissa) or, for the normal distribution, from
math.erfc (good to a unit of float64), moved to the exact argument along its slope. Each bound is the one that
vmath.h states, plus what the kernel's own multiplication adds. The arguments are spread evenly and, near zero, by
powers of ten.
"""

import math

import numpy as np
import pytest

FLOATS = ("float32", "float64")


def normal_cdf(x):
    z = -x * np.sqrt(np.longdouble(0.5))
    rounded = z.astype(float)
    at_rounded = np.array([math.erfc(value) for value in rounded], np.longdouble)
    slope = -2 / np.sqrt(np.longdouble(math.pi)) * np.exp(-z * z)
    return (at_rounded + slope * (z - rounded)) / 2


def softplus(x):
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


# name: the kernel, the exact function, the range in float32 and in float64, the bound in units
CASES = {
    "exp": (lambda k, x: k.exp(x), np.exp, (-87.3, 88.7), (-708.3, 709.7), 2),
    "log": (lambda k, x: k.log(np.abs(x)), lambda x: np.log(np.abs(x)), (-1e30, 1e30), (-1e300, 1e300), 2),
    "log near 1": (lambda k, x: k.log(x), np.log, (0.5, 2), (0.5, 2), 2),
    "tanh": (lambda k, x: k.tanh_forward(x), np.tanh, (-20, 20), (-40, 40), 3),
    "sigmoid": (lambda k, x: k.sigmoid_forward(x), lambda x: 1 / (1 + np.exp(-x)), (-87, 30), (-708, 40), 3),
    "softplus": (lambda k, x: k.softplus_forward(x, 1.0, 1e30), softplus, (-87, 30), (-708, 40), 2.5),
    "expm1": (lambda k, x: k.elu_forward(x, 1.0), np.expm1, (-60, -1e-6), (-60, -1e-12), 2),
    "normal": (lambda k, x: k.gelu_forward(x, "none"), lambda x: x * normal_cdf(x), (-12.5, 12), (-37, 12), 9),
}


def arguments(low, high, dtype):
    rng = np.random.default_rng(1)
    even = rng.uniform(low, high, 20_000)
    small = 10.0 ** rng.uniform(-6, 0, 10_000) * rng.choice([-1, 1], 10_000)
    x = np.concatenate([even, small]).astype(dtype)
    return x[(x >= low) & (x <= high)]


def units_off(got, exact):
    """The error in units of the last place of the exact value; results below the normal range may be zero."""
    tiny = np.finfo(got.dtype).tiny
    off = np.abs(got.astype(np.longdouble) - exact) / np.spacing(np.abs(exact).astype(got.dtype))
    return np.where(np.abs(exact) < 2 * tiny, 0, off)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", CASES)
def test_accuracy(cpu, isa, name, dtype):
    from fastdl import _cpu

    kernel, exact, single, double, bound = CASES[name]
    x = arguments(*(single if dtype == "float32" else double), dtype)
    off = units_off(kernel(_cpu, x), exact(x.astype(np.longdouble)))
    worst = off.argmax()
    assert off[worst] <= bound, f"{name}({x[worst]!r}) is off by {off[worst]:.2f} units"
