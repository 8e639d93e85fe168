"""Initial values of parameters, named as in `torch.nn.init`.

Each function fills a tensor in place and returns it. Random values come from `fastdl.random` (the default
generator unless one is given), so the same seed gives the same bits on every backend. fan_in and fan_out of
a weight (out, in, ...) are the number of inputs of one output and of outputs of one input: in * k and out *
k with k the product of the further sizes.
"""

from __future__ import annotations

import math
import numbers

import numpy as np

from fastdl import creation, random
from fastdl.nn import _check
from fastdl.nn._state import assign, float_dtype
from fastdl.tensor import Tensor

_GAINS = {
    "linear": 1.0, "conv1d": 1.0, "conv2d": 1.0, "conv3d": 1.0, "sigmoid": 1.0, "tanh": 5.0 / 3.0,
    "relu": math.sqrt(2.0), "selu": 0.75, "leaky_relu": math.sqrt(2.0 / (1.0 + 0.01**2)),
}  # fmt: skip


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor that keeps the variance through an activation; param is leaky_relu's negative slope (0.01).

    linear, conv and sigmoid 1; tanh 5/3; relu sqrt(2); leaky_relu sqrt(2 / (1 + slope^2)); selu 3/4.
    """
    _check.choice("calculate_gain", "nonlinearity", nonlinearity, tuple(_GAINS))
    if nonlinearity == "leaky_relu" and param is not None:
        slope = _check.number("calculate_gain", "param", param)
        return math.sqrt(2.0 / (1.0 + slope**2))
    return _GAINS[nonlinearity]


def zeros_(tensor: Tensor) -> Tensor:
    """Fill with 0."""
    _tensor("zeros_", tensor)
    return constant_(tensor, 0.0)


def ones_(tensor: Tensor) -> Tensor:
    """Fill with 1."""
    _tensor("ones_", tensor)
    return constant_(tensor, 1.0)


def constant_(tensor: Tensor, val: float) -> Tensor:
    """Fill with val.

    >>> constant_(fd.zeros(2), 0.5)
    tensor([0.5, 0.5])
    """
    _tensor("constant_", tensor)
    if not isinstance(val, numbers.Real):
        raise TypeError(f"constant_: val must be a number, got {val!r}")
    assign(tensor, val)
    return tensor


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator=None) -> Tensor:
    """Fill from the normal distribution with this mean and standard deviation."""
    _float_tensor("normal_", tensor)
    _check.number("normal_", "mean", mean)
    _check.number("normal_", "std", std, low=0.0)
    assign(tensor, random.normal(tensor.shape, mean, std, tensor.dtype, generator))
    return tensor


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator=None) -> Tensor:
    """Fill from the uniform distribution over [a, b)."""
    _float_tensor("uniform_", tensor)
    _check.number("uniform_", "a", a)
    _check.number("uniform_", "b", b, low=a)
    assign(tensor, random.uniform(tensor.shape, a, b, tensor.dtype, generator))
    return tensor


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator=None) -> Tensor:
    """Fill uniformly over (-a, a), a = gain * sqrt(6 / (fan_in + fan_out)): Glorot & Bengio 2010, eq. 16."""
    bound = math.sqrt(3.0) * _xavier_std("xavier_uniform_", tensor, gain)
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator=None) -> Tensor:
    """Fill normally with std = gain * sqrt(2 / (fan_in + fan_out)): Glorot & Bengio 2010, eq. 12."""
    return normal_(tensor, 0.0, _xavier_std("xavier_normal_", tensor, gain), generator)


def kaiming_uniform_(
    tensor: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", generator=None
) -> Tensor:
    """Fill uniformly over (-b, b), b = gain * sqrt(3 / fan): He et al. 2015, section 2.2.

    a is leaky_relu's negative slope, mode "fan_in" or "fan_out", the gain that of
    `calculate_gain(nonlinearity, a)`.

    >>> kaiming_uniform_(fd.zeros(3, 2), nonlinearity="relu").shape
    (3, 2)
    """
    bound = math.sqrt(3.0) * _kaiming_std("kaiming_uniform_", tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", generator=None
) -> Tensor:
    """Fill normally with std = gain / sqrt(fan); arguments as in `kaiming_uniform_`."""
    return normal_(tensor, 0.0, _kaiming_std("kaiming_normal_", tensor, a, mode, nonlinearity), generator)


def orthogonal_(tensor: Tensor, gain: float = 1.0, generator=None) -> Tensor:
    """Fill with gain times a (semi-)orthogonal matrix (out, all other sizes): Saxe et al. 2013."""
    _float_tensor("orthogonal_", tensor)
    _check.number("orthogonal_", "gain", gain)
    if tensor.ndim < 2:
        raise ValueError(f"orthogonal_: tensor must have at least 2 dimensions, got shape {tensor.shape}")
    rows, columns = tensor.shape[0], math.prod(tensor.shape[1:])
    flat = random.normal((max(rows, columns), min(rows, columns)), 0.0, 1.0, np.float64, generator)
    q, r = np.linalg.qr(flat)
    q = q * np.sign(np.diag(r))  # makes the decomposition unique, hence the distribution uniform
    assign(tensor, gain * (q if rows >= columns else q.T).reshape(tensor.shape))
    return tensor


# What layers use ----------------------------------------------------------------------------------------


def empty(shape: tuple, device=None, dtype=None) -> Tensor:
    """A tensor whose elements are still to be set; float32 unless dtype says otherwise."""
    dtype = float_dtype("layer", np.float32 if dtype is None else dtype)
    return creation.empty(shape, dtype=dtype, device=device)


def layer_default_(weight: Tensor, bias: Tensor | None) -> None:
    """PyTorch's default for dense and convolution layers: both uniform in (-1, 1) / sqrt(fan_in)."""
    kaiming_uniform_(weight, a=math.sqrt(5.0))
    if bias is not None:
        bound = 1.0 / math.sqrt(_fans("layer_default_", weight)[0])
        uniform_(bias, -bound, bound)


def _fans(name: str, tensor: Tensor) -> tuple[int, int]:
    """fan_in and fan_out of a weight (out, in, ...)."""
    _float_tensor(name, tensor)
    if tensor.ndim < 2:
        raise ValueError(f"{name}: tensor must have at least 2 dimensions, got shape {tensor.shape}")
    field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * field, tensor.shape[0] * field


def _xavier_std(name: str, tensor: Tensor, gain: float) -> float:
    _check.number(name, "gain", gain)
    fan_in, fan_out = _fans(name, tensor)
    return gain * math.sqrt(2.0 / max(fan_in + fan_out, 1))


def _kaiming_std(name: str, tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    _check.number(name, "a", a)
    _check.choice(name, "mode", mode, ("fan_in", "fan_out"))
    fan_in, fan_out = _fans(name, tensor)
    return calculate_gain(nonlinearity, a) / math.sqrt(max(fan_in if mode == "fan_in" else fan_out, 1))


def _tensor(name: str, tensor) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name}: tensor must be a Tensor, got {type(tensor).__name__}")


def _float_tensor(name: str, tensor) -> None:
    _tensor(name, tensor)
    if not tensor.is_floating_point():
        raise TypeError(f"{name}: tensor must be float32, float64 or bfloat16, got {tensor.dtype}")
