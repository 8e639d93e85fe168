"""Batch normalisation."""

from __future__ import annotations

from ..autograd import Operation, apply
from ..kernels import of, on_gpu
from ..tensor import Tensor, changed, check_tensor
from . import activation
from ._arguments import flag, number, without_grad
from .precision import mixed


class BatchNorm(Operation):
    """Normalise with the batch's own statistics; running statistics are updated in place."""

    __slots__ = ("running", "count", "momentum", "eps")
    fresh = places = True

    def __init__(self, running_mean, running_var, count, momentum, eps):
        self.running, self.count, self.momentum, self.eps = (running_mean, running_var), count, momentum, eps

    def forward(self, input, weight, bias):
        y, mean, invstd = self._normalised(input, weight, bias)
        self.saved = input, weight, mean, invstd
        return y

    def _normalised(self, input, weight, bias, relu=False, residual=None):
        options = self.momentum, self.eps, relu, residual, self.count
        return of(input).batch_norm_forward(input, weight, bias, *self.running, *options)

    def backward(self, dy, out):
        return of(dy).batch_norm_backward(dy, *self.saved, tuple(self.need), out=out)


class BatchNormRelu(BatchNorm):
    """The same with ReLU in its passes."""

    __slots__ = ()

    def forward(self, input, weight, bias):
        y, mean, invstd = self._normalised(input, weight, bias, True)
        self.saved = input, weight, mean, invstd, bias  # the sign is computed again, which needs no y
        return y

    def backward(self, dy, out):
        *saved, bias = self.saved
        return of(dy).batch_norm_backward(dy, *saved, tuple(self.need), bias, True, out)


class BatchNormResidual(BatchNorm):
    """The same with a residual and ReLU in its passes."""

    __slots__ = ()
    adds = True

    def forward(self, input, weight, bias, residual):
        y, mean, invstd = self._normalised(input, weight, bias, True, residual)
        self.saved = input, y, weight, mean, invstd
        return y

    def backward(self, dy, out, more=None):
        return of(dy).batch_norm_residual_backward(dy, *self.saved, tuple(self.need[:3]), more, out)


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
    *,
    relu: bool = False,
    residual=None,
    num_batches_tracked=None,
) -> Tensor:
    """y = (x - mean) / sqrt(var + eps) * weight + bias, per channel.

    In training, mean and the biased variance are the batch's, and the running statistics (if given) become (1 -
    momentum) * running + momentum * batch, with the unbiased variance. Otherwise they are the running ones.

    Args:
        input: (N, C), (N, C, L) or (N, C, H, W).
        running_mean, running_var: (C,), may be None in training.
        weight, bias: (C,) or None.
        relu: y = max(that + residual, 0), on the GPU in the same passes over memory.
        residual: a Tensor like input, or None; only with relu.
        num_batches_tracked: a 0-d Tensor of int64 that goes up by one in training, or None.

    Raises TypeError for array kinds and dtypes, ValueError for shapes and values, one value per channel in
    training, and running statistics that are missing or require grad.
    Source: Ioffe and Szegedy 2015, algorithm 1.
    """
    without_grad("batch_norm", running_mean=running_mean, running_var=running_var)
    without_grad("batch_norm", num_batches_tracked=num_batches_tracked)
    momentum, eps = number("batch_norm", "momentum", momentum), number("batch_norm", "eps", eps)
    if residual is not None and not flag("batch_norm", "relu", relu):
        raise ValueError("batch_norm: relu must be True where there is a residual, got False")
    if not flag("batch_norm", "training", training):
        for name, value in (("running_mean", running_mean), ("running_var", running_var)):
            if value is None:
                raise ValueError(f"batch_norm: {name} must be given when training is False, got None")
        y = apply(mixed(BatchNormInference(eps), input, weight), input, weight, bias, running_mean, running_var)
        return _activated(y, relu, residual)
    buffers = running_mean, running_var, num_batches_tracked
    running = [None if r is None else r.data for r in buffers]
    # On the host a captured step fuses them by itself. Where autocast is on, a residual may be of another dtype.
    check_tensor("batch_norm", "input", input)
    alike = residual is None or check_tensor("batch_norm", "residual", residual).data.dtype == input.data.dtype
    fused = relu and alike and on_gpu(input.data)
    kind = BatchNorm if not fused else BatchNormRelu if residual is None else BatchNormResidual
    op = mixed(kind(*running, momentum, eps), input, weight)
    y = apply(op, input, weight, bias, *([residual] if kind is BatchNormResidual else []))
    for r in buffers:
        if r is not None:
            changed(r)
    return y if fused else _activated(y, relu, residual)


def _activated(y: Tensor, relu: bool, residual) -> Tensor:
    return y if not relu else activation.relu(y if residual is None else y + residual)
