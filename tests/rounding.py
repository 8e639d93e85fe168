"""Arrays of bfloat16 for tests, and what a result rounded to it may be."""

import numpy as np

from fastdl import kernels

BFLOAT16 = kernels.use_bfloat16()


def values(shape, seed=0, mean=0.0, std=1.0, dtype=BFLOAT16):
    return (mean + std * np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


def double(*arrays):
    made = [x if x is None else x.astype("float64") for x in arrays]
    return made if len(made) > 1 else made[0]


def assert_rounded(got, want, scale=0.0):
    """got is want (float64), rounded once after some steps of float32 with numbers of size `scale`."""
    assert got.dtype == BFLOAT16 and got.shape == want.shape
    got, finite = got.astype("float64"), np.isfinite(want)
    np.testing.assert_array_equal(got[~finite], want[~finite])
    got, want = got[finite], want[finite]
    half = np.ldexp(1.0, np.frexp(want)[1] - 9)
    off = np.abs(got - want)
    good = off <= half + 2.0**-20 * (scale + np.abs(want))
    assert good.all(), f"{(off / half).max() / 2} units from the exact value"
