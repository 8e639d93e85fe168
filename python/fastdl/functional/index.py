"""Indexing: basic slices as views, rows picked by number or mask, and assignment to both."""

from __future__ import annotations

import math

import numpy as np

from .. import recording
from ..autograd import Operation, apply
from ..kernels import beside, is_array, of, on_gpu
from ..tensor import FLOATS, Tensor, check_dim, check_tensor, wrap
from .copy import cast, reshape, transpose
from .elementwise import NUMBERS, constant, fit, number_as, together
from .precision import is_autocast_enabled


class Slice(Operation):
    """A view of a rectangular part. back: the basic index that puts dy's axes where the input's were."""

    __slots__ = ("index", "starts", "steps", "back", "shape")
    view = True
    fresh = True

    def __init__(self, index, starts, steps, back):
        self.index, self.starts, self.steps, self.back = index, starts, steps, back

    def forward(self, input):
        self.shape = input.shape
        return input[self.index]

    def backward(self, dy):
        return (of(dy).slice_backward(dy[self.back], self.shape, self.starts, self.steps),)


class Rows(Operation):
    """Rows of the first `lead` axes (joined) picked by number; the gradient adds up where a row was picked twice."""

    __slots__ = ("lead", "shape")
    fresh = True

    def __init__(self, lead):
        self.lead = lead

    def forward(self, input, rows):
        self.shape, lead, k = input.shape, self.lead, of(input)
        self.saved = (rows,)
        table = k.contiguous(input).reshape(math.prod(self.shape[:lead]), math.prod(self.shape[lead:]))
        return k.embedding_forward(table, rows).reshape(rows.shape + self.shape[lead:])

    def backward(self, dy):
        (rows,), shape, k = self.saved, self.shape, of(dy)
        flat = k.contiguous(dy).reshape(*rows.shape, math.prod(shape[self.lead :]))
        return k.embedding_backward(flat, rows, math.prod(shape[: self.lead]), -1).reshape(shape), None


class SetItem(Operation):
    """x[index] = value, in place; the gradient of x is 0 there, that of value is what stood there in dy."""

    __slots__ = ("index", "basic", "shape")
    fresh = True

    def __init__(self, index, basic):
        self.index, self.basic = index, basic

    def forward(self, input, value):
        self.shape = value.shape
        self._write(input, value)
        return input

    def _write(self, out, value):
        if self.basic:
            part = out[(*self.index, ...)] if Ellipsis not in self.index else out[self.index]
            extra = value.ndim - part.ndim
            if extra > 0 and value.shape[:extra] == (1,) * extra:
                value = value.reshape(value.shape[extra:])
            of(out).assign(part, value)
        else:
            out[self.index] = value

    def backward(self, dy):
        dx = dvalue = None
        if self.need[0]:
            dx = of(dy).clone(dy)
            self._write(dx, constant(0, dy.dtype, dy))
        if self.need[1]:
            part = wrap(dy[self.index]).data  # NumPy hands out a number for a single element
            extra = len(self.shape) - part.ndim
            dvalue = fit(part, self.shape[extra:] if extra > 0 else self.shape).reshape(self.shape)
            dvalue = of(dy).clone(dvalue) if np.may_share_memory(dvalue, dy) else dvalue
        return dx, dvalue


def normalise(index, x) -> tuple:
    """An index of the array x as a tuple of ints, slices, None, Ellipsis and integer or bool arrays beside x; and
    whether it is basic.
    """
    items, basic = [], True
    for item in index if isinstance(index, tuple) else (index,):
        if isinstance(item, Tensor):
            item = item.data
        if isinstance(item, (list, range)):
            item = beside(np.asarray(item, None if len(item) else np.int64), x)
        if is_array(item):
            together("getitem", input=x, index=item)
            if item.dtype.kind == "b":
                recording.leaves("an index of bools", item)
            if item.dtype.kind not in "iub":
                raise TypeError(f"getitem: index must be of integers or bools, got {item.dtype}")
            basic = False
        elif isinstance(item, slice):
            if item.step is not None and item.step <= 0:
                raise ValueError(f"getitem: index must have positive steps, got {item.step}")
        elif isinstance(item, (bool, np.bool_)):
            raise TypeError("getitem: index must not be a Python bool; use a bool tensor of the tensor's shape")
        elif item is not None and item is not Ellipsis:
            try:
                item = item.__index__()
            except AttributeError:
                raise TypeError(
                    "getitem: index must be ints, slices, None, Ellipsis or integer or bool tensors, "
                    f"got {type(item).__name__}"
                ) from None
        items.append(item)
    return tuple(items), basic


