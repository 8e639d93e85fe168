"""Convolution refuses what does not fit, in the same words on every backend."""

import re

import numpy as np
import pytest

ALL = (True, True, True)
ONE, TWO, NIL = (1, 1), (2, 2), (0, 0)
X, W, B = np.ones((8, 3, 5, 6)), np.ones((4, 3, 2, 2)), np.ones(4)
DY = np.ones((8, 4, 4, 5))
PLAIN = (ONE, NIL, ONE, 1)
HUGE = 2**80

FORWARD = (
    (([1.0], W, B, *PLAIN), TypeError, "x must be a NumPy array, got list"),
    ((X, None, B, *PLAIN), TypeError, "weight must be a NumPy array, got NoneType"),
    ((X.astype("int64"), W, B, *PLAIN), TypeError, "x must be float32 or float64, got int64"),
    ((X, W.astype("float32"), B, *PLAIN), TypeError, "weight must be float64 like x, got float32"),
    ((X, W, B.astype("float32"), *PLAIN), TypeError, "bias must be float64 like x, got float32"),
    ((X, W, 1.0, *PLAIN), TypeError, "bias must be a NumPy array, got float"),
    ((X[0], W, B, *PLAIN), ValueError, "x must have 4 dimensions (N, C, H, W), got shape (3, 5, 6)"),
    ((X, W[0], B, *PLAIN), ValueError, "weight must have 4 dimensions (O, C/groups, kh, kw), got shape (3, 2, 2)"),
    ((X, W[:, :, :0], B, *PLAIN), ValueError, "weight must have a kernel of at least (1, 1), got shape (4, 3, 0, 2)"),
    ((X, W, B[:3], *PLAIN), ValueError, "bias must have shape (4,), got (3,)"),
    ((X, np.ones((16, 4, 3, 3)), None, *PLAIN), ValueError,
     "weight expects 4 input channels, x has 3 (x (8, 3, 5, 6), weight (16, 4, 3, 3), groups 1)"),
    ((X, W, B, ONE, NIL, ONE, 2), ValueError,
     "weight expects 6 input channels, x has 3 (x (8, 3, 5, 6), weight (4, 3, 2, 2), groups 2)"),
    ((X, W[:, :1], B, ONE, NIL, ONE, 3), ValueError,
     "weight must have a multiple of groups 3 output channels, got 4 (weight (4, 1, 2, 2))"),
    ((X, W, B, 1, NIL, ONE, 1), TypeError, "stride must be a pair of ints, got 1"),
    ((X, W, B, (1, 1.0), NIL, ONE, 1), TypeError, "stride must be a pair of ints, got (1, 1.0)"),
    ((X, W, B, (0, 1), NIL, ONE, 1), ValueError, "stride must be positive, got (0, 1)"),
    ((X, W, B, (1, -2), NIL, ONE, 1), ValueError, "stride must be positive, got (1, -2)"),
    ((X, W, B, (1, HUGE), NIL, ONE, 1), ValueError, f"stride must be at most 2147483647, got (1, {HUGE})"),
    ((X, W, B, (1, -HUGE), NIL, ONE, 1), ValueError, f"stride must be positive, got (1, -{HUGE})"),
    ((X, W, B, ONE, [0, 0], ONE, 1), TypeError, "padding must be a pair of ints, got [0, 0]"),
    ((X, W, B, ONE, (0, -1), ONE, 1), ValueError, "padding must be at least 0, got (0, -1)"),
    ((X, W, B, ONE, (2**31, 0), ONE, 1), ValueError, "padding must be at most 2147483647, got (2147483648, 0)"),
    ((X, W, B, ONE, NIL, (0, 1), 1), ValueError, "dilation must be positive, got (0, 1)"),
    ((X, W, B, ONE, NIL, None, 1), TypeError, "dilation must be a pair of ints, got None"),
    ((X, W, B, ONE, NIL, ONE, 0), ValueError, "groups must lie in [1, 2147483648), got 0"),
    ((X, W, B, ONE, NIL, ONE, HUGE), ValueError, f"groups must lie in [1, 2147483648), got {HUGE}"),
    ((X, W, B, ONE, NIL, ONE, 1.0), TypeError, "groups must be an int, got float"),
    ((X, np.ones((4, 3, 6, 2)), B, *PLAIN), ValueError,
     "kernel_size (6, 2) with dilation (1, 1) must fit into the padded input, got (5, 6)"),
    ((X, W, B, ONE, ONE, (1, 8), 1), ValueError,
     "kernel_size (2, 2) with dilation (1, 8) must fit into the padded input, got (7, 8)"),
)  # fmt: skip
BACKWARD = (
    ((None, X, W, *PLAIN, ALL), TypeError, "dy must be a NumPy array, got NoneType"),
    ((DY, X.astype("float32"), W, *PLAIN, ALL), TypeError, "x must be float64 like dy, got float32"),
    ((DY, X, W.astype("float32"), *PLAIN, ALL), TypeError, "weight must be float64 like dy, got float32"),
    ((DY, X[0], W, *PLAIN, ALL), ValueError, "x must have 4 dimensions (N, C, H, W), got shape (3, 5, 6)"),
    ((DY[:, :3], X, W, *PLAIN, ALL), ValueError, "dy must have shape (8, 4, 4, 5), got (8, 3, 4, 5)"),
    ((DY, X, W, TWO, NIL, ONE, 1, ALL), ValueError, "dy must have shape (8, 4, 2, 3), got (8, 4, 4, 5)"),
    ((DY, X, W, (0, 0), NIL, ONE, 1, ALL), ValueError, "stride must be positive, got (0, 0)"),
    ((DY, X, W, *PLAIN, (True, True)), TypeError, "need must be a tuple of 3 bools, got (True, True)"),
    ((DY, X, W, *PLAIN, [True] * 3), TypeError, "need must be a tuple of 3 bools, got [True, True, True]"),
    ((DY, X, W, *PLAIN, (1, 0, 1)), TypeError, "need must be a tuple of 3 bools, got (1, 0, 1)"),
)  # fmt: skip
BAD = [("conv2d_forward", *case) for case in FORWARD] + [("conv2d_backward", *case) for case in BACKWARD]


@pytest.mark.parametrize("kernel, args, error, message", BAD, ids=[f"{c[0]}: {c[3]}" for c in BAD])
def test_bad_input(backend, kernel, args, error, message):
    with pytest.raises(error, match=f"^{kernel}: {re.escape(message)}$"):
        getattr(backend, kernel)(*args)
