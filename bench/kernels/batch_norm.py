"""BatchNorm in training, forward and backward."""

import numpy as np

from fastdl import kernels
from fastdl.kernels import numpy as reference

from ..case import Case, random_images, torch_or_none

SHAPES = [(64, 64, 32), (64, 32, 32), (64, 128, 8), (128, 512, 1)]


def cases():
    rng = np.random.default_rng(0)
    torch = torch_or_none()
    for n, c, size in SHAPES:
        x, dy = (random_images(rng, n, c, size, size) for _ in range(2))
        weight, bias = rng.standard_normal((2, c), dtype=np.float32)

        def both(K, x=x, dy=dy, weight=weight, bias=bias):
            y, mean, invstd = K.batch_norm_forward(x, weight, bias, None, None, 0.1, 1e-5)
            return y, *K.batch_norm_backward(dy, x, weight, mean, invstd, (True, True, True))

        runs = {"fastdl": lambda f=both: f(kernels.host()), "numpy": lambda f=both: f(reference)}
        if torch:
            tx, tdy = (torch.from_numpy(a).contiguous(memory_format=torch.channels_last) for a in (x, dy))
            tw, tb = torch.from_numpy(weight), torch.from_numpy(bias)

            def both_torch(x=tx, dy=tdy, w=tw, b=tb):
                y, mean, invstd = torch.native_batch_norm(x, w, b, None, None, True, 0.1, 1e-5)
                return y, *torch.ops.aten.native_batch_norm_backward(
                    dy, x, w, None, None, mean, invstd, True, 1e-5, [True, True, True]
                )

            runs["torch"] = both_torch
        # Fewest passes over memory: x twice and y once forward, x and dy once and dx once backward.
        yield Case("batch_norm", f"training {n}x{c}x{size}x{size}", runs, bytes=4.0 * 5 * x.size)
