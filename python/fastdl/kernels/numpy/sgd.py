"""Stochastic gradient descent with momentum, in place on flat arrays, as `torch.optim.SGD` computes it."""

from __future__ import annotations

import numpy as np

from . import _check as check

__all__ = ["sgd_step"]


def sgd_step(param, grad, buf, lr, momentum, dampening, weight_decay, nesterov, step, rounded=None):
    """One step, in place:

        g = grad + weight_decay * param
        buf = g if step == 1 else momentum * buf + (1 - dampening) * g       only if momentum is not 0
        g = g + momentum * buf if nesterov else buf                      only if momentum is not 0
        param = param - lr * g

    param, grad, buf: contiguous float arrays (n) of one dtype that share no memory; buf may be None when momentum
    is 0 and is left alone then. step counts from 1; it and lr may be 0-d arrays. lr finite; momentum, weight_decay
    at least 0; dampening finite.  rounded: None, or a contiguous array (n) of bfloat16 that becomes param. Returns
    None. Errors: TypeError for the kind or dtype of an array, ValueError for a shape, layout or hyper-parameter.
    Source: Sutskever et al. 2013, "On the importance of initialization and momentum in deep learning"; PyTorch's
    form.
    """
    check.flat("sgd_step", "param", param, "param", param)
    check.flat("sgd_step", "grad", grad, "param", param)
    if buf is not None or momentum:
        check.flat("sgd_step", "buf", buf, "param", param)
    check.rounded("sgd_step", rounded, param)
    check.apart("sgd_step", param=param, grad=grad, buf=buf)
    check.number("sgd_step", "lr", lr)
    check.number("sgd_step", "momentum", momentum, 0)
    check.number("sgd_step", "dampening", dampening)
    check.number("sgd_step", "weight_decay", weight_decay, 0)
    with np.errstate(all="ignore"):
        g = grad + weight_decay * param if weight_decay else grad
        if momentum:
            buf[...] = g if step == 1 else momentum * buf + (1 - dampening) * g
            g = g + momentum * buf if nesterov else buf
        param -= lr * g
        if rounded is not None:
            rounded[...] = param
