"""The precision of products and convolutions on a GPU, the same for fastdl and PyTorch."""

from __future__ import annotations

import contextlib

import numpy as np

NAMES = ("fp32", "tf32", "bf16")
# Of results, after a network's layers: TF32 has 10 bits of mantissa, bfloat16 7.
TOLERANCES = {"fp32": 0.0, "tf32": 0.02, "bf16": 0.05}
WORDS = {
    "fp32": "float32 without TF32",
    "tf32": "TF32 products and convolutions",
    "bf16": "bfloat16 products and convolutions, float32 weights",
}
# What is timed in TF32, and on arrays of bfloat16; the rest has the same work as in float32.
TF32 = {"gemm", "linear", "conv2d", "training"}
BF16 = TF32 | {"pool2d", "batch_norm", "activation", "elementwise", "reduce", "dropout"}

current = "fp32"


@contextlib.contextmanager
def use(name: str):
    """Within the block, time at this precision."""
    global current
    import fastdl

    before = fastdl.get_float32_matmul_precision()
    fastdl.set_float32_matmul_precision("high" if name == "tf32" else "highest")
    current = name
    try:
        yield
    finally:
        fastdl.set_float32_matmul_precision(before)
        current = "fp32"


def low() -> bool:
    """Whether products are computed in bfloat16."""
    return current == "bf16"


def has(case) -> bool:
    """Whether the case is one of this precision."""
    return current == "fp32" or case.family in (BF16 if low() else TF32)


def lowered(array):
    """A float32 array as kernels of this precision take it."""
    import fastdl

    return array.astype(fastdl.bfloat16) if low() and array.dtype == np.float32 else array


def rounded(value):
    """The same values in float32, for the reference, whose ReLU is to take the same side; anything else as it is."""
    is_float = isinstance(value, np.ndarray) and value.dtype == np.float32
    return lowered(value).astype(np.float32) if low() and is_float else value


def autocast(library):
    """fastdl's or PyTorch's `autocast` around a forward pass, where it is to compute in bfloat16."""
    if not low():
        return contextlib.nullcontext()
    return library.autocast("cuda", dtype=library.bfloat16)
