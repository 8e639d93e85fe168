"""Shapes and memory: reshape, transpose, views, joining and stacking. Views and copies only."""

from __future__ import annotations

import math

import numpy as np

from .. import recording
from ..autograd import Operation, apply
from ..kernels import of, on_gpu, place
from ..tensor import FLOATS, Tensor, check_dim, check_tensor, dtype_called, wrap


def sizes_of(function: str, sizes: tuple, name: str = "shape") -> tuple:
    """Sizes given as f(2, 3) or f((2, 3)), as a tuple of ints."""
    if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)):
        sizes = sizes[0]
    for n in sizes:
        if not isinstance(n, (int, np.integer)) or isinstance(n, bool):
            raise TypeError(f"{function}: {name} must be ints, got {type(n).__name__}")
    return tuple([int(n) for n in sizes])


class View(Operation):
    """The same elements in the same order under another shape; the input's memory must allow it (C order)."""

    __slots__ = ("shape", "before")
    view = True

    def __init__(self, shape):
        self.shape = shape

    def forward(self, input):
        self.before = input.shape
        return input.reshape(self.shape)

    def backward(self, dy):
        return (of(dy).contiguous(dy).reshape(self.before),)


class Contiguous(Operation):
    """A copy with the memory in C order."""

    __slots__ = ()

    def forward(self, input):
        return of(input).contiguous(input)

    def backward(self, dy):
        return (dy,)


class Squeeze(Operation):
    """A view with axes of size 1 added or removed, whatever the memory order."""

    __slots__ = ("axes", "remove")
    view = True

    def __init__(self, axes, remove):
        self.axes, self.remove = axes, remove

    def forward(self, input):
        return np.squeeze(input, self.axes) if self.remove else np.expand_dims(input, self.axes)

    def backward(self, dy):
        return (np.expand_dims(dy, self.axes) if self.remove else np.squeeze(dy, self.axes),)


class Permute(Operation):
    """A view with the axes in another order."""

    __slots__ = ("axes",)
    view = True

    def __init__(self, axes):
        self.axes = axes

    def forward(self, input):
        return input.transpose(self.axes)

    def backward(self, dy):
        back = [0] * len(self.axes)
        for i, axis in enumerate(self.axes):
            back[axis] = i
        return (dy.transpose(back),)


class Expand(Operation):
    """A view that repeats the elements along axes of size 1 and new leading axes."""

    __slots__ = ("shape", "before")
    view = True

    def __init__(self, shape):
        self.shape = shape

    def forward(self, input):
        self.before = input.shape
        return np.broadcast_to(input, self.shape)

    def backward(self, dy):
        return (of(dy).sum_to(dy, self.before) if dy.shape != self.before else dy,)


class Cat(Operation):
    """Tensors joined along an axis; the gradient is cut again into views."""

    __slots__ = ("axis", "sizes")

    def __init__(self, axis):
        self.axis = axis

    def forward(self, *tensors):
        self.sizes = [x.shape[self.axis] for x in tensors]
        return of(*tensors).concatenate(tensors, self.axis)

    def backward(self, dy):
        lead, start, grads = (slice(None),) * self.axis, 0, []
        for size, need in zip(self.sizes, self.need):
            grads.append(dy[(*lead, slice(start, start + size))] if need else None)
            start += size
        return grads


class Clone(Operation):
    """A copy that keeps the memory order."""

    __slots__ = ()

    def forward(self, input):
        return of(input).clone(input)

    def backward(self, dy):
        return (dy,)


class Cast(Operation):
    """Another dtype; the gradient is converted back."""

    __slots__ = ("dtype", "before")
    fresh = True

    def __init__(self, dtype):
        self.dtype = dtype

    def forward(self, input):
        self.before = input.dtype
        return of(input).cast(input, str(self.dtype))

    def backward(self, dy):
        return (of(dy).cast(dy, str(self.before)),)


