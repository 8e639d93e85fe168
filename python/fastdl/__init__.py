"""fastdl: train small and medium neural networks fast, with PyTorch's names.

>>> import fastdl as fd
>>> x = fd.tensor([1.0, 2.0], requires_grad=True)
>>> (x * x).sum().backward()
>>> x.grad
tensor([2., 4.])
"""

from importlib import import_module as _import_module

import numpy as _np

from . import functional, methods, random  # noqa: F401  (methods hangs the functions on Tensor)
from .autograd import enable_grad, is_grad_enabled, no_grad, set_grad_enabled  # noqa: F401
from .capture import CaptureError, capture  # noqa: F401
from .creation import (  # noqa: F401
    arange,
    as_tensor,
    empty,
    empty_like,
    eye,
    from_dlpack,
    from_numpy,
    full,
    full_like,
    linspace,
    ones,
    ones_like,
    rand,
    rand_like,
    randint,
    randn,
    randn_like,
    randperm,
    tensor,
    zeros,
    zeros_like,
)
from .device import (  # noqa: F401
    device,
    get_device,
    get_float32_matmul_precision,
    get_num_threads,
    set_device,
    set_float32_matmul_precision,
    set_num_threads,
    show_config,
)
from .functional import (  # noqa: F401
    abs,
    add,
    argmax,
    argmin,
    bmm,
    broadcast_to,
    cat,
    clamp,
    clone,
    div,
    dot,
    eq,
    exp,
    flatten,
    floor_divide,
    ge,
    gt,
    index_select,
    le,
    log,
    log_softmax,
    lt,
    masked_fill,
    masked_select,
    matmul,
    max,
    maximum,
    mean,
    min,
    minimum,
    mm,
    mul,
    ne,
    neg,
    permute,
    pow,
    relu,
    remainder,
    reshape,
    sigmoid,
    softmax,
    split,
    sqrt,
    square,
    squeeze,
    stack,
    sub,
    sum,
    t,
    tanh,
    transpose,
    unsqueeze,
    var,
    where,
)
from .functional.precision import autocast, is_autocast_enabled  # noqa: F401
from .gradcheck import gradcheck  # noqa: F401
from .random import Generator, initial_seed, manual_seed  # noqa: F401
from .tensor import Tensor  # noqa: F401
from .tensor import use_bfloat16 as _bfloat16

float32, float64 = _np.dtype("float32"), _np.dtype("float64")
int32, int64 = _np.dtype("int32"), _np.dtype("int64")
uint8, bool = _np.dtype("uint8"), _np.dtype("bool")
float, double, int, long = float32, float64, int32, int64

# Loaded when first used, so that `import fastdl` stays quick: modules, and names that live in one of them.
_MODULES = (
    "nn",
    "optim",
    "data",
    "train",
    "models",
    "kernels",
    "recipes",
    "cli",
    "autograd",
    "serialization",
)
_NAMES = {"save": "serialization", "load": "serialization"}


def __getattr__(name: str):
    if name == "__version__":
        value = _version()
    elif name == "bfloat16":
        value = _bfloat16()
    elif name in _MODULES:
        value = _import_module(f"{__name__}.{name}")
    elif name in _NAMES:
        value = getattr(_import_module(f"{__name__}.{_NAMES[name]}"), name)
    else:
        raise AttributeError(f"module 'fastdl' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *_MODULES, *_NAMES, "__version__", "bfloat16"})


def _version() -> str:
    """The installed version; a checkout that is not installed has none."""
    from importlib import metadata

    try:
        return metadata.version("fastdl")
    except metadata.PackageNotFoundError:
        return "0+unknown"
