"""Clipping gradients; the public names are `fastdl.nn.utils.clip_grad_norm_` and `clip_grad_value_`."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from .. import kernels, recording
from ..functional.elementwise import constant
from ..tensor import Tensor, changed, wrap
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


def _norm(grads: list[Tensor], norm_type: float):
    """The norm of all gradients as one vector, in double precision, a 0-d array."""
    k, like = kernels.of(*[g.data for g in grads]), grads[0].data if grads else np.zeros(())
    if norm_type == math.inf:
        return _fold(k.maximum, [k.max(k.absolute(g.data), None, False)[0] for g in grads if g.data.size], like)
    if norm_type == 2:
        return k.sqrt(_fold(k.add, [k.sum_squares(g.data) for g in grads], like))
    powers = [k.power(k.absolute(g.data), constant(norm_type, g.dtype, g.data)) for g in grads]
    total = _fold(k.add, [k.sum(p, None, False) for p in powers], like)
    return k.power(total, constant(1 / norm_type, np.float64, like))


def _fold(function, values: list, like):
    """function over all values, in double; 0 without one."""
    total = constant(0, np.float64, like)
    for value in values:
        total = function(total, value if value.dtype == total.dtype else kernels.of(value).cast(value, "float64"))
    return total


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
    if error_if_nonfinite:
        recording.leaves("clip_grad_norm_ with error_if_nonfinite", norm)
        if not math.isfinite(norm):
            raise RuntimeError(f"{owner}: the norm of order {norm_type:g} of the gradients is {float(norm):g}")
    k = kernels.of(norm)
    most, tiny, one = (constant(value, np.float64, norm) for value in (max_norm, 1e-6, 1.0))
    factor = k.minimum(k.divide(most, k.add(norm, tiny)), one)
    # NaN scales too, so that it shows; on a GPU one more pass costs less than to wait for the factor.
    if recording.session is not None or kernels.on_gpu(factor) or not factor >= 1:
        for g in grads:
            kernels.of(g.data).scale(g.data, factor)
            changed(g)
    return wrap(k.cast(norm, str(grads[0].dtype) if grads else "float32"))


def clip_grad_value_(parameters, clip_value: float) -> None:
    """Clip every gradient element to [-clip_value, clip_value], in place, as PyTorch's function does.

    Raises TypeError if parameters holds something else than Tensors, ValueError for a clip_value below 0 or
    NaN.
    """
    grads = _gradients("clip_grad_value_", parameters)
    clip_value = check.number("clip_grad_value_", "clip_value", clip_value, 0)
    for g in grads:
        k = kernels.of(g.data)
        k.assign(g.data, k.clip(g.data, -clip_value, clip_value))
        changed(g)
