"""Cross-entropy of logits with class numbers: log-softmax and negative log-likelihood in one."""

import numpy as np

from . import _check

__all__ = ["cross_entropy_forward", "cross_entropy_backward"]

REDUCTIONS = ("mean", "sum", "none")


def cross_entropy_forward(logits, target, weight, ignore_index, label_smoothing, reduction, gradient=False):
    """Loss of row i with label t: sum_c q_c * (lse_i - logits[i, c]), lse_i = log(sum_c exp(logits[i, c])).

    q_c = w_c * ((1 - label_smoothing) * [c == t] + label_smoothing / C), w_c = weight[c] or 1. Rows whose
    label is ignore_index give 0. "mean" divides the sum by the sum of w_t over the rows that count (PyTorch
    too; NaN if there are none), "sum" adds the rows up, "none" leaves them.

    Args:
        logits: float32 or float64 (N, C), C at least 1.
        target: int32 or int64 (N,), each in [0, C) or ignore_index.
        weight: (C,) like logits, or None.
        ignore_index: int, may lie outside [0, C).
        label_smoothing: number in [0, 1].
        reduction: "mean", "sum" or "none".
        gradient: make dlogits for a dloss of ones as well, while the logits are at hand; default False.

    Returns: (loss, lse) or (loss, lse, dlogits): loss 0-d for "mean" and "sum", else (N,); lse (N,) is what backward
        needs; dlogits as cross_entropy_backward gives it.
    Raises: TypeError for an array kind or dtype, ValueError for a shape or value, IndexError for a label.
    """
    kernel = "cross_entropy_forward"
    _check_arguments(kernel, logits, target, weight, ignore_index, label_smoothing, reduction)
    with np.errstate(all="ignore"):
        top = logits.max(1, keepdims=True)
        log_sum = np.log(np.exp(logits - top).sum(1, keepdims=True))
        lse = (top + log_sum)[:, 0]
        costs = log_sum - (logits - top)  # lse - logits, without the rounding of a large lse
        counts, label, w = _rows(logits, target, weight, ignore_index)
        rows = (1 - label_smoothing) * w[label] * costs[np.arange(len(label)), label]
        if label_smoothing > 0:
            rows += label_smoothing / len(w) * (w * costs).sum(1)
        rows = np.where(counts, rows, 0)
        loss = rows if reduction == "none" else rows.sum()
        if reduction == "mean":
            loss = loss / np.where(counts, w[label], 0).sum()
    loss = np.asarray(loss, logits.dtype)
    if not gradient:
        return loss, lse
    return loss, lse, cross_entropy_backward(
        np.ones_like(loss), logits, target, lse, weight, ignore_index, label_smoothing, reduction
    )


def cross_entropy_backward(dloss, logits, target, lse, weight, ignore_index, label_smoothing, reduction):
    """dlogits[i, c] = dloss_i * (softmax(logits)[i, c] * sum_c q_c - q_c), q as in cross_entropy_forward.

    dloss_i is dloss[i] for "none", dloss for "sum", dloss over the divisor for "mean"; 0 for ignored rows.

    Args: dloss: like the loss, () or (N,); lse: (N,) from cross_entropy_forward; the others as there.
    Returns: dlogits like logits.
    Raises: as cross_entropy_forward.
    """
    kernel = "cross_entropy_backward"
    _check_arguments(kernel, logits, target, weight, ignore_index, label_smoothing, reduction)
    _check.array(kernel, "dloss", dloss)
    _check.like(kernel, "dloss", dloss, "logits", logits)
    _check.shape(kernel, "dloss", dloss, target.shape if reduction == "none" else ())
    _check.array(kernel, "lse", lse)
    _check.like(kernel, "lse", lse, "logits", logits)
    _check.shape(kernel, "lse", lse, target.shape)
    with np.errstate(all="ignore"):
        counts, label, w = _rows(logits, target, weight, ignore_index)
        scale = dloss / np.where(counts, w[label], 0).sum() if reduction == "mean" else dloss
        q = np.tile(w * (label_smoothing / len(w)), (len(label), 1))
        q[np.arange(len(label)), label] += (1 - label_smoothing) * w[label]
        dlogits = np.exp(logits - lse[:, None]) * q.sum(1, keepdims=True) - q
        dlogits *= np.broadcast_to(scale, label.shape)[:, None]
    return np.asarray(np.where(counts[:, None], dlogits, 0), logits.dtype)


def _rows(logits, target, weight, ignore_index):
    """Which rows count, a label in range for every row, the weight of each class."""
    counts = target != ignore_index
    classes = logits.shape[1]
    return counts, np.where(counts, target, 0), np.ones(classes, logits.dtype) if weight is None else weight


def _check_arguments(kernel, logits, target, weight, ignore_index, label_smoothing, reduction):
    _check.array(kernel, "logits", logits)
    _check.rank(kernel, "logits", logits, 2, "(N, C)")
    if logits.shape[1] == 0:
        raise ValueError(f"{kernel}: logits must have at least 1 class, got shape {logits.shape}")
    _check.integers(kernel, "target", target)
    _check.shape(kernel, "target", target, logits.shape[:1])
    _check.like(kernel, "weight", weight, "logits", logits)
    _check.shape(kernel, "weight", weight, logits.shape[1:])
    _check.integer(kernel, "ignore_index", ignore_index, -(2**62), 2**62)
    _check.number(kernel, "label_smoothing", label_smoothing, 0, 1)
    _check.choice(kernel, "reduction", reduction, REDUCTIONS)
    bad = target[((target < 0) | (target >= logits.shape[1])) & (target != ignore_index)]
    if bad.size:
        allowed = f"lie in [0, {logits.shape[1]}) or be ignore_index {ignore_index}"
        raise IndexError(f"{kernel}: target must {allowed}, got {bad[0]}")
