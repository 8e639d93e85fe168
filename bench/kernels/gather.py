"""A loader's batch: rows of a uint8 data set, converted and normalised while they are gathered; embedding rows."""

import numpy as np

from ..case import Case, calls, torch_or_none


def cases():
    rng = np.random.default_rng(0)
    torch = torch_or_none()
    mean, std = np.array([0.13066]), np.array([0.30811])
    for channels, size, count, batch in [(1, 28, 60000, 100), (3, 32, 10000, 128)]:
        data = rng.integers(0, 256, (count, channels, size, size), dtype=np.uint8)
        index = rng.permutation(count)[:batch]
        runs = calls("gather_batch", data, index, 1 / 255, mean, std, "float32")
        if torch:
            td, ti = torch.from_numpy(data), torch.from_numpy(index)
            runs["torch"] = lambda d=td, i=ti: (d[i].float() * (1 / 255) - 0.13066) / 0.30811
        yield Case("gather", f"{batch}x{channels}x{size}x{size}", runs, bytes=5.0 * batch * channels * size * size)
    weight, words = rng.standard_normal((10000, 300), np.float32), rng.integers(0, 10000, (35, 20))
    dy = rng.standard_normal((35, 20, 300), np.float32)
    forward, backward = calls("embedding_forward", weight, words), calls("embedding_backward", dy, words, 10000, -1)
    if torch:
        tw, ti, tdy = torch.from_numpy(weight), torch.from_numpy(words), torch.from_numpy(dy)
        forward["torch"] = lambda w=tw, i=ti: torch.nn.functional.embedding(i, w)
        backward["torch"] = lambda d=tdy, i=ti: torch.ops.aten.embedding_dense_backward(d, i, 10000, -1, False)
    yield Case("embedding", "forward 35x20 of 10000x300", forward, bytes=8.0 * dy.size)
    yield Case("embedding", "backward 35x20 of 10000x300", backward, bytes=4.0 * (dy.size + weight.size))
