"""Max pooling, forward and backward, 2x2; PyTorch in both memory formats."""

from functools import partial

import numpy as np

from ..case import Case, formats, random_images, several_calls

SHAPES = [(100, 32, 28), (100, 64, 14), (64, 32, 32)]


def cases(rivals):
    for n, c, size in SHAPES:
        # Fewest bytes: x read, y and one byte an output written; dy and the bytes read, dx written.
        x_size, y_size = n * c * size**2, n * c * (size // 2) ** 2
        runs = partial(_runs, rivals, n, c, size)
        yield Case("pool2d", f"max 2x2 {n}x{c}x{size}x{size}", runs, bytes=4.0 * 2 * x_size + (4 + 1) * 2 * y_size)


def _runs(rivals, n: int, c: int, size: int) -> dict:
    rng = np.random.default_rng(0)
    x, dy = random_images(rng, n, c, size, size), random_images(rng, n, c, size // 2, size // 2)
    attrs = ((2, 2), (2, 2), (0, 0), (1, 1))

    def both(K, x, dy):
        y, offsets = K.max_pool2d_forward(x, *attrs, False)
        return y, K.max_pool2d_backward(dy, offsets, (size, size), *attrs)

    runs = several_calls(both, x, dy)
    if torch := rivals.torch:
        aten = torch.ops.aten

        def both_torch(x, dy):
            y, index = aten.max_pool2d_with_indices(x, [2, 2], [2, 2])
            back = aten.max_pool2d_with_indices_backward(dy, x, [2, 2], [2, 2], [0, 0], [1, 1], False, index)
            return y, back

        runs["torch"] = {way: partial(both_torch, *arrays) for way, arrays in formats(rivals, x, dy)}
    return runs
