"""Kernels read nothing past the end of their inputs: the arrays end where an inaccessible page begins.

A read too far kills the process, so the calls run in a child. Masked vector loads, which AddressSanitizer does not
watch, are covered too.
"""

import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, mmap, sys
import numpy as np
from fastdl import _cpu as k

libc = ctypes.CDLL(None, use_errno=True)
PAGE, maps = mmap.PAGESIZE, []

def guarded(values):
    "A copy of values that ends at the border of a page without access."
    values = np.asarray(values, order="C")
    room = -(-max(values.nbytes, 1) // PAGE) * PAGE
    memory = mmap.mmap(-1, room + PAGE)
    maps.append(memory)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    assert libc.mprotect(ctypes.c_void_p(base + room), ctypes.c_size_t(PAGE), 0) == 0
    array = np.frombuffer(memory, values.dtype, values.size, room - values.nbytes).reshape(values.shape)
    array[...] = values
    return array

k.set_isa(sys.argv[1])
if sys.argv[2:]:  # does the guard work? Read the byte behind an array.
    ctypes.string_at(guarded(np.zeros(3, np.float32)).ctypes.data + 12, 1)
for dtype in ("float32", "float64"):
    one = guarded(np.ones((), dtype))
    for n in (1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 33, 67):
        x, dy, w = (guarded(np.random.default_rng(i).random((3, n)).astype(dtype)) for i in range(3))
        for name in ("relu", "sigmoid", "tanh"):
            getattr(k, name + "_forward")(x), getattr(k, name + "_backward")(dy, x)
        for name, options in (("leaky_relu", (0.1,)), ("elu", (1.0,)), ("softplus", (1.0, 20.0)),
                              ("gelu", ("none",)), ("gelu", ("tanh",))):
            getattr(k, name + "_forward")(x, *options), getattr(k, name + "_backward")(dy, x, *options)
        for name in ("softmax", "log_softmax"):
            for axis in (0, 1):
                getattr(k, name + "_forward")(x, axis), getattr(k, name + "_backward")(dy, x, axis)
        for name, options in (("mse", ()), ("l1", ()), ("bce_with_logits", (w, w))):
            for reduction, dloss in (("mean", one), ("none", dy)):
                getattr(k, name + "_forward")(x, w, *options, reduction)
                getattr(k, name + "_backward")(dloss, x, w, *options, reduction)
        for values in (w, guarded(np.ones((3, n + 256), dtype))):  # tiles, dot products
            y = guarded(k.linear_forward(values, values, None))
            k.linear_backward(y, values, values, (True, True, True))
            k.gemm(values.T, values), k.gemm(values, values.T), k.gemm(values.T, guarded(np.ones((n, 3), dtype)).T)
        images = guarded(np.ones((2, 5, 11, n), dtype)).transpose(0, 3, 1, 2)
        for outputs, stride, padding in ((1, 1, 1), (17, 2, 0), (33, 1, 2)):
            attrs = ((stride, stride), (padding, padding), (1, 1), 1)
            filters = guarded(np.ones((outputs, n, 3, 3), dtype))
            y = k.conv2d_forward(images, filters, None, *attrs)
            gradient = guarded(y.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
            k.conv2d_backward(gradient, images, filters, *attrs, (True, True, True))
        target, weight = guarded(np.array([0, n - 1, n // 2])), guarded(np.ones(n, dtype))
        lse = guarded(k.cross_entropy_forward(x, target, weight, -100, 0.1, "mean")[1])
        k.cross_entropy_backward(one, x, target, lse, weight, -100, 0.1, "mean")
        k.dropout(x, 0.5, 1, 2)
        index = guarded(np.array([2, 0, 2], np.int32))
        k.embedding_forward(x, index), k.embedding_backward(dy, index, 3, -1)
print("in bounds")
"""


def run(isa, *more):
    return subprocess.run([sys.executable, "-c", PROGRAM, isa, *more], capture_output=True, text=True, timeout=60)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mprotect as Linux has it")
def test_reads_stay_in_bounds(cpu, isa):
    done = run(isa)
    assert done.stdout.strip() == "in bounds", (done.returncode, done.stderr)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mprotect as Linux has it")
def test_the_guard_works(cpu):
    assert run("baseline", "overrun").returncode < 0  # killed by a signal
