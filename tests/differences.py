"""Numeric gradients, to prove the references with."""

import numpy as np


def numeric_gradient(f, x, dy, step=1e-6):
    """The gradient of sum(f(x) * dy) by x, element by element, as a central difference; x must be float64."""
    assert x.dtype == np.float64
    gradient = np.empty_like(x)
    for place in np.ndindex(x.shape):
        sides = []
        for move in (step, -step):
            moved = x.copy()
            moved[place] += move
            sides.append(np.sum(f(moved) * dy))
        gradient[place] = (sides[0] - sides[1]) / (2 * step)
    return gradient


def assert_gradient(got, f, x, dy):
    """got is the gradient of sum(f(x) * dy) by x: a central difference in float64 is good to about 1e-9."""
    np.testing.assert_allclose(got, numeric_gradient(f, x, dy), rtol=1e-6, atol=1e-8)
