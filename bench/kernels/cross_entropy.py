"""Softmax cross-entropy, forward and backward: classifiers, and a language model with 10,000 words."""

import numpy as np

from fastdl import kernels
from fastdl.kernels import numpy as reference

from ..case import Case, torch_or_none

SHAPES = [(8, 2), (100, 10), (128, 10), (700, 10000)]


def cases():
    rng = np.random.default_rng(0)
    torch = torch_or_none()
    for rows, classes in SHAPES:
        logits, target = rng.standard_normal((rows, classes), np.float32), rng.integers(0, classes, rows)

        def both(K, logits=logits, target=target):
            loss, lse = K.cross_entropy_forward(logits, target, None, -100, 0.0, "mean")
            one = np.ones((), np.float32)
            return loss, K.cross_entropy_backward(one, logits, target, lse, None, -100, 0.0, "mean")

        runs = {"fastdl": lambda f=both: f(kernels.host()), "numpy": lambda f=both: f(reference)}
        if torch:
            tx, tt = torch.from_numpy(logits).requires_grad_(), torch.from_numpy(target)

            def both_torch(x=tx, t=tt):
                loss = torch.nn.functional.cross_entropy(x, t)
                return loss, torch.autograd.grad(loss, x)[0]

            runs["torch"] = both_torch
        # Logits read once each way, the gradient written.
        yield Case("cross_entropy", f"{rows}x{classes}", runs, bytes=12.0 * logits.size)
