"""Every tolerance of the test suite, with its derivation.

A kernel that sums n products of size about 1 in a dtype with rounding unit u is off by about u * sqrt(n) in a typical
case; RELATIVE is u times a margin of 32 that covers the sums in these tests (n up to some thousands), ABSOLUTE guards
entries that cancel to near zero. Element-wise families do no long sums and get a margin of 4. "training" is the loss
over ten steps of a small network: rounding differences of each step go through the later ones, hence 32 * 32.
"""

import numpy as np

UNIT = {np.dtype(np.float32): 2.0**-23, np.dtype(np.float64): 2.0**-52}
MARGIN = {
    "elementwise": 4, "activation": 16, "copy": 0, "gather": 4, "adam": 16, "sgd": 8, "rmsprop": 16, "training": 1024,
}  # fmt: skip


def tolerance(family: str, dtype) -> dict:
    """rtol and atol for `numpy.testing.assert_allclose`; families without an entry of their own get 32 units."""
    unit = UNIT[np.dtype(dtype)] * MARGIN.get(family, 32)
    return {"rtol": unit, "atol": unit}


def assert_close(got, want, family: str, scale: float = 1.0) -> None:
    """got equals want within the family's tolerance; `scale` is the typical size of an entry (sqrt(n) of its sum)."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.dtype == want.dtype, f"dtype {got.dtype}, expected {want.dtype}"
    assert got.shape == want.shape, f"shape {got.shape}, expected {want.shape}"
    if got.dtype.kind != "f":
        np.testing.assert_array_equal(got, want)
        return
    limits = tolerance(family, got.dtype)
    np.testing.assert_allclose(got, want, rtol=limits["rtol"], atol=limits["atol"] * max(scale, 1.0))
