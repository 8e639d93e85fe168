"""RMSProp, in place on flat arrays, as `torch.optim.RMSprop` computes it."""

from __future__ import annotations

import numpy as np

from . import _check as check

__all__ = ["rmsprop_step"]


def rmsprop_step(param, grad, square_avg, grad_avg, buf, lr, alpha, eps, weight_decay, momentum, rounded=None):
    """One step, in place:

        g = grad + weight_decay * param
        square_avg = alpha * square_avg + (1 - alpha) * g**2
        grad_avg = grad_avg + (1 - alpha) * (g - grad_avg)           only if grad_avg is given ("centered")
        d = sqrt(max(square_avg - grad_avg**2, 0)) + eps             or sqrt(square_avg) + eps
        buf = momentum * buf + g / d;  param = param - lr * buf      or param - lr * g / d if momentum is 0

    param, grad, square_avg, grad_avg, buf: contiguous float arrays (n) of one dtype that share no memory; grad_avg
    may be None, and buf too when momentum is 0 (it is left alone then). The maximum with 0 is ours: rounding can
    make the centered variance negative, which gives NaN in PyTorch. lr finite; alpha in [0, 1]; eps, weight_decay,
    momentum at least 0.  rounded: None, or a contiguous array (n) of bfloat16 that becomes param. Returns None.
    Errors: TypeError for the kind or dtype of an array, ValueError for a shape, layout or hyper-parameter. Source:
    Tieleman and Hinton 2012, lecture 6e; centered: Graves 2013, arXiv:1308.0850.
    """
    name = "rmsprop_step"
    check.flat(name, "param", param, "param", param)
    check.flat(name, "grad", grad, "param", param)
    check.flat(name, "square_avg", square_avg, "param", param)
    if grad_avg is not None:
        check.flat(name, "grad_avg", grad_avg, "param", param)
    if buf is not None or momentum:
        check.flat(name, "buf", buf, "param", param)
    check.rounded(name, rounded, param)
    check.apart(name, param=param, grad=grad, square_avg=square_avg, grad_avg=grad_avg, buf=buf)
    check.number(name, "lr", lr)
    check.number(name, "alpha", alpha, 0, 1)
    check.number(name, "eps", eps, 0)
    check.number(name, "weight_decay", weight_decay, 0)
    check.number(name, "momentum", momentum, 0)
    with np.errstate(all="ignore"):
        g = grad + weight_decay * param if weight_decay else grad
        square_avg[...] = alpha * square_avg + (1 - alpha) * g * g
        variance = square_avg
        if grad_avg is not None:
            grad_avg += (1 - alpha) * (g - grad_avg)
            variance = np.maximum(square_avg - grad_avg * grad_avg, 0)
        d = np.sqrt(variance) + param.dtype.type(eps)
        if momentum:
            buf[...] = momentum * buf + g / d
            param -= lr * buf
        else:
            param -= lr * (g / d)
        if rounded is not None:
            rounded[...] = param
