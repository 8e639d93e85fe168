"""The threads of the emulated CUDA kernels: they wait for each other and exchange as on a GPU, in whatever order they
run, and what a GPU leaves undefined is an error or shows."""

import ctypes

import numpy as np
import pytest

from stubs import ROOT, compile_library

ORDERS = [0, 1, 7]
N = 256


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    cuda = ROOT / "csrc/cuda"
    path = compile_library(
        ROOT / "tests/cuda/emulated_threads.cpp", tmp_path_factory.mktemp("threads") / "threads.so",
        "-std=c++20", str(cuda / "emulated.cpp"), "-xc++", str(cuda / "runtime.cu"), "-xnone",
    )  # fmt: skip
    library = ctypes.CDLL(path)
    library.run_kernel.restype = ctypes.c_char_p
    return library


def run(library, name, order):
    """What the kernel threw, and each thread's result (-1: none)."""
    results = np.empty(N, np.float32)
    error = library.run_kernel(name.encode(), order, results.ctypes.data_as(ctypes.c_void_p))
    return error.decode(), results


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name, want", [
    ("sums", 255 * 128 + np.arange(N) // 2 / 256),
    ("neighbour", (np.arange(N) + 1) % N),
    ("all copies", np.full(N, 9)),
])  # fmt: skip
def test_results(library, name, want, order):
    error, results = run(library, name, order)
    assert error == ""
    np.testing.assert_array_equal(results, want.astype(np.float32))


def test_a_missing_barrier_shows(library):
    """As NaN, or as what depends on the order."""
    results = [run(library, "race", order)[1] for order in ORDERS]
    assert np.isnan(results[0]).sum() == N - 1 and np.isnan(results[1]).sum() == 1
    assert 1 < np.isnan(results[2]).sum() < N - 1


@pytest.mark.parametrize("order", ORDERS)
def test_a_copy_that_was_not_waited_for_shows(library, order):
    error, results = run(library, "first copies", order)
    assert error == "" and np.isnan(results).all()


@pytest.mark.parametrize("order", ORDERS)
def test_blocks_that_wait_for_each_other(library, order):
    error, results = run(library, "grid", order)
    assert error == "" and set(results - 10) <= {0, 1, 2, 3}  # which block wrote last; but the first added


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name, message", [
    ("leaves", "threads wait for others that are done"),
    ("differ", "threads wait for others that are done, or wait for something else"),
    ("beyond", "beyond the end of its shared memory"),
    ("off border", "an access at 4 bytes beyond a border of 8"),
    ("hungry", "could not be launched"),
    ("large grid", "could not be launched"),
    ("odd threads", "could not be launched"),
    ("plain grid", "blocks wait for each other"),
])  # fmt: skip
def test_errors(library, name, message, order):
    assert message in run(library, name, order)[0]
    assert run(library, "neighbour", order)[0] == ""  # nothing is left of it
