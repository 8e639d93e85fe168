"""Adam and AdamW, in place on flat arrays, as `torch.optim.Adam` and `torch.optim.AdamW` compute them."""

from __future__ import annotations

import math

import numpy as np

from . import _check as check

__all__ = ["adam_step"]


def adam_step(
    param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq, lr, beta1, beta2, eps, weight_decay, step, decoupled, rounded=None
):
    """One step, in place; m, v and w are exp_avg, exp_avg_sq and max_exp_avg_sq:

        param = param * (1 - lr * weight_decay)          if decoupled (AdamW)
        g = grad if decoupled else grad + weight_decay * param
        m = m + (1 - beta1) * (g - m)
        v = beta2 * v + (1 - beta2) * g**2
        w = max(w, v)        only if given (amsgrad); used for v below
        param = param - lr / (1 - beta1**step) * m / (sqrt(v) / sqrt(1 - beta2**step) + eps)

    param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq: contiguous float arrays (n) of one dtype that share no memory;
    max_exp_avg_sq may be None. step counts from 1; it and lr may be 0-d arrays. lr finite; beta1, beta2 in [0, 1);
    eps, weight_decay at least 0.  rounded: None, or a contiguous array (n) of bfloat16 that becomes param. The
    factors are computed in double and rounded once to the arrays' dtype. Returns None. Errors: TypeError for the
    kind or dtype of an array, ValueError for a shape, layout or hyper-parameter. Source: Kingma and Ba 2015,
    arXiv:1412.6980; AMSGrad: Reddi et al. 2018; AdamW: Loshchilov and Hutter 2019.
    """
    name = "adam_step"
    check.flat(name, "param", param, "param", param)
    check.flat(name, "grad", grad, "param", param)
    check.flat(name, "exp_avg", exp_avg, "param", param)
    check.flat(name, "exp_avg_sq", exp_avg_sq, "param", param)
    if max_exp_avg_sq is not None:
        check.flat(name, "max_exp_avg_sq", max_exp_avg_sq, "param", param)
    check.rounded(name, rounded, param)
    check.apart(name, param=param, grad=grad, exp_avg=exp_avg, exp_avg_sq=exp_avg_sq, max_exp_avg_sq=max_exp_avg_sq)
    check.number(name, "lr", lr)
    check.number(name, "beta1", beta1, 0, 1, open_high=True)
    check.number(name, "beta2", beta2, 0, 1, open_high=True)
    check.number(name, "eps", eps, 0)
    check.number(name, "weight_decay", weight_decay, 0)
    check.number(name, "step", step, 1)
    step_size = lr / (1 - beta1**step)
    correction = math.sqrt(1 - beta2**step)
    with np.errstate(all="ignore"):
        g = grad
        if weight_decay and decoupled:
            param *= 1 - lr * weight_decay
        elif weight_decay:
            g = grad + weight_decay * param
        exp_avg += (1 - beta1) * (g - exp_avg)
        exp_avg_sq[...] = beta2 * exp_avg_sq + (1 - beta2) * g * g
        v = exp_avg_sq
        if max_exp_avg_sq is not None:
            np.maximum(max_exp_avg_sq, exp_avg_sq, out=max_exp_avg_sq)
            v = max_exp_avg_sq
        param -= step_size * (exp_avg / (np.sqrt(v) / correction + eps))
        if rounded is not None:
            rounded[...] = param
