"""Convolutions by cuDNN itself: needs a GPU and the library, and skips without."""

import re
from importlib import import_module

import numpy as np
import pytest

from fastdl import kernels as backends
from kernels.test_bfloat16_products import check_conv
from kernels.test_conv2d import ALL, NIL, ONE, TWO, arrays
from on_gpu import OnGpu
from tolerances import assert_close

LAYERS = (  # size, window: a first layer, a middle one, one that halves the image, groups, depthwise, dilation
    ((8, 3, 64, 1), ((32, 32), (3, 3), ONE, ONE, ONE)), ((8, 64, 64, 1), ((16, 16), (3, 3), ONE, ONE, ONE)),
    ((8, 64, 128, 1), ((16, 16), (3, 3), TWO, ONE, ONE)), ((4, 32, 64, 4), ((14, 14), (3, 3), ONE, ONE, ONE)),
    ((4, 48, 48, 48), ((14, 14), (5, 5), ONE, TWO, ONE)), ((2, 5, 7, 1), ((17, 13), (3, 2), ONE, NIL, (2, 3))),
    ((1, 6, 16, 1), ((14, 14), (5, 5), ONE, NIL, ONE)), ((8, 64, 128, 1), ((16, 16), ONE, TWO, NIL, ONE)),
)  # fmt: skip
MIDDLE = LAYERS[1]


@pytest.fixture
def on_gpu():
    """The CUDA backend on CuPy arrays, CuPy, and the module behind it, with cuDNN or skipped."""
    try:
        backend = backends.backend("cuda")
    except RuntimeError as error:
        pytest.skip(str(error))
    if "missing" in backend.cudnn():
        pytest.skip(f"cuDNN is {backend.cudnn()}")
    module = import_module("fastdl._cuda")
    module.load_cudnn(None)  # the copy that is open
    yield backend, import_module("cupy"), module
    module.load_cudnn(None)
    backend.set_tf32(False)


def chosen(line):
    """Does the plan name an engine of the library, or fastdl's own kernel that was faster than at least one?"""
    return re.search(r": engine \d+,|: own kernel, of ([2-9]|\d\d) plans", line)


def on_device(cupy, values):
    """The arrays on the GPU, images channels-last."""
    last = [cupy.asarray(a.transpose(0, 2, 3, 1), order="C").transpose(0, 3, 1, 2) for a in (values[0], values[3])]
    return last[0], cupy.asarray(values[1]), cupy.asarray(values[2]), last[1]


def outcome(backend, x, weight, bias, dy, attrs):
    """(y, dx, dweight, dbias)"""
    return backend.conv2d_forward(x, weight, bias, *attrs), *backend.conv2d_backward(dy, x, weight, *attrs, ALL)


@pytest.mark.parametrize("size, window", LAYERS, ids=str)
def test_cuda_convolutions_come_from_the_library(on_gpu, reference, size, window):
    backend, cupy, module = on_gpu
    values, attrs = arrays(size, window, "float32")
    there = on_device(cupy, values)
    module.unload_cudnn()
    own = outcome(backend, *there, attrs)
    module.load_cudnn(None)
    got = outcome(backend, *there, attrs)
    want = outcome(reference, *(a.astype("float64") for a in values), attrs)
    pixels, taps = values[3][:, :1].size, values[1][0, 0].size
    lengths = (values[1].shape[1] * taps, values[1].shape[0] * taps, pixels, pixels)
    for a, b, c, length in zip(got, want, own, lengths):
        assert_close(cupy.asnumpy(a), b.astype("float32"), "conv2d", length**0.5)
        assert_close(cupy.asnumpy(a), cupy.asnumpy(c), "conv2d", length**0.5)
    plans = module.cudnn_plans()
    assert len(plans) == 3 and all(map(chosen, plans)), plans


@pytest.mark.parametrize("size, window", LAYERS, ids=str)
def test_cuda_convolutions_of_bfloat16_come_from_the_library(on_gpu, reference, size, window):
    backend, cupy, module = on_gpu
    pytest.importorskip("ml_dtypes")
    backend.set_bfloat16(backends.use_bfloat16())
    (x, weight, _, dy), attrs = arrays(size, window, "bfloat16")
    check_conv(OnGpu(backend, cupy, "cuda"), reference, (x, weight, None, dy), attrs)
    plans = module.cudnn_plans()
    assert len(plans) == 3 and all(map(chosen, plans)), plans


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_cuda_convolutions_have_the_same_bits_every_time(on_gpu, dtype):
    backend, cupy, _ = on_gpu
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
        backend.set_bfloat16(backends.use_bfloat16())
    for size, window in LAYERS:
        values, attrs = arrays(size, window, dtype)
        there = on_device(cupy, values)
        first = [cupy.asnumpy(a) for a in outcome(backend, *there, attrs)]
        for _ in range(5):
            for a, b in zip(outcome(backend, *there, attrs), first):
                np.testing.assert_array_equal(cupy.asnumpy(a), b)


def test_cuda_convolutions_keep_special_values_where_they_are(on_gpu):
    backend, cupy, _ = on_gpu
    values, attrs = arrays(*MIDDLE, "float32")
    values[0][0, 1, 4, 4] = np.nan
    x, weight, bias, _ = on_device(cupy, values)
    y = cupy.asnumpy(backend.conv2d_forward(x, weight, bias, *attrs, relu=True))
    touched = np.zeros(y.shape, bool)
    touched[0, :, 3:6, 3:6] = True
    np.testing.assert_array_equal(np.isnan(y), touched)


def test_cuda_tf32_rounds_what_convolutions_read(on_gpu, reference):
    backend, cupy, module = on_gpu
    if int(cupy.cuda.Device().compute_capability) < 80:
        pytest.skip("GPUs before compute capability 8.0 have no TF32")
    values, attrs = arrays(*MIDDLE, "float32")
    want = outcome(reference, *(a.astype("float64") for a in values), attrs)[:3]
    errors = []
    for tf32 in (False, True):
        backend.set_tf32(tf32)
        got = [cupy.asnumpy(a) for a in outcome(backend, *on_device(cupy, values), attrs)[:3]]
        errors.append([np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in zip(got, want)])
    assert max(errors[0]) < 1e-5 and max(errors[1]) < 2e-3, errors
    assert max(errors[1]) > 1e-5, (errors, module.cudnn_plans())


def test_cuda_capture_gives_the_eager_bits_of_convolutions(on_gpu):
    backend, cupy, _ = on_gpu
    values, attrs = arrays(*MIDDLE, "float32")
    with cupy.cuda.Stream(non_blocking=True) as stream:
        there = on_device(cupy, values)
        want = [cupy.asnumpy(a) for a in outcome(backend, *there, attrs)]
        stream.begin_capture()
        got = outcome(backend, *there, attrs)
        graph = stream.end_capture()
        for a in got:
            a.fill(np.nan)
        graph.launch(stream)
        stream.synchronize()
        for a, b in zip(got, want):
            np.testing.assert_array_equal(cupy.asnumpy(a), b)
