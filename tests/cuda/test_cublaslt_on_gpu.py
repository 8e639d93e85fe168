"""Matrix products by cuBLASLt itself: needs a GPU and the library, and skips without."""

import itertools
from importlib import import_module

import numpy as np
import pytest

from fastdl import kernels
from kernels.test_bfloat16_products import assert_near, exact, magnitudes
from tolerances import assert_close


def random(*shape, dtype="float32", seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


@pytest.fixture
def on_gpu():
    """The CUDA backend on CuPy arrays, CuPy, and the module behind it, with cuBLASLt or skipped."""
    try:
        backend = kernels.backend("cuda")
    except RuntimeError as error:
        pytest.skip(str(error))
    if "missing" in backend.cublaslt():
        pytest.skip(f"cuBLASLt is {backend.cublaslt()}")
    module = import_module("fastdl._cuda")
    yield backend, import_module("cupy"), module
    module.load_cublaslt(None)
    backend.set_tf32(False)


@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("size", [(64, 48, 32), (100, 500, 784), (257, 33, 1001)], ids=str)
def test_cuda_products_come_from_the_library(on_gpu, size, dtype):
    backend, cupy, module = on_gpu
    m, n, k = size
    a, b = random(m, k, dtype=dtype), random(k, n, dtype=dtype, seed=1)
    want = np.matmul(a.astype("float64"), b.astype("float64")).astype(dtype)
    module.unload_cublaslt()
    own = backend.gemm(cupy.asarray(a), cupy.asarray(b))
    module.load_cublaslt(None)
    for first, second in itertools.product((a, a.copy(order="F")), (b, b.copy(order="F"))):
        got = backend.gemm(cupy.asarray(first), cupy.asarray(second))
        assert_close(cupy.asnumpy(got), want, "gemm", k**0.5)
        assert_close(cupy.asnumpy(got), cupy.asnumpy(own), "gemm", k**0.5)
    assert len(module.cublaslt_plans()) == 4
    assert all(": algorithm " in line for line in module.cublaslt_plans())


def test_cuda_epilogues_come_from_the_library(on_gpu):
    """Not a matter of right or wrong (fastdl's own passes serve otherwise) but of speed, and of the values declared."""
    backend, cupy, module = on_gpu
    x, weight, bias, dy = map(cupy.asarray, (random(128, 64), random(32, 64), random(32), random(128, 32)))
    backend.linear_forward(x, weight, bias)
    backend.linear_backward(dy, x, weight, (True, True, True))
    plans = module.cublaslt_plans()
    assert sum("float32 bias" in line and ": algorithm" in line for line in plans) == 1, plans
    assert sum("float32 row sums" in line and ": algorithm" in line for line in plans) == 1, plans


@pytest.mark.parametrize("rows, i, o", [(128, 64, 32), (100, 784, 500), (257, 33, 11)])
def test_cuda_products_of_bfloat16_come_from_the_library(on_gpu, reference, rows, i, o):
    backend, cupy, module = on_gpu
    pytest.importorskip("ml_dtypes")
    backend.set_bfloat16(kernels.use_bfloat16())
    host = [random(*s, dtype="bfloat16", seed=n) for n, s in enumerate(((rows, i), (o, i), (o,), (rows, o)))]
    x, weight, bias, dy = map(cupy.asarray, host)
    got = (
        backend.gemm(x, weight.T), backend.linear_forward(x, weight, bias),
        *backend.linear_backward(dy, x, weight, (True, True, True)),
    )  # fmt: skip
    (want, size) = (
        (reference.gemm(x, weight.T), reference.linear_forward(x, weight, bias),
         *reference.linear_backward(dy, x, weight, (True, True, True)))
        for x, weight, bias, dy in (exact(host), magnitudes(host))
    )  # fmt: skip
    dtypes = ["bfloat16"] * 3 + ["float32"] * 2
    for values in zip(map(cupy.asnumpy, got), want, size, (i, i + 1, o, rows, rows), dtypes):
        assert_near(*values)
    plans = module.cublaslt_plans()
    assert all(": algorithm" in line for line in plans if " bias " not in line and " row sums " not in line), plans
    assert sum("bfloat16 bias" in line and ": algorithm" in line for line in plans) == 1, plans
    assert sum(line.startswith("bfloat16 to float32") and ": algorithm" in line for line in plans) == 1, plans


def test_cuda_tf32_rounds_operands(on_gpu):
    backend, cupy, module = on_gpu
    if int(cupy.cuda.Device().compute_capability) < 80:
        pytest.skip("GPUs before compute capability 8.0 have no TF32")
    a, b = random(256, 512), random(512, 128)
    want = np.matmul(a.astype("float64"), b.astype("float64"))
    error = []
    for tf32 in (False, True):
        backend.set_tf32(tf32)
        got = cupy.asnumpy(backend.gemm(cupy.asarray(a), cupy.asarray(b)))
        error.append(np.linalg.norm(got - want) / np.linalg.norm(want))
    assert error[0] < 1e-5 < error[1] < 1e-3


def test_cuda_capture_gives_the_eager_bits(on_gpu):
    backend, cupy, module = on_gpu
    with cupy.cuda.Stream(non_blocking=True) as stream:
        a, b = cupy.asarray(random(100, 784)), cupy.asarray(random(784, 500))
        want = cupy.asnumpy(backend.gemm(a, b))
        stream.begin_capture()
        got = backend.gemm(a, b)
        graph = stream.end_capture()
        got.fill(np.nan)
        graph.launch(stream)
        stream.synchronize()
        np.testing.assert_array_equal(cupy.asnumpy(got), want)
