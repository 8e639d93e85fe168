"""Backward kernels that write the gradients of a weight and a bias where the caller wants them."""

import re

import numpy as np
import pytest

from fastdl import kernels
from layouts import LAYOUTS

BF16 = kernels.use_bfloat16()
NEED = (True, True, True)


def values(*shape, dtype="float32", seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32).astype(dtype)


def linear(dtype):
    return "linear_backward", (values(5, 3, dtype=dtype), values(5, 4, dtype=dtype), values(3, 4, dtype=dtype)), ()


def conv2d(dtype):
    arrays = values(2, 3, 4, 4, dtype=dtype), values(2, 2, 4, 4, dtype=dtype), values(3, 2, 3, 3, dtype=dtype)
    return "conv2d_backward", arrays, ((1, 1), (1, 1), (1, 1), 1)


def batch_norm(dtype):
    wide = "float32" if dtype == BF16 else dtype
    arrays = values(6, 3, dtype=dtype), values(6, 3, dtype=dtype), values(3, dtype=wide)
    return "batch_norm_backward", (*arrays, values(3, dtype=wide), abs(values(3, dtype=wide))), ()


def residual(dtype):
    _, (dy, x, *channels), _ = batch_norm(dtype)
    return "batch_norm_residual_backward", (dy, x, values(6, 3, dtype=dtype, seed=1), *channels), ()


def inference(dtype):
    name, (dy, x, weight, mean, var), _ = batch_norm(dtype)
    return "batch_norm_inference_backward", (dy, x, weight, mean, var), (1e-5,)


CASES = [linear, conv2d, batch_norm, residual, inference]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_the_same_gradients_in_the_arrays_that_were_given(bfloat16, backend, case, dtype):
    module = bfloat16 if dtype == "bfloat16" else backend
    name, arrays, options = case(BF16 if dtype == "bfloat16" else dtype)
    kernel = getattr(module, name)
    want = kernel(*arrays, *options, NEED)
    places = [np.full_like(x, 7) for x in want[1:3]]
    for chosen in ((0, 1), (0,), (1,)):
        out = tuple(place if i in chosen else None for i, place in enumerate(places))
        got = kernel(*arrays, *options, NEED, out=out)
        for i in chosen:
            assert got[i + 1] is places[i]
        for a, b in zip(got, want):
            np.testing.assert_array_equal(a, b)
    got = kernel(*arrays, *options, (True, False, True), out=tuple(places))
    assert got[1] is None and got[2] is places[1]


def test_a_segment_of_a_buffer(backend):
    _, arrays, _ = linear("float32")
    buffer = np.full(40, 7, np.float32)
    dw = buffer[5:17].reshape(3, 4)
    got = backend.linear_backward(*arrays, NEED, (dw, None))
    np.testing.assert_array_equal(buffer[5:17].reshape(3, 4), backend.linear_backward(*arrays, NEED)[1])
    assert got[1] is dw and (buffer[:5] == 7).all() and (buffer[17:] == 7).all()


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("groups", [1, 2])
def test_filters_in_either_memory_order(bfloat16, backend, groups, dtype):
    """On a GPU, where optimizers keep them channels-last, gradients lie as the weight does or as the place is."""
    module, of = (bfloat16, BF16) if dtype == "bfloat16" else (backend, dtype)
    on_gpu = backend.name in ("cuda", "emulated")
    dy, x, weight = values(2, 4, 4, 4, dtype=of), values(2, 4, 4, 4, dtype=of), values(4, 4 // groups, 3, 3, dtype=of)
    options = (1, 1), (1, 1), (1, 1), groups
    want = module.conv2d_backward(dy, x, weight, *options, NEED)
    last = LAYOUTS["channels-last"](weight)
    np.testing.assert_array_equal(
        module.conv2d_forward(x, last, None, *options), module.conv2d_forward(x, weight, None, *options)
    )
    got = module.conv2d_backward(dy, x, last, *options, NEED)
    assert (got[1].strides == LAYOUTS["channels-last"](want[1]).strides) == on_gpu
    for w in (weight, last) if on_gpu else ():
        for place in (np.full_like(want[1], 7), LAYOUTS["channels-last"](np.full_like(want[1], 7))):
            got = module.conv2d_backward(dy, x, w, *options, NEED, out=(place, None))
            assert got[1] is place
            for a, b in zip(got, want):
                np.testing.assert_array_equal(a, b)


DW, DB, LOCKED = np.zeros((3, 4), np.float32), np.zeros(3, np.float32), np.zeros(3, np.float32)
LOCKED.flags.writeable = False
ODD = np.zeros(13, np.uint8)[1:].view(np.float32)
BAD = [
    (([DW, DB]), TypeError, "out must be None or a tuple of 2 arrays or None, got list"),
    ((DW,), TypeError, "out must be None or a tuple of 2 arrays or None, got tuple"),
    (([1.0], DB), TypeError, "out[0] must be a NumPy array, got list"),
    ((DW.astype("float64"), None), TypeError, "out[0] must be float32, got float64"),
    ((DW.T, None), ValueError, "out[0] must have shape (3, 4), got (4, 3)"),
    ((None, np.zeros(6, np.float32)[::2]), ValueError, "out[1] must be contiguous, got strides (8,)"),
    ((None, ODD), ValueError, "out[1] must be aligned to its items, got an odd address"),
    ((None, LOCKED), ValueError, "out[1] must be writeable, got a read-only array"),
    ((None, np.zeros((3, 1), np.float32)), ValueError, "out[1] must have shape (3,), got (3, 1)"),
]


@pytest.mark.parametrize(("out", "error", "message"), BAD)
def test_bad_places(backend, out, error, message):
    _, arrays, _ = linear("float32")
    with pytest.raises(error, match="^" + re.escape(f"linear_backward: {message}") + "$"):
        backend.linear_backward(*arrays, NEED, out)


def test_an_input_is_no_place(backend):
    _, (dy, x, weight), _ = linear("float32")
    with pytest.raises(ValueError, match=r"linear_backward: out\[0\] must not share memory with an input"):
        backend.linear_backward(dy, x, weight, NEED, (weight, None))
    with pytest.raises(ValueError, match=r"batch_norm_backward: out\[1\] must not share memory with an input"):
        name, arrays, _ = batch_norm("float32")
        getattr(backend, name)(*arrays, NEED, out=(None, arrays[2]))
