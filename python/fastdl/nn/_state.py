"""Loading a state dict into a module, and moving a module between dtypes and devices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from fastdl import kernels
from fastdl.tensor import FLOATS, Tensor, changed, dtype_called


class IncompatibleKeys(NamedTuple):
    """What `load_state_dict` did not match: names without a value, and values without a name."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def load(module, state_dict: Mapping, strict: bool) -> IncompatibleKeys:
    """Copy state_dict into the module; see `Module.load_state_dict`."""
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"load_state_dict: state_dict must be a dict, got {type(state_dict).__name__}")
    own = module.state_dict(keep_vars=True)
    missing = [name for name in own if name not in state_dict]
    unexpected = [name for name in state_dict if name not in own]
    errors = []
    if strict and missing:
        errors.append("Missing key(s) in state_dict: " + ", ".join(f'"{name}"' for name in missing) + ". ")
    if strict and unexpected:
        errors.append("Unexpected key(s) in state_dict: " + ", ".join(f'"{name}"' for name in unexpected) + ". ")
    values = {name: as_array(state_dict[name]) for name in own if name in state_dict}
    for name, value in values.items():
        errors += misfits(name, value, own[name].data)
    if errors:
        raise RuntimeError(f"Error(s) in loading state_dict for {type(module).__name__}:\n\t" + "\n\t".join(errors))
    for name, value in values.items():
        assign(own[name], value)
    return IncompatibleKeys(missing, unexpected)


def as_array(value):
    """The value as an array, sharing memory where it can; None if it is no array of numbers.

    Takes fastdl tensors, anything NumPy converts, and PyTorch tensors on any device, bfloat16 among them.
    """
    if isinstance(value, Tensor):
        return value.data
    if kernels.is_array(value):
        return value if value.dtype.kind in "fiub" or value.dtype in FLOATS else None
    if hasattr(value, "detach") and hasattr(value, "cpu"):  # a PyTorch tensor
        value = value.detach().cpu()
        value = value.float() if "bfloat16" in str(value.dtype) else value
        value = value.numpy()
    try:
        value = np.asarray(value)
    except ValueError:  # nested lists of unequal lengths
        return None
    return value if value.dtype.kind in "fiub" or value.dtype in FLOATS else None


def misfits(name: str, value: np.ndarray | None, own: np.ndarray) -> list[str]:
    """What keeps value from being copied into own, in words; empty if nothing does."""
    if value is None:
        return [f"{name} must be an array of numbers."]
    if value.shape != own.shape:
        return [
            f"size mismatch for {name}: copying a param with shape {value.shape} from checkpoint, "
            f"the shape in current model is {own.shape}."
        ]
    if not np.can_cast(value.dtype, own.dtype, "same_kind"):
        return [f"dtype mismatch for {name}: copying {value.dtype} into {own.dtype} would lose values."]
    return []


def parse_to(args: tuple, device, dtype) -> tuple:
    """The device and dtype (None: keep) that the arguments of `Module.to` name."""
    for arg in args:
        if isinstance(arg, str) and arg.split(":")[0] in ("numpy", "cpu", "cuda"):
            device = arg
        else:
            dtype = arg
    if dtype is not None:
        dtype = float_dtype("to", dtype)
    return device, dtype


def float_dtype(function: str, dtype) -> np.dtype:
    """The dtype that parameters may have, from what NumPy understands as one, or "bfloat16"."""
    dtype = dtype_called(function, dtype)
    if dtype not in FLOATS:
        raise TypeError(f"{function}: dtype must be float32, float64 or bfloat16, got {dtype}")
    return dtype


def assign(tensor: Tensor, values) -> None:
    """Overwrite the tensor's elements with a number or an array that lies anywhere; autograd is to notice."""
    own = tensor.data
    own[...] = kernels.beside(values if kernels.is_array(values) else np.asarray(values, own.dtype), own)
    changed(tensor)


def convert(module, device, dtype) -> None:
    """Move all parameters and buffers of the module, with their gradients; None keeps device or dtype."""
    tensors = list(module.parameters()) + list(module.buffers())
    for tensor in tensors:
        want = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
        moved = tensor.detach().to(device or tensor.device, want)
        if moved.data is not tensor.data:
            grad = tensor.grad
            tensor.grad = None
            tensor.data, tensor._counter, tensor._grad_slot = moved.data, [0], None
            tensor.grad = None if grad is None else grad.to(device or grad.device, want)
