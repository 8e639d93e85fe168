"""Activations as layers: each calls the function of its name in `fastdl.functional`, where the formulas are.

With inplace=True the result takes the place of the input tensor, as in PyTorch.
"""

from __future__ import annotations

from fastdl import functional as F
from fastdl.nn import _check
from fastdl.nn.module import Module


class ReLU(Module):
    """max(0, x), see `fastdl.functional.relu`."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = _check.flag("ReLU", "inplace", inplace)

    def forward(self, x):
        return F.relu(x, self.inplace)

    def extra_repr(self) -> str:
        return "inplace=True" if self.inplace else ""


class LeakyReLU(Module):
    """x where positive, else negative_slope * x; negative_slope 0.01, see `fastdl.functional.leaky_relu`."""

    def __init__(self, negative_slope: float = 1e-2, inplace: bool = False) -> None:
        super().__init__()
        self.negative_slope = _check.number("LeakyReLU", "negative_slope", negative_slope)
        self.inplace = _check.flag("LeakyReLU", "inplace", inplace)

    def forward(self, x):
        return F.leaky_relu(x, self.negative_slope, self.inplace)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}" + (", inplace=True" if self.inplace else "")


class Sigmoid(Module):
    """1 / (1 + exp(-x)), see `fastdl.functional.sigmoid`."""

    def forward(self, x):
        return F.sigmoid(x)


class Tanh(Module):
    """The hyperbolic tangent, see `fastdl.functional.tanh`."""

    def forward(self, x):
        return F.tanh(x)


class Softplus(Module):
    """log(1 + exp(beta * x)) / beta, linear above threshold (20); see `fastdl.functional.softplus`."""

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        self.beta = _check.number("Softplus", "beta", beta, positive=True)
        self.threshold = _check.number("Softplus", "threshold", threshold)

    def forward(self, x):
        return F.softplus(x, self.beta, self.threshold)

    def extra_repr(self) -> str:
        return f"beta={self.beta}, threshold={self.threshold}"


class ELU(Module):
    """x where positive, else alpha * (exp(x) - 1); alpha 1, see `fastdl.functional.elu`."""

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.alpha = _check.number("ELU", "alpha", alpha)
        self.inplace = _check.flag("ELU", "inplace", inplace)

    def forward(self, x):
        return F.elu(x, self.alpha, self.inplace)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}" + (", inplace=True" if self.inplace else "")


class GELU(Module):
    """x * Phi(x); approximate is "none" (the exact form) or "tanh", see `fastdl.functional.gelu`."""

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        self.approximate = _check.choice("GELU", "approximate", approximate, ("none", "tanh"))

    def forward(self, x):
        return F.gelu(x, approximate=self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class Softmax(Module):
    """exp(x) / sum(exp(x)) along dim, which must be given; see `fastdl.functional.softmax`."""

    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.dim = _check.integer("Softmax", "dim", dim, low=-64)

    def forward(self, x):
        return F.softmax(x, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class LogSoftmax(Module):
    """log(softmax(x)) along dim, which must be given; see `fastdl.functional.log_softmax`."""

    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.dim = _check.integer("LogSoftmax", "dim", dim, low=-64)

    def forward(self, x):
        return F.log_softmax(x, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"