class Move(Operation):
    """A copy in the other memory, the GPU's or the host's; the gradient goes back."""

    __slots__ = ("to_gpu",)
    fresh = True

    def __init__(self, to_gpu):
        self.to_gpu = to_gpu

    def forward(self, input):
        return place(input, "cuda" if self.to_gpu else "cpu")

    def backward(self, dy):
        return (place(dy, "cpu" if self.to_gpu else "cuda"),)


def reshape(input, *shape) -> Tensor:
    """The elements in C order under another shape; one size may be -1 and follows from the others.

    A view if the memory is in C order, else a copy (activations lie channels-last in memory, so that
    flattening them copies). Raises ValueError if the number of elements differs.
    """
    check_tensor("reshape", "input", input)
    shape = sizes_of("reshape", shape)
    x = input.data
    if -1 in shape:
        known = -math.prod(shape)
        if shape.count(-1) > 1 or known <= 0 or x.size % known:
            raise ValueError(f"reshape: shape must hold {x.size} elements, got {shape} for {x.shape}")
        shape = tuple([x.size // known if n == -1 else n for n in shape])
    if math.prod(shape) != x.size or (shape and min(shape) < 0):
        raise ValueError(f"reshape: shape must hold {x.size} elements, got {shape} for {x.shape}")
    return apply(View(shape), contiguous(input))


def contiguous(input) -> Tensor:
    """The tensor itself if its memory is in C order, else a copy that is."""
    check_tensor("contiguous", "input", input)
    return input if input.data.flags.c_contiguous else apply(Contiguous(), input)


def flatten(input, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Dims start_dim to end_dim joined into one, in C (NCHW) order whatever the memory order."""
    check_tensor("flatten", "input", input)
    shape = input.data.shape
    first = check_dim("flatten", start_dim, len(shape), "start_dim")
    last = check_dim("flatten", end_dim, len(shape), "end_dim")
    if first > last:
        raise ValueError(f"flatten: start_dim must not come after end_dim, got {start_dim} and {end_dim}")
    if first == last and shape:
        return input
    return apply(View((*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :])), contiguous(input))


def permute(input, *dims) -> Tensor:
    """A view with the dims in the given order; each is named once."""
    check_tensor("permute", "input", input)
    dims = sizes_of("permute", dims, "dims")
    axes = tuple([check_dim("permute", d, input.data.ndim, "dims") for d in dims])
    if sorted(axes) != list(range(input.data.ndim)):
        raise ValueError(f"permute: dims must name each of {input.data.ndim} dims once, got {dims}")
    return apply(Permute(axes), input)


def transpose(input, dim0: int, dim1: int) -> Tensor:
    """A view with dims dim0 and dim1 swapped."""
    check_tensor("transpose", "input", input)
    axes = list(range(input.data.ndim))
    a = check_dim("transpose", dim0, len(axes), "dim0")
    b = check_dim("transpose", dim1, len(axes), "dim1")
    if axes:
        axes[a], axes[b] = axes[b], axes[a]
    return apply(Permute(tuple(axes)), input)


def t(input) -> Tensor:
    """A view of a tensor of at most two dims with them swapped."""
    check_tensor("t", "input", input)
    if input.data.ndim > 2:
        raise ValueError(f"t: input must have at most 2 dimensions, got shape {input.data.shape}")
    return apply(Permute(tuple(range(input.data.ndim))[::-1]), input)


def unsqueeze(input, dim: int) -> Tensor:
    """A view with a dim of size 1 inserted before `dim`."""
    check_tensor("unsqueeze", "input", input)
    return apply(Squeeze((check_dim("unsqueeze", dim, input.data.ndim + 1),), False), input)


def squeeze(input, dim=None) -> Tensor:
    """A view without the dims of size 1: all of them, or those that dim (an int or a tuple) names."""
    check_tensor("squeeze", "input", input)
    shape = input.data.shape
    if dim is None:
        dims = range(len(shape))
    else:
        dims = {check_dim("squeeze", d, len(shape)) for d in (dim if isinstance(dim, (tuple, list)) else (dim,))}
    return apply(Squeeze(tuple([d for d in dims if shape and shape[d] == 1]), True), input)


def expand(input, *sizes) -> Tensor:
    """A view of the given shape with dims of size 1 repeated; -1 keeps a size. Raises ValueError."""
    check_tensor("expand", "input", input)
    sizes, shape = sizes_of("expand", sizes, "sizes"), input.data.shape
    lead = len(sizes) - len(shape)
    want = tuple([shape[i - lead] if n == -1 and i >= lead else n for i, n in enumerate(sizes)])
    if lead < 0 or any(n < 0 for n in want) or any(n not in (1, w) for n, w in zip(shape, want[max(lead, 0) :])):
        raise ValueError(f"expand: sizes must be {shape} with dims of size 1 enlarged, got {sizes}")
    return apply(Expand(want), input)


def broadcast_to(input, shape) -> Tensor:
    """`expand` with the sizes as a tuple."""
    return expand(input, tuple(shape))


def cat(tensors, dim: int = 0) -> Tensor:
    """The tensors joined along dim; they have one dtype and, but for dim, one shape.

    Raises TypeError for anything but a tuple or list of Tensors of one dtype, ValueError for none or other shapes.
    """
    tensors = _list("cat", tensors)
    if len({t.data.dtype for t in tensors}) > 1:
        from .precision import raised  # which imports this module

        tensors = raised(*tensors)
    return apply(Cat(check_dim("cat", dim, tensors[0].data.ndim)), *tensors)


def stack(tensors, dim: int = 0) -> Tensor:
    """The tensors, all of one shape, joined along a new dim."""
    tensors = _list("stack", tensors)
    shape = tensors[0].data.shape
    for i, x in enumerate(tensors):
        if x.data.shape != shape:
            raise ValueError(f"stack: tensors[{i}] must have shape {shape} like tensors[0], got {x.data.shape}")
    return cat([unsqueeze(x, dim) for x in tensors], dim)


def _list(function: str, tensors) -> list:
    if not isinstance(tensors, (tuple, list)):
        raise TypeError(f"{function}: tensors must be a tuple or list of Tensors, got {type(tensors).__name__}")
    if not tensors:
        raise ValueError(f"{function}: tensors must hold at least one Tensor, got none")
    return [check_tensor(function, f"tensors[{i}]", x) for i, x in enumerate(tensors)]


def split(input, split_size: int, dim: int = 0) -> tuple:
    """Views of at most split_size entries along dim, in order."""
    check_tensor("split", "input", input)
    axis = check_dim("split", dim, input.data.ndim)
    if not isinstance(split_size, int) or isinstance(split_size, bool):
        raise TypeError(f"split: split_size must be an int, got {type(split_size).__name__}")
    if split_size < 1:
        raise ValueError(f"split: split_size must be positive, got {split_size}")
    lead = (slice(None),) * axis
    return tuple([input[(*lead, slice(i, i + split_size))] for i in range(0, input.data.shape[axis], split_size)])


def clone(input) -> Tensor:
    """A copy with memory of its own; the gradient passes through."""
    check_tensor("clone", "input", input)
    return apply(Clone(), input)


def move(input, to_gpu: bool) -> Tensor:
    """The tensor in the GPU's or the host's memory (itself if it is there); the gradient moves back."""
    check_tensor("to", "input", input)
    if on_gpu(input.data) == to_gpu:
        return input
    recording.refuse("a move between the host and the GPU")
    return apply(Move(to_gpu), input)


def cast(input, dtype) -> Tensor:
    """The tensor in another dtype (itself if it has it); the gradient is converted back."""
    check_tensor("to", "input", input)
    dtype = dtype_called("to", dtype)
    if input.data.dtype == dtype:
        return input
    if dtype in FLOATS:
        return apply(Cast(dtype), input)
    return wrap(of(input.data).cast(input.data, str(dtype)))
