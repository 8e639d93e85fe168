"""Adam, RMSProp and SGD with momentum over one flat buffer. In place, so checked in tests/kernels instead of here."""

import numpy as np

from fastdl import kernels
from fastdl.kernels import numpy as reference

from ..case import Case, torch_or_none

SIZES = [400_000, 16_000_000]


def cases():
    rng = np.random.default_rng(0)
    for size in SIZES:
        grad = rng.standard_normal(size, dtype=np.float32)
        for family, step, passes in (
            ("sgd", _momentum, 5),
            ("rmsprop", _rmsprop, 5),
            ("adam", _adam, 7),
        ):
            runs = {}
            for rival, K in (("fastdl", kernels.host()), ("numpy", reference)):
                arrays = [rng.standard_normal(size, dtype=np.float32), grad, *np.zeros((2, size), np.float32)]
                runs[rival] = lambda K=K, arrays=arrays, step=step: step(K, *arrays)
            if torch_or_none():
                runs["torch"] = _torch_step(family, size, grad)
            yield Case(family, f"step {size / 1e6:g}M", runs, bytes=4.0 * passes * size, check=False)


def _momentum(K, param, grad, buf, _):
    K.sgd_step(param, grad, buf, 1e-3, 0.9, 0.0, 0.0, False, False)


def _rmsprop(K, param, grad, square, _):
    K.rmsprop_step(param, grad, square, None, None, 1e-3, 0.99, 1e-8, 0.0, 0.0)


def _adam(K, param, grad, m, v):
    K.adam_step(param, grad, m, v, None, 1e-3, 0.9, 0.999, 1e-8, 0.0, 10, False)


def _torch_step(family, size, grad):
    torch = torch_or_none()
    parameter = torch.nn.Parameter(torch.randn(size))
    parameter.grad = torch.from_numpy(grad)
    make = {
        "sgd": lambda p: torch.optim.SGD(p, lr=1e-3, momentum=0.9, fused=True),
        "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-3),
        "adam": lambda p: torch.optim.Adam(p, lr=1e-3, fused=True),
    }[family]
    return make([parameter]).step
