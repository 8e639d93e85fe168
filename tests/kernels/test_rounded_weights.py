"""The copy of the weights in bfloat16 that optimizers write in the same pass."""

import re

import numpy as np
import pytest

from fastdl import kernels
from stepping import arrays

BF16 = kernels.use_bfloat16()
# name: the kernel called with (param, grad), states and `rounded`
STEPS = {
    "sgd": ("sgd_step", lambda m, *_: (None, 0.1, 0.0, 0.0, 0.0, False, 1)),
    "momentum": ("sgd_step", lambda m, *_: (m, 0.1, 0.9, 0.0, 0.01, True, 2)),
    "rmsprop": ("rmsprop_step", lambda m, v, w: (abs(m), v / 8, w, 0.1, 0.9, 1e-8, 0.0, 0.9)),
    "adam": ("adam_step", lambda m, v, w: (m, abs(v), None, 0.1, 0.9, 0.99, 1e-8, 0.0, 3, False)),
    "amsgrad": ("adam_step", lambda m, v, w: (m, abs(v), abs(w), 0.1, 0.9, 0.99, 1e-8, 0.1, 3, True)),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [0, 1, 3, 4, 8, 17, 1000, 20_003])
@pytest.mark.parametrize("name", STEPS)
def test_it_is_the_new_weights_rounded(backend, name, n, dtype):
    kernel, options = STEPS[name]

    def step(**rounded):
        param, grad, *states = arrays(n, dtype, 5)
        getattr(backend, kernel)(param, grad, *options(*states), **rounded)
        return param

    rounded = np.full(n, 7, BF16)
    param = step(rounded=rounded)
    np.testing.assert_array_equal(param, step())
    np.testing.assert_array_equal(rounded.view(np.uint16), param.astype(np.float32).astype(BF16).view(np.uint16))


def test_a_part_that_begins_anywhere(backend):
    param, grad = arrays(50, "float32", 2)
    rounded = np.zeros(60, BF16)
    backend.sgd_step(param, grad, None, 0.1, 0.0, 0.0, 0.0, False, 1, rounded[3:53])
    np.testing.assert_array_equal(rounded[3:53], param.astype(BF16))
    assert not rounded[:3].any() and not rounded[53:].any()


@pytest.mark.parametrize(
    ("rounded", "error", "message"),
    [
        ([1.0], TypeError, "rounded must be a NumPy array, got list"),
        (np.zeros(6, "float32"), TypeError, "rounded must be bfloat16, got float32"),
        (np.zeros(5, BF16), ValueError, "rounded must have shape (6,), got (5,)"),
        (np.zeros((6, 1), BF16), ValueError, "rounded must have shape (6,), got (6, 1)"),
        (np.zeros(12, BF16)[::2], ValueError, "rounded must be contiguous, got strides (4,)"),
    ],
)
@pytest.mark.parametrize("name", ["sgd", "rmsprop", "adam"])
def test_bad_copies(backend, name, rounded, error, message):
    kernel, options = STEPS[name]
    param, grad, *states = arrays(6, "float32", 5)
    before = param.copy()
    with pytest.raises(error, match="^" + re.escape(f"{kernel}: {message}") + "$"):
        getattr(backend, kernel)(param, grad, *options(*states), rounded=rounded)
    np.testing.assert_array_equal(param, before)
