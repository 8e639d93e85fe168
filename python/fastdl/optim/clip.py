"""Clipping gradients; the public names are `fastdl.nn.utils.clip_grad_norm_` and `clip_grad_value_`."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from .. import kernels
from ..tensor import Tensor, wrap
from . import _check as check


def _gradients(owner: str, parameters) -> list[Tensor]:
    if isinstance(parameters, Tensor):
        parameters = [parameters]
    if not isinstance(parameters, Iterable):
        raise TypeError(f"{owner}: parameters must be Tensors, got {type(parameters).__name__}")
    found = []
    for p in parameters:
        if not isinstance(p, Tensor):
            raise TypeError(f"{owner}: parameters must be Tensors, got {type(p).__name__}")
        if p.grad is not None:
            found.append(p.grad)
    return found


def _norm(grads: list[Tensor], norm_type: float) -> float:
    """The norm of all gradients as one vector, in double precision."""
    if norm_type == math.inf:
        largest = [_largest(g.data) for g in grads if g.data.size]
        return math.nan if any(map(math.isnan, largest)) else max(largest, default=0.0)
    if norm_type == 2:
        return math.sqrt(sum(kernels.of(g.data).sum_squares(g.data) for g in grads))
    total = 0.0
    for g in grads:
        k = kernels.of(g.data)
        powers = k.power(k.absolute(g.data), np.full((), norm_type, g.dtype))
        total += k.sum(powers, None, False).item()
    return total ** (1 / norm_type)


def _largest(x: np.ndarray) -> float:
    k = kernels.of(x)
    return k.max(k.absolute(x), None, False)[0].item()


def clip_grad_norm_(parameters, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False) -> Tensor:
    """Scale all gradients by min(1, max_norm / (norm + 1e-6)), in place, as `torch.nn.utils.clip_grad_norm_`.

    Args:
        parameters: a Tensor or an iterable of Tensors; those without a gradient are skipped.
        max_norm: the largest norm allowed, at least 0.
        norm_type: p of the p-norm, above 0; may be infinity.
        error_if_nonfinite: raise if the norm is NaN or infinite; otherwise such gradients become NaN or 0.

    Returns:
        The norm of all gradients together before clipping, a 0-d Tensor (float32 if there are none).

    Raises:
        TypeError: parameters holds something else than Tensors.
        ValueError: max_norm or norm_type out of range.
        RuntimeError: the norm is not finite and error_if_nonfinite is set.
    """
    owner = "clip_grad_norm_"
    grads = _gradients(owner, parameters)
    max_norm = check.number(owner, "max_norm", max_norm, 0)
    if norm_type != math.inf:
        norm_type = check.number(owner, "norm_type", norm_type, 0)
        if norm_type == 0:
            raise ValueError(f"{owner}: norm_type must be above 0, got 0")
    norm = _norm(grads, norm_type)
    if error_if_nonfinite and not math.isfinite(norm):
        raise RuntimeError(f"{owner}: the norm of order {norm_type:g} of the gradients is {norm:g}")
    factor = max_norm / (norm + 1e-6)
    if not factor >= 1:  # NaN scales too, so that it shows
        for g in grads:
            kernels.of(g.data).scale(g.data, factor)
            g._counter[0] += 1
    return wrap(np.asarray(norm, grads[0].dtype if grads else np.float32))


def clip_grad_value_(parameters, clip_value: float) -> None:
    """Clip every gradient element to [-clip_value, clip_value], in place, as PyTorch's function does.

    Raises TypeError if parameters holds something else than Tensors, ValueError for a clip_value below 0 or
    NaN.
    """
    grads = _gradients("clip_grad_value_", parameters)
    clip_value = check.number("clip_grad_value_", "clip_value", clip_value, 0)
    for g in grads:
        g.data[...] = kernels.of(g.data).clip(g.data, -clip_value, clip_value)
        g._counter[0] += 1
