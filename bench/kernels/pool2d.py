"""Max pooling, forward and backward, 2x2."""

import numpy as np

from fastdl import kernels
from fastdl.kernels import numpy as reference

from ..case import Case, random_images

SHAPES = [(100, 32, 28), (100, 64, 14), (64, 32, 32)]


def cases(rivals):
    rng = np.random.default_rng(0)
    torch = rivals.torch
    for n, c, size in SHAPES:
        x = random_images(rng, n, c, size, size)
        dy = random_images(rng, n, c, size // 2, size // 2)
        attrs = ((2, 2), (2, 2), (0, 0), (1, 1))

        def both(K, x=x, dy=dy, attrs=attrs, size=size):
            y, offsets = K.max_pool2d_forward(x, *attrs, False)
            return y, K.max_pool2d_backward(dy, offsets, (size, size), *attrs)

        runs = {"fastdl": lambda f=both: f(kernels.host()), "numpy": lambda f=both: f(reference)}
        if torch:
            tx, tdy = (torch.from_numpy(a).contiguous(memory_format=torch.channels_last) for a in (x, dy))

            def both_torch(x=tx, dy=tdy):
                y, index = torch.ops.aten.max_pool2d_with_indices(x, [2, 2], [2, 2])
                return y, torch.ops.aten.max_pool2d_with_indices_backward(
                    dy, x, [2, 2], [2, 2], [0, 0], [1, 1], False, index
                )

            runs["torch"] = both_torch
        # Fewest bytes: x read, y and one byte an output written; dy and the bytes read, dx written.
        size_y = n * c * (size // 2) ** 2
        yield Case("pool2d", f"max 2x2 {n}x{c}x{size}x{size}", runs, bytes=4.0 * 2 * x.size + (4 + 1) * 2 * size_y)
