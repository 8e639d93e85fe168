"""Optimizers: the kernels over one flat buffer, and whole optimizers over a hundred small tensors.

The tensors' gradients come from a backward pass before the first step and stay where it put them.
"""

from functools import partial

import numpy as np

from ..case import Case, backend, normal, place

SIZES = [400_000, 16_000_000]
TENSORS, SIZE = 100, 4096
PASSES = {"sgd": 5, "rmsprop": 5, "adam": 7}  # floats read and written to update one parameter
NAMES = {"sgd": "SGD", "rmsprop": "RMSprop", "adam": "Adam"}
OPTIONS = {"sgd": {"lr": 1e-3, "momentum": 0.9}, "rmsprop": {"lr": 1e-3}, "adam": {"lr": 1e-3}}
FASTEST = {"sgd": {"fused": True}, "rmsprop": {"foreach": True}, "adam": {"fused": True}}  # of PyTorch's ways


def cases(rivals):
    for family, passes in PASSES.items():
        for size in SIZES:
            case = Case(family, f"step {size / 1e6:g}M", {}, bytes=4.0 * passes * size)
            case.runs = partial(_flat, rivals, case, size)
            yield case
        case = Case(family, f"optimizer {TENSORS}x{SIZE}", {}, bytes=4.0 * passes * TENSORS * SIZE)
        case.runs = partial(_optimizers, rivals, case)
        yield case


def _flat(rivals, case: Case, size: int) -> dict:
    """Kernel calls; each changes its own parameters, which are the result to check."""
    from fastdl.kernels import numpy as reference

    rng = np.random.default_rng(0)
    start, grad = normal(rng, size), normal(rng, size)
    runs = {}
    for rival, kernel in (("fastdl", backend()), ("numpy", reference)):
        arrays = [normal(rng, size) for _ in range(3)]
        for array, value in zip(arrays, (start, 0, 0)):
            array[...] = value
        arrays.insert(1, grad)
        arrays = list(map(place, arrays)) if rival == "fastdl" else arrays
        runs[rival] = partial(_STEPS[case.family], kernel, *arrays)
        case.shown[rival] = lambda _, param=arrays[0]: param
    if rivals.torch:
        _add_torch(rivals.torch, case, runs, [start], [grad])
    return runs


def _optimizers(rivals, case: Case) -> dict:
    import fastdl as fd

    rng = np.random.default_rng(0)
    start, grads = rng.standard_normal((2, TENSORS, SIZE), dtype=np.float32)
    runs = {}
    for rival, device in (("fastdl", fd.get_device()), ("numpy", "numpy")):
        with fd.device(device):
            params = [fd.tensor(one, requires_grad=True) for one in start]
            optimizer = getattr(fd.optim, NAMES[case.family])(params, **OPTIONS[case.family])
            for param, grad in zip(params, grads):
                (param * fd.tensor(grad)).sum().backward()
        runs[rival] = optimizer.step if rival == "fastdl" else partial(_step_on, device, optimizer)
        case.shown[rival] = lambda _, params=params: params
    if rivals.torch:
        _add_torch(rivals.torch, case, runs, start, grads)
    return runs


def _step_on(device: str, optimizer) -> None:
    import fastdl as fd

    with fd.device(device):
        optimizer.step()


def _add_torch(torch, case: Case, runs: dict, start, grads) -> None:
    params = [torch.nn.Parameter(torch.tensor(one)) for one in start]
    options = OPTIONS[case.family] | FASTEST[case.family]
    runs["torch"] = getattr(torch.optim, NAMES[case.family])(params, **options).step
    for param, grad in zip(params, grads):
        (param * torch.tensor(grad)).sum().backward()
    case.shown["torch"] = lambda _: params


def _momentum(kernel, param, grad, buf, _):
    kernel.sgd_step(param, grad, buf, 1e-3, 0.9, 0.0, 0.0, False, 2)


def _rmsprop(kernel, param, grad, square, _):
    kernel.rmsprop_step(param, grad, square, None, None, 1e-3, 0.99, 1e-8, 0.0, 0.0)


def _adam(kernel, param, grad, m, v):
    kernel.adam_step(param, grad, m, v, None, 1e-3, 0.9, 0.999, 1e-8, 0.0, 1, False)


_STEPS = {"sgd": _momentum, "rmsprop": _rmsprop, "adam": _adam}
