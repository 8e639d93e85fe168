"""The thread pool: forks, several Python threads, and settings."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest


@pytest.fixture
def extension(cpu):
    from fastdl import _cpu

    before = _cpu.get_num_threads()
    yield _cpu
    _cpu.set_num_threads(before)


def _product(size=300):
    from fastdl import _cpu

    x = np.arange(size * size, dtype=np.float64).reshape(size, size) % 7
    return _cpu.gemm(x, x)


FORK = """
import os
import numpy as np
from fastdl import _cpu

_cpu.set_num_threads(2)
x = np.arange(90000, dtype=np.float64).reshape(300, 300) % 7
want = _cpu.gemm(x, x)  # the parent's pool has started
child = os.fork()
if child == 0:
    os._exit(0 if np.array_equal(_cpu.gemm(x, x), want) else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_pool_works_in_a_forked_child(extension):
    # in a process of its own: other libraries' threads, which a whole run of the tests has, make a fork a warning
    assert subprocess.run([sys.executable, "-c", FORK], timeout=60).returncode == 0


def test_python_threads_share_the_kernels(extension):
    extension.set_num_threads(2)
    want, results = _product(), []
    workers = [threading.Thread(target=lambda: results.append(_product())) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(results) == 6
    for got in results:
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("count", [0, -1, 257])
def test_thread_count_out_of_range(extension, count):
    with pytest.raises(ValueError, match=r"n must lie in \[1, 256\], got"):
        extension.set_num_threads(count)


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("FASTDL_CPU_ISA", "sse9", r"FASTDL_CPU_ISA must be one of 'baseline'.*, got 'sse9'"),
        ("FASTDL_NUM_THREADS", "two", r"FASTDL_NUM_THREADS must be a whole number in \[1, 256\], got 'two'"),
        ("FASTDL_NUM_THREADS", "0", r"FASTDL_NUM_THREADS must be a whole number in \[1, 256\], got '0'"),
    ],
)
def test_bad_environment(extension, monkeypatch, name, value, message):
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message):
        extension.configure()


def test_environment_is_applied(extension, monkeypatch):
    before = extension.get_isa()
    monkeypatch.setenv("FASTDL_CPU_ISA", "baseline")
    monkeypatch.setenv("FASTDL_NUM_THREADS", "3")
    try:
        extension.configure()
        assert (extension.get_isa(), extension.get_num_threads()) == ("baseline", 3)
    finally:
        extension.set_isa(before)


def test_kernels_flush_denormals_and_restore_the_mode(extension):
    tiny = np.full((4, 4), 1e-40, np.float32)
    assert (tiny * np.float32(0.5) > 0).all()  # NumPy keeps subnormal numbers ...
    assert (extension.gemm(tiny, np.eye(4, dtype=np.float32)) == 0).all()  # ... kernels flush them ...
    assert (tiny * np.float32(0.5) > 0).all()  # ... and leave the caller's mode as it was


def test_available_cores_respects_affinity(extension):
    assert 1 <= extension.available_cores() <= len(os.sched_getaffinity(0))
