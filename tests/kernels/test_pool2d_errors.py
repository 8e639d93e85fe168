"""Pooling: what each kernel refuses, with the same words from every backend."""

import re

import numpy as np
import pytest

from on_gpu import skip_where_unseen

IMAGE = np.zeros((2, 3, 5, 6), np.float32)
OUT = np.zeros((2, 3, 2, 3), np.float32)
OFF = np.zeros((2, 3, 2, 3), np.uint8)
BIG = np.full((2, 3, 2, 3), 4, np.uint8)
TWO, ONE, NIL = (2, 2), (1, 1), (0, 0)
RANK4 = "must have 4 dimensions (N, C, H, W), got shape"
SIDES = "must have a height and width of at least 1, got shape"
BAD = {
    "max_pool2d_forward": (
        (([1.0], TWO, TWO, NIL, ONE, False), TypeError, "x must be a NumPy array, got list"),
        ((OFF, TWO, TWO, NIL, ONE, False), TypeError, "x must be float32 or float64, got uint8"),
        ((IMAGE[0], TWO, TWO, NIL, ONE, False), ValueError, f"x {RANK4} (3, 5, 6)"),
        ((IMAGE[:, :, :0], TWO, TWO, ONE, ONE, False), ValueError, f"x {SIDES} (2, 3, 0, 6)"),
        ((IMAGE, 2, TWO, NIL, ONE, False), TypeError, "kernel_size must be a pair of ints, got 2"),
        ((IMAGE, (0, 2), TWO, NIL, ONE, False), ValueError, "kernel_size must be positive, got (0, 2)"),
        ((IMAGE, TWO, (2, -1), NIL, ONE, False), ValueError, "stride must be positive, got (2, -1)"),
        ((IMAGE, TWO, NIL, NIL, ONE, False), ValueError, "stride must be positive, got (0, 0)"),
        ((IMAGE, TWO, TWO, (-1, 0), ONE, False), ValueError, "padding must be at least 0, got (-1, 0)"),
        ((IMAGE, TWO, TWO, NIL, (0, 1), False), ValueError, "dilation must be positive, got (0, 1)"),
        ((IMAGE, TWO, TWO, NIL, (2**40, 1), False), ValueError,
         "dilation must be at most 2147483647, got (1099511627776, 1)"),
        ((IMAGE, TWO, TWO, (0, 2), ONE, False), ValueError,
         "padding must be at most half of kernel_size (2, 2), got (0, 2)"),
        ((IMAGE, (3, 7), TWO, NIL, ONE, False), ValueError,
         "kernel_size (3, 7) with dilation (1, 1) must fit into the padded input, got (5, 6)"),
        ((IMAGE, TWO, TWO, NIL, (5, 1), False), ValueError,
         "kernel_size (2, 2) with dilation (5, 1) must fit into the padded input, got (5, 6)"),
        ((IMAGE, (2**31 - 1, 1), TWO, NIL, (2**31 - 1,) * 2, False), ValueError,
         "kernel_size (2147483647, 1) with dilation (2147483647, 2147483647) "
         "must fit into the padded input, got (5, 6)"),
        ((IMAGE, (2**16, 2**15), TWO, NIL, ONE, False), ValueError,
         "kernel_size must hold at most 2147483647 taps, got (65536, 32768)"),
    ),
    "max_pool2d_backward": (
        ((OFF, OFF, (5, 6), TWO, TWO, NIL, ONE), TypeError, "dy must be float32 or float64, got uint8"),
        ((OUT[0], OFF, (5, 6), TWO, TWO, NIL, ONE), ValueError, f"dy {RANK4} (3, 2, 3)"),
        ((OUT, [0], (5, 6), TWO, TWO, NIL, ONE), TypeError, "offsets must be a NumPy array, got list"),
        ((OUT, OUT, (5, 6), TWO, TWO, NIL, ONE), TypeError, "offsets must be uint8, got float32"),
        ((OUT, OFF, (25, 26), (17, 17), TWO, NIL, ONE), TypeError, "offsets must be int32, got uint8"),
        ((OUT, OFF[0], (5, 6), TWO, TWO, NIL, ONE), ValueError,
         "offsets must have 4 dimensions (N, C, OH, OW), got shape (3, 2, 3)"),
        ((OUT, OFF, (5, 8), TWO, TWO, NIL, ONE), ValueError,
         "offsets must have (2, 4) or (3, 4) windows, got shape (2, 3, 2, 3)"),
        ((OUT, OFF, (0, 6), TWO, TWO, NIL, ONE), ValueError, "input_size must be positive, got (0, 6)"),
        ((OUT, OFF, (1, 6), (4, 2), (4, 2), NIL, ONE), ValueError,
         "offsets must have (0, 3) or (1, 3) windows, got shape (2, 3, 2, 3)"),
        ((OUT, OFF, (5, 6), (9, 9), TWO, NIL, ONE), ValueError,
         "kernel_size (9, 9) with dilation (1, 1) must fit into the padded input, got (5, 6)"),
        ((OUT[:1], OFF, (5, 6), TWO, TWO, NIL, ONE), ValueError,
         "dy must have shape (2, 3, 2, 3), got (1, 3, 2, 3)"),
        ((OUT, BIG, (5, 6), TWO, TWO, NIL, ONE), IndexError, "offsets must lie in [0, 4), got 4"),
        ((OUT, OFF, (5, 6), TWO, TWO, NIL, ONE, OFF), TypeError, "y must be float32 or float64, got uint8"),
        ((OUT, OFF, (5, 6), TWO, TWO, NIL, ONE, OUT.astype("float64")), TypeError,
         "y must be float32 like dy, got float64"),
        ((OUT, OFF, (5, 6), TWO, TWO, NIL, ONE, OUT[:1]), ValueError,
         "y must have shape (2, 3, 2, 3), got (1, 3, 2, 3)"),
    ),
    "max_pool2d_indices": (
        ((BIG, (5, 6), TWO, TWO, NIL, ONE), IndexError, "offsets must lie in [0, 4), got 4"),
        ((OFF, (5, 6), TWO, TWO, (2, 0), ONE), ValueError,
         "padding must be at most half of kernel_size (2, 2), got (2, 0)"),
        ((OFF, (5.0, 6), TWO, TWO, NIL, ONE), TypeError, "input_size must be a pair of ints, got (5.0, 6)"),
    ),
    "avg_pool2d_forward": (
        ((3, TWO, TWO, NIL, False, True, None), TypeError, "x must be a NumPy array, got int"),
        ((IMAGE[0], TWO, TWO, NIL, False, True, None), ValueError, f"x {RANK4} (3, 5, 6)"),
        ((IMAGE[..., :0], TWO, TWO, ONE, False, True, None), ValueError, f"x {SIDES} (2, 3, 5, 0)"),
        ((IMAGE, TWO, (2,), NIL, False, True, None), TypeError, "stride must be a pair of ints, got (2,)"),
        ((IMAGE, TWO, TWO, (0, 2), False, True, None), ValueError,
         "padding must be at most half of kernel_size (2, 2), got (0, 2)"),
        ((IMAGE, (6, 2), TWO, NIL, False, True, None), ValueError,
         "kernel_size (6, 2) with dilation (1, 1) must fit into the padded input, got (5, 6)"),
        ((IMAGE, TWO, TWO, NIL, False, True, 0), ValueError, "divisor_override must not be 0, got 0"),
        ((IMAGE, TWO, TWO, NIL, False, True, 1.5), TypeError,
         "divisor_override must be an int or None, got float"),
    ),
    "avg_pool2d_backward": (
        ((OUT, (5, 6), TWO, TWO, NIL, True, True, None), ValueError,
         "dy must have shape (2, 3, 3, 3), got (2, 3, 2, 3)"),
        ((OUT, (5, -6), TWO, TWO, NIL, False, True, None), ValueError,
         "input_size must be positive, got (5, -6)"),
        ((OUT, (5, 6), TWO, TWO, NIL, False, True, 0), ValueError, "divisor_override must not be 0, got 0"),
    ),
    "adaptive_avg_pool2d_forward": (
        ((IMAGE.astype("int64"), ONE), TypeError, "x must be float32 or float64, got int64"),
        ((IMAGE[0], ONE), ValueError, f"x {RANK4} (3, 5, 6)"),
        ((IMAGE[:, :, :0], ONE), ValueError, f"x {SIDES} (2, 3, 0, 6)"),
        ((IMAGE, (0, 1)), ValueError, "output_size must be positive, got (0, 1)"),
        ((IMAGE, None), TypeError, "output_size must be a pair of ints, got None"),
    ),
    "adaptive_avg_pool2d_backward": (
        ((OUT, (0, 1)), ValueError, "input_size must be positive, got (0, 1)"),
        ((OUT[:, :, :0], TWO), ValueError, f"dy {SIDES} (2, 3, 0, 3)"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kernel, case", [(k, c) for k, cases in BAD.items() for c in cases])
def test_bad_input(backend, kernel, case):
    args, error, message = case
    skip_where_unseen(backend, error)
    with pytest.raises(error, match=f"^{re.escape(f'{kernel}: {message}')}$"):
        getattr(backend, kernel)(*args)
