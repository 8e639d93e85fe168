"""Activations on the layers of the recipes."""

import numpy as np

from ..case import Case, calls, random_images


def cases(rivals):
    rng = np.random.default_rng(0)
    torch = rivals.torch
    inputs = [rng.standard_normal((8, 3), np.float32), rng.standard_normal((100, 512), np.float32)]
    inputs.append(random_images(rng, 100, 32, 28, 28))
    for x in inputs:
        shape = "x".join(map(str, x.shape))
        for name in ("relu", "tanh", "sigmoid"):
            forward = calls(f"{name}_forward", x)
            y = forward["numpy"]()
            backward = calls(f"{name}_backward", x, y)
            if torch:
                tx, ty = torch.from_numpy(x), torch.from_numpy(y)
                forward["torch"] = lambda f=getattr(torch, name), x=tx: f(x)
                backward["torch"] = _torch_backward(torch, name, tx, ty)
            yield Case("activation", f"{name} forward {shape}", forward, bytes=8.0 * x.size)
            yield Case("activation", f"{name} backward {shape}", backward, bytes=12.0 * x.size)


def _torch_backward(torch, name, dy, y):
    if name == "relu":
        return lambda: torch.ops.aten.threshold_backward(dy, y, 0)
    function = getattr(torch.ops.aten, f"{name}_backward")
    return lambda: function(dy, y)
