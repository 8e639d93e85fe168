"""Dense layers of the recipes and of a word-level language model's output."""

import numpy as np

from fastdl import kernels
from fastdl.kernels import numpy as reference

from ..case import Case, torch_or_none

SHAPES = [
    (8, 2, 3),
    (128, 10, 45),
    (100, 784, 500),
    (128, 512, 512),
    (100, 3136, 512),
    (100, 512, 10),
    (700, 300, 10000),
]


def cases():
    rng = np.random.default_rng(0)
    torch, K = torch_or_none(), kernels.host()
    for rows, inputs, outputs in SHAPES:
        x, weight, bias, dy = (
            rng.standard_normal(s, dtype=np.float32)
            for s in ((rows, inputs), (outputs, inputs), outputs, (rows, outputs))
        )
        weight /= np.float32(np.sqrt(inputs))
        forward = {
            "fastdl": lambda a=(x, weight, bias): K.linear_forward(*a),
            "numpy": lambda a=(x, weight, bias): reference.linear_forward(*a),
        }
        need = (True, True, True)
        backward = {
            "fastdl": lambda a=(dy, x, weight, need): K.linear_backward(*a),
            "numpy": lambda a=(dy, x, weight, need): reference.linear_backward(*a),
        }
        if torch:
            tx, tw, tb, tdy = (torch.from_numpy(a) for a in (x, weight, bias, dy))
            forward["torch"] = lambda a=(tx, tw, tb): torch.nn.functional.linear(*a)
            backward["torch"] = lambda dy=tdy, x=tx, w=tw: (dy @ w, dy.T @ x, dy.sum(0))
        shape = f"{rows}x{inputs}x{outputs}"
        flops = 2.0 * rows * inputs * outputs
        yield Case("linear", f"forward {shape}", forward, flops=flops)
        yield Case("linear", f"backward {shape}", backward, flops=2 * flops)
