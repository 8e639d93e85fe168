"""Dense layers: Linear, and Identity."""

from __future__ import annotations

from fastdl import functional as F
from fastdl.nn import _check, init
from fastdl.nn.module import Module
from fastdl.nn.parameter import Parameter


class Identity(Module):
    """Return the input; takes and ignores any constructor arguments."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__()

    def forward(self, x):
        return x


class Linear(Module):
    """Dense layer, x (..., in_features) -> (..., out_features); formula in `fastdl.functional.linear`.

    linear(x, relu=True) is relu(linear(x)), on the GPU in fewer passes over memory; `Sequential` calls it so where a
    ReLU follows.

    Parameters:
        weight (out_features, in_features), uniform in (-k, k) with k = 1 / sqrt(in_features).
        bias (out_features,), the same; None with bias=False.

    >>> Linear(3, 2)(fd.ones(4, 3)).shape
    (4, 2)
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, device=None, dtype=None) -> None:
        super().__init__()
        self.in_features = _check.integer("Linear", "in_features", in_features)
        self.out_features = _check.integer("Linear", "out_features", out_features)
        self.weight = Parameter(init.empty((self.out_features, self.in_features), device, dtype))
        _check.flag("Linear", "bias", bias)
        self.register_parameter("bias", Parameter(init.empty((self.out_features,), device, dtype)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial values."""
        init.layer_default_(self.weight, self.bias)

    def forward(self, x, relu: bool = False):
        return F.linear(x, self.weight, self.bias, relu=relu)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
