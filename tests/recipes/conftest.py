"""A tiny MNIST for recipes that want the real one."""

import struct

import numpy as np
import pytest


def _write_idx(path, array):
    head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(head + array.tobytes())


@pytest.fixture
def tiny_mnist(tmp_path):
    """A folder with 60 training and 20 test images under MNIST's names."""
    folder = tmp_path / "data"
    (folder / "mnist").mkdir(parents=True)
    draw = np.random.default_rng(0)
    for part, count in (("train", 60), ("t10k", 20)):
        images = draw.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        _write_idx(folder / "mnist" / f"{part}-images-idx3-ubyte", images)
        _write_idx(folder / "mnist" / f"{part}-labels-idx1-ubyte", np.arange(count, dtype=np.uint8) % 10)
    return str(folder)