def _basic(index: tuple, shape: tuple) -> Slice:
    """The Slice operation of a basic index on a tensor of that shape."""
    taken = sum(item is not None and item is not Ellipsis for item in index)
    dots = [i for i, item in enumerate(index) if item is Ellipsis]
    if taken > len(shape) or len(dots) > 1:
        raise IndexError(f"getitem: index must have at most {len(shape)} entries for shape {shape}, got {taken}")
    fill = (slice(None),) * (len(shape) - taken)
    index = (*index[: dots[0]], *fill, *index[dots[0] + 1 :]) if dots else (*index, *fill)
    starts, steps, back, axis = [], [], [], 0
    for item in index:
        if item is None:
            back.append(0)
            continue
        size = shape[axis]
        if isinstance(item, slice):
            start, _, step = item.indices(size)
            back.append(slice(None))
        else:
            if not -size <= item < size:
                raise IndexError(f"getitem: index must lie in [{-size}, {size}) along dim {axis}, got {item}")
            start, step = item % size, 1
            back.append(None)
        starts.append(start)
        steps.append(step)
        axis += 1
    return Slice((*index, ...), starts, steps, (*back, ...))


def _rows(index: tuple, x) -> tuple:
    """(row numbers, lead): the index of x as row numbers over its first `lead` axes, joined."""
    shape = x.shape
    if len(index) == 1 and index[0].dtype.kind != "b" and shape:
        rows, size = index[0], shape[0]
        if on_gpu(rows):  # without waiting for it: the kernel gives NaN for numbers out of range
            rows = rows.astype(np.int64)
            return np.where(rows < 0, rows + size, rows), 1
        if rows.size and (rows.min() < -size or rows.max() >= size):
            bad = rows[(rows < -size) | (rows >= size)].reshape(-1)[0]
            raise IndexError(f"getitem: index must lie in [{-size}, {size}), got {bad}")
        rows = rows.astype(np.int64)  # a copy: backward reads it, and the caller may change theirs
        return (np.where(rows < 0, rows + size, rows) if rows.size and rows.min() < 0 else rows), 1
    # In general: number the elements, or the rows where only whole dims follow the arrays, and let NumPy
    # pick.
    head = list(index)
    while head and (head[-1] is Ellipsis or (isinstance(head[-1], slice) and head[-1] == slice(None))):
        head.pop()
    plain = all(isinstance(item, int) or is_array(item) for item in head)
    lead = sum(item.ndim if is_array(item) and item.dtype.kind == "b" else 1 for item in head)
    if not plain or lead > len(shape):
        head, lead = index, len(shape)
    numbers = np.arange(math.prod(shape[:lead]), dtype=np.int64, like=x).reshape(shape[:lead])
    try:
        return numbers[tuple(head)], lead
    except IndexError as error:
        raise IndexError(f"getitem: index must fit shape {shape}: {error}") from None


def getitem(input: Tensor, index) -> Tensor:
    """input[index]. Ints, slices, None and Ellipsis give a view; integer and bool tensors (arrays, lists) a copy.

    The gradient goes back to where the elements came from, and adds up where one was picked several times.
    Raises IndexError for an index out of range (but for what a tensor on the GPU holds), TypeError for another kind of
    index or one that lies elsewhere than input, ValueError for a negative step.
    """
    index, basic = normalise(index, input.data)
    if basic:
        return apply(_basic(index, input.data.shape), input)
    if input.data.dtype not in FLOATS:
        return wrap(input.data[index])
    rows, lead = _rows(index, input.data)
    return apply(Rows(lead), input, wrap(rows))


def index_select(input, dim: int, index) -> Tensor:
    """The entries along dim whose numbers the 1-D integer tensor `index` holds, as a copy."""
    check_tensor("index_select", "input", input)
    check_tensor("index_select", "index", index)
    if index.data.ndim > 1 or index.data.dtype.kind not in "iu":
        raise TypeError(f"index_select: index must be a 1-D integer tensor, got {index.dtype} {index.shape}")
    axis = check_dim("index_select", dim, input.data.ndim)
    if axis == 0:
        return getitem(input, reshape(index, -1))
    return transpose(getitem(transpose(input, 0, axis), reshape(index, -1)), 0, axis)


def masked_select(input, mask) -> Tensor:
    """The elements where the bool tensor mask (of input's shape) holds, as a 1-D copy."""
    check_tensor("masked_select", "input", input)
    check_tensor("masked_select", "mask", mask)
    if mask.data.dtype.kind != "b" or mask.data.shape != input.data.shape:
        raise ValueError(f"masked_select: mask must be bool of shape {input.shape}, got {mask.dtype} {mask.shape}")
    return getitem(input, mask)


def value_like(function: str, input: Tensor, value) -> Tensor:
    """value as a Tensor of input's dtype, to be written into it; float32 and float64 don't mix."""
    dtype = input.data.dtype
    if isinstance(value, NUMBERS):
        return wrap(constant(number_as(function, "value", value, dtype), dtype, input.data))
    if isinstance(value, list):
        value = beside(np.asarray(value), input.data)
    if is_array(value):
        value = wrap(value)
        if value.data.dtype == np.float64 and dtype == np.float32:
            raise TypeError(f"{function}: value must be {dtype} like the tensor, got {value.data.dtype}")
    check_tensor(function, "value", value)
    together(function, input=input.data, value=value.data)
    have = value.data.dtype
    if have == dtype:
        return value
    if have in FLOATS and is_autocast_enabled():
        return cast(value, dtype)
    if have in FLOATS:
        raise TypeError(f"{function}: value must be {dtype} like the tensor, got {have}; convert it with .to()")
    return wrap(value.data.astype(dtype))
