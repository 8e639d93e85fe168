"""Fixtures for all tests: the backends, the instruction sets and thread counts of this machine."""

import contextlib
import importlib

import pytest

import cupy_stand_in
import fastdl as fd
from fastdl import kernels
from fastdl.kernels._bfloat16 import Rounding
from on_gpu import OnGpu, lost

try:
    importlib.import_module("fastdl._cpu")
except ImportError:
    kernels.set_host("numpy")  # chosen, so that no warning about the missing module fails a test


def _emulated():
    """The CUDA kernels on the host, behind their bindings for CuPy and a stand-in for it."""
    try:
        module, cupy = cupy_stand_in.emulated()
        module.set_bfloat16(kernels.use_bfloat16())
        return OnGpu(module, cupy, "emulated")
    except ModuleNotFoundError:
        pytest.skip("the CUDA kernels are not built for the host (make test-cuda)")


def _backend(name):
    if name == "emulated":
        return _emulated()
    try:
        module = kernels.backend(name)
    except RuntimeError as error:
        pytest.skip(str(error))
    return OnGpu(module, importlib.import_module("cupy"), "cuda") if name == "cuda" else module


def pytest_runtest_logreport(report):
    """End the run where a test has lost the GPU: nothing after it would tell of more than that."""
    if report.failed and (reason := lost()):
        pytest.exit(f"the GPU is lost since <{report.nodeid}>: {reason}", returncode=3)


@pytest.fixture(params=["numpy", "cpu", "cuda", "emulated"])
def backend(request):
    """Each backend module in turn; one that is missing skips with the reason."""
    return _backend(request.param)


@pytest.fixture
def bfloat16(backend):
    """The kernels of each backend for arrays of bfloat16, as `fastdl.kernels.of` gives them."""
    dtype = kernels.use_bfloat16()
    backend.set_bfloat16(dtype)
    return Rounding(backend, dtype)


@pytest.fixture
def emulated():
    """The emulated CUDA kernels, taking NumPy arrays."""
    return _emulated()


@pytest.fixture(params=["numpy", "cpu"])
def host(request):
    """Compute on each host backend in turn, for tests that go through Tensors."""
    _backend(request.param)
    with fd.device(request.param):
        yield request.param


@pytest.fixture(params=["numpy", "cpu", "cuda"])
def device(request):
    """Each device in turn in use, for tests that go through Tensors and leave arrays where they are made.

    "cuda" is a GPU, or where there is none a stand-in for CuPy before the emulated kernels.
    """
    if request.param == "cuda":
        request.getfixturevalue("cuda")
    else:
        _backend(request.param)
    with fd.device(request.param):
        yield request.param


@pytest.fixture
def cuda():
    """The CUDA backend: of a GPU, or the emulated kernels behind a stand-in for CuPy."""
    with contextlib.ExitStack() as stack:
        try:
            kernels.backend("cuda")
        except RuntimeError:
            try:
                stack.enter_context(cupy_stand_in.installed())
            except ModuleNotFoundError:
                pytest.skip("no GPU, and the CUDA kernels are not built for the host (make test-cuda)")
        yield kernels.backend("cuda")


@pytest.fixture
def cpu():
    """The compiled CPU backend."""
    return _backend("cpu")


@pytest.fixture
def reference():
    """The NumPy backend, the definition of every kernel."""
    return _backend("numpy")


def _isa_levels():
    try:
        return importlib.import_module("fastdl._cpu").isa_levels()
    except ImportError:
        return ["baseline"]


@pytest.fixture(params=_isa_levels())
def isa(request, cpu):
    """Each instruction set that this machine has, forced in turn."""
    from fastdl import _cpu

    before = _cpu.get_isa()
    _cpu.set_isa(request.param)
    yield request.param
    _cpu.set_isa(before)


@pytest.fixture(params=[1, 2, 3])
def threads(request, cpu):
    """Thread counts; the bits of every result must not depend on them."""
    from fastdl import _cpu

    before = _cpu.get_num_threads()
    _cpu.set_num_threads(request.param)
    yield request.param
    _cpu.set_num_threads(before)
