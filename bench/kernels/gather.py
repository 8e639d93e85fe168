"""A loader's batch: rows of a uint8 data set, converted and normalised while they are gathered."""

import numpy as np

from ..case import Case, several_calls


def cases(rivals):
    rng = np.random.default_rng(0)
    torch = rivals.torch
    mean, std = np.array([0.13066]), np.array([0.30811])
    for channels, size, count, batch in [(1, 28, 60000, 100), (3, 32, 10000, 128)]:
        data = rng.integers(0, 256, (count, channels, size, size), dtype=np.uint8)
        index = rng.permutation(count)[:batch]

        def gather(K, data, index):
            return K.gather_batch(data, index, 1 / 255, mean, std, "float32")

        runs = several_calls(gather, data, index)
        if torch:
            td, ti = rivals.tensor(data), rivals.tensor(index)
            runs["torch"] = lambda d=td, i=ti: (d[i].float() * (1 / 255) - 0.13066) / 0.30811
        yield Case("gather", f"{batch}x{channels}x{size}x{size}", runs, bytes=5.0 * batch * channels * size * size)
