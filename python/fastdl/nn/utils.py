"""Helpers on parameters, named as in `torch.nn.utils`."""

from __future__ import annotations

from collections.abc import Iterable

from fastdl import functional as F
from fastdl.nn._state import assign
from fastdl.optim.clip import clip_grad_norm_, clip_grad_value_
from fastdl.tensor import Tensor

__all__ = ["clip_grad_norm_", "clip_grad_value_", "parameters_to_vector", "vector_to_parameters"]


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All parameters one after another, each in C order, as one vector."""
    return F.cat([parameter.reshape(-1) for parameter in parameters])


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Copy the elements of a vector into the parameters, in place; the opposite of `parameters_to_vector`.

    Raises TypeError if vec is no Tensor, ValueError if it has another number of elements than the parameters.
    """
    parameters = list(parameters)
    if not isinstance(vec, Tensor):
        raise TypeError(f"vector_to_parameters: vec must be a Tensor, got {type(vec).__name__}")
    total = sum(parameter.numel() for parameter in parameters)
    if vec.shape != (total,):
        raise ValueError(f"vector_to_parameters: vec must have shape ({total},), got {vec.shape}")
    start = 0
    for parameter in parameters:
        assign(parameter, vec.data[start : start + parameter.numel()].reshape(parameter.shape))
        start += parameter.numel()
