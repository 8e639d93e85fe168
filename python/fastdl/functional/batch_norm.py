"""Batch normalisation."""

from __future__ import annotations

from ..autograd import Operation, apply
from ..kernels import of
from ..tensor import Tensor, changed
from ._arguments import flag, number, without_grad
from .precision import mixed


class BatchNorm(Operation):
    """Normalise with the batch's own statistics; running statistics are updated in place."""

    __slots__ = ("running_mean", "running_var", "momentum", "eps")
    fresh = places = True

    def __init__(self, running_mean, running_var, momentum, eps):
        self.running_mean, self.running_var = running_mean, running_var
        self.momentum, self.eps = momentum, eps

    def forward(self, input, weight, bias):
        running = self.running_mean, self.running_var
        y, mean, invstd = of(input).batch_norm_forward(input, weight, bias, *running, self.momentum, self.eps)
        self.saved = input, weight, mean, invstd
        return y

    def backward(self, dy, out):
        return of(dy).batch_norm_backward(dy, *self.saved, tuple(self.need), out=out)


class BatchNormInference(Operation):
    """Normalise with given statistics."""

    __slots__ = ("eps",)
    fresh = places = True

    def __init__(self, eps):
        self.eps = eps

    def forward(self, input, weight, bias, running_mean, running_var):
        self.saved = input, weight, running_mean, running_var
        return of(input).batch_norm_inference(input, weight, bias, running_mean, running_var, self.eps)

    def backward(self, dy, out):
        grads = of(dy).batch_norm_inference_backward(dy, *self.saved, self.eps, tuple(self.need[:3]), out)
        return (*grads, None, None)


def batch_norm(
    input,
    running_mean,
    running_var,
    weight=None,
    bias=None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """y = (x - mean) / sqrt(var + eps) * weight + bias, per channel.

    In training, mean and the biased variance are the batch's, and the running statistics (if given) become (1 -
    momentum) * running + momentum * batch, with the unbiased variance. Otherwise they are the running ones.

    Args:
        input: (N, C), (N, C, L) or (N, C, H, W).
        running_mean, running_var: (C,), may be None in training.
        weight, bias: (C,) or None.

    Raises TypeError for array kinds and dtypes, ValueError for shapes and values, one value per channel in
    training, and running statistics that are missing or require grad.
    Source: Ioffe and Szegedy 2015, algorithm 1.
    """
    without_grad("batch_norm", running_mean=running_mean, running_var=running_var)
    momentum, eps = number("batch_norm", "momentum", momentum), number("batch_norm", "eps", eps)
    if not flag("batch_norm", "training", training):
        for name, value in (("running_mean", running_mean), ("running_var", running_var)):
            if value is None:
                raise ValueError(f"batch_norm: {name} must be given when training is False, got None")
        return apply(mixed(BatchNormInference(eps), input, weight), input, weight, bias, running_mean, running_var)
    running = [None if r is None else r.data for r in (running_mean, running_var)]
    y = apply(mixed(BatchNorm(*running, momentum, eps), input, weight), input, weight, bias)
    for r in (running_mean, running_var):
        if r is not None:
            changed(r)
    return y
