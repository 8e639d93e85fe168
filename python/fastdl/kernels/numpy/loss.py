"""Element-wise losses: squared error, absolute error, binary cross-entropy with logits.

Every loss reduces as torch does: "mean" and "sum" give a 0-d array, "none" the array of all terms; the mean
of no elements is NaN. Both operands have the same shape; whoever wants broadcasting does it before.
"""

import numpy as np

from . import _check
from .activation import _sigmoid

__all__ = [
    "mse_forward",
    "mse_backward",
    "l1_forward",
    "l1_backward",
    "bce_with_logits_forward",
    "bce_with_logits_backward",
]

REDUCTIONS = ("mean", "sum", "none")


def mse_forward(x, target, reduction):
    """Terms (x - target)**2, reduced.

    Args: x, target: float32 or float64, same shape and dtype; reduction: "mean", "sum" or "none".
    Returns: loss, 0-d or like x.
    Raises: TypeError for an array kind or dtype, ValueError for a shape or another word in reduction.
    """
    _check_arguments("mse_forward", x, target, reduction)
    with np.errstate(all="ignore"):
        return _reduce((x - target) ** 2, x, reduction)


def mse_backward(dloss, x, target, reduction):
    """dx = 2 * (x - target) * dloss, over the number of elements for "mean".

    Args: dloss: like the loss, () or x's shape; the others as in mse_forward.
    Returns: dx like x; the gradient of target is -dx.
    Raises: as mse_forward.
    """
    _check_arguments("mse_backward", x, target, reduction, dloss)
    with np.errstate(all="ignore"):
        return np.asarray((x - target) * (2 * _scale(dloss, x, reduction)), x.dtype)


def l1_forward(x, target, reduction):
    """Terms |x - target|, reduced. Arguments and errors as in mse_forward."""
    _check_arguments("l1_forward", x, target, reduction)
    with np.errstate(all="ignore"):
        return _reduce(np.abs(x - target), x, reduction)


def l1_backward(dloss, x, target, reduction):
    """dx = sign(x - target) * dloss, over the number of elements for "mean". Arguments as in mse_backward."""
    _check_arguments("l1_backward", x, target, reduction, dloss)
    with np.errstate(all="ignore"):
        return np.asarray(np.sign(x - target) * _scale(dloss, x, reduction), x.dtype)


def bce_with_logits_forward(x, target, weight, pos_weight, reduction):
    """Terms -weight * (pos_weight * target * log(sigmoid(x)) + (1 - target) * log(1 - sigmoid(x))), reduced.

    Computed as weight * ((1 - t) * x + (1 + (pos_weight - 1) * t) * (max(-x, 0) + log(1 + exp(-|x|)))).

    Args:
        x, target: float32 or float64, same shape and dtype.
        weight: like x, or None.
        pos_weight: shape of x, or (D,) with D the last size of x, or (1,); same dtype; or None.
        reduction: "mean", "sum" or "none".

    Returns: loss, 0-d or like x.
    Raises: TypeError for an array kind or dtype, ValueError for a shape or another word in reduction.
    """
    kernel = "bce_with_logits_forward"
    _check_arguments(kernel, x, target, reduction)
    _check_weights(kernel, x, weight, pos_weight)
    with np.errstate(all="ignore"):
        softplus = np.maximum(-x, 0) + np.log1p(np.exp(-np.abs(x)))
        terms = (1 - target) * x + _positive(target, pos_weight) * softplus
        return _reduce(terms if weight is None else terms * weight, x, reduction)


def bce_with_logits_backward(dloss, x, target, weight, pos_weight, reduction):
    """dx = weight * ((1 - t) - (1 + (pos_weight - 1) * t) * sigmoid(-x)) * dloss, over the count for "mean".

    Args: dloss: like the loss, () or x's shape; the others as in bce_with_logits_forward.
    Returns: dx like x.
    Raises: as bce_with_logits_forward.
    """
    kernel = "bce_with_logits_backward"
    _check_arguments(kernel, x, target, reduction, dloss)
    _check_weights(kernel, x, weight, pos_weight)
    with np.errstate(all="ignore"):
        dx = (1 - target) - _positive(target, pos_weight) * _sigmoid(-x)
        if weight is not None:
            dx = dx * weight
        return np.asarray(dx * _scale(dloss, x, reduction), x.dtype)


def _positive(target, pos_weight):
    """The factor of softplus(-x): 1 for negatives, pos_weight for positives."""
    if pos_weight is None:
        return np.ones_like(target)
    return 1 + (np.broadcast_to(pos_weight, target.shape or (1,)).reshape(target.shape) - 1) * target


def _reduce(terms, x, reduction):
    if reduction == "none":
        return np.asarray(terms, x.dtype)
    total = terms.sum()
    return np.asarray(total / x.dtype.type(x.size) if reduction == "mean" else total, x.dtype)


def _scale(dloss, x, reduction):
    """What every term's gradient is multiplied with."""
    return np.asarray(dloss / x.dtype.type(x.size) if reduction == "mean" else dloss, x.dtype)


def _check_arguments(kernel, x, target, reduction, dloss=None):
    _check.array(kernel, "x", x)
    _check.array(kernel, "target", target)
    _check.like(kernel, "target", target, "x", x)
    _check.shape(kernel, "target", target, x.shape)
    _check.choice(kernel, "reduction", reduction, REDUCTIONS)
    if "backward" in kernel:
        _check.array(kernel, "dloss", dloss)
        _check.like(kernel, "dloss", dloss, "x", x)
        _check.shape(kernel, "dloss", dloss, x.shape if reduction == "none" else ())


def _check_weights(kernel, x, weight, pos_weight):
    _check.like(kernel, "weight", weight, "x", x)
    _check.shape(kernel, "weight", weight, x.shape)
    _check.like(kernel, "pos_weight", pos_weight, "x", x)
    if pos_weight is not None and pos_weight.shape not in (x.shape, x.shape[-1:], (1,)):
        raise ValueError(
            f"{kernel}: pos_weight must have shape {x.shape}, {x.shape[-1:]} or (1,), got {pos_weight.shape}"
        )
