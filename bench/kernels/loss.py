"""Element-wise losses, their mean and its gradient: an autoencoder's output for a batch of MNIST."""

import numpy as np

from ..case import Case, calls


def cases(rivals):
    rng = np.random.default_rng(0)
    torch = rivals.torch
    x, target = rng.standard_normal((100, 784), np.float32), rng.random((100, 784), np.float32)
    names = {"mse": "mse_loss", "l1": "l1_loss", "bce_with_logits": "binary_cross_entropy_with_logits"}
    for name, torch_name in names.items():
        options = (None, None, "mean") if name == "bce_with_logits" else ("mean",)
        forward = calls(f"{name}_forward", x, target, *options)
        if torch:
            function = getattr(torch.nn.functional, torch_name)
            forward["torch"] = lambda f=function, x=rivals.tensor(x), t=rivals.tensor(target): f(x, t)
        yield Case("loss", f"{name} forward 100x784", forward, bytes=8.0 * x.size)
        backward = calls(f"{name}_backward", np.ones((), np.float32), x, target, *options)
        yield Case("loss", f"{name} backward 100x784", backward, bytes=12.0 * x.size)
