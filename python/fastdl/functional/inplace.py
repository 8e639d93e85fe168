"""In-place operations: compute, write into the memory, count the change, and take over the result's history.

Writing into a leaf that requires grad, also through a view, raises unless recording is off: its gradient would be lost.
Writing through a view of anything else gives the tensor that it shows a new history as well. Backward of an operation
that needs the old values raises; other views of the memory follow the new history (see autograd).
"""

from __future__ import annotations

import numpy as np

from .. import random
from ..autograd import Operation, apply, is_grad_enabled, refresh
from ..kernels import beside, is_array, of, on_gpu
from ..tensor import DTYPES, FLOATS, Tensor, changed, check_tensor, wrap
from . import activation, elementwise, pointwise
from .copy import Clone, cast, expand, move
from .elementwise import constant, number_as
from .index import SetItem, _basic, normalise, value_like
from .precision import is_autocast_enabled


class ViewUpdate(Operation):
    """What the base of a view became when the view was written: its own values, and `value` where the view shows it."""

    __slots__ = ("chain", "order")
    fresh = True

    def __init__(self, chain):
        self.chain = chain

    def forward(self, base, value):
        self.order = sorted(range(base.ndim), key=lambda axis: -base.strides[axis])
        return base

    def backward(self, dy):
        k, dvalue = of(dy), None
        # dy in the memory order of the base, in which every step of the chain is a view again.
        nested = dy.transpose(self.order)
        dx = (k.clone if nested.flags.c_contiguous else k.contiguous)(nested).transpose(np.argsort(self.order).tolist())
        part = dx
        for op in self.chain:
            part = op.forward(part)
        if self.need[1]:
            dvalue = k.clone(part)
        k.assign(part, constant(0, dy.dtype, dy))
        return dx, dvalue


def guard(name: str, t: Tensor) -> None:
    """Raise RuntimeError where a change to t in place would lose a gradient."""
    owner = t if t._base is None else t._base
    if t._chain is None and owner._requires and is_grad_enabled():
        raise RuntimeError(
            f"{name}: a view that was taken inside no_grad() must not be changed in place outside; take the view again"
        )
    if owner._requires and owner._node is None and is_grad_enabled():
        raise RuntimeError(
            f"{name}: a leaf tensor that requires grad must not be changed in place; do it inside fastdl.no_grad()"
        )


def adopt(t: Tensor, out: Tensor) -> Tensor:
    """Count the change and, while recording, make the history of `out` that of t, and of what t is a view of."""
    changed(t)
    base = t._base
    if not is_grad_enabled():
        return t
    if base is None:
        t._requires, t._node = out._requires, out._node
    elif base._requires or out._requires:
        t._seen = -1  # the history ends with the change
        update = apply(ViewUpdate(t._chain), base, out)
        base._requires, base._node = update._requires, update._node
        refresh(t)
    return t


def _keep(op: Operation, old: np.ndarray) -> None:
    """Let an operation whose result is about to overwrite its input keep a copy of the old values for backward."""
    if any(array is old for array in op.saved):
        kept = of(old).clone(old)
        op.saved = tuple([kept if array is old else array for array in op.saved])
        op.watched = [entry for entry in op.watched if entry[3] is not old]


def _store(name: str, t: Tensor, out: Tensor) -> Tensor:
    if out.data.dtype != t.data.dtype and is_autocast_enabled() and out.data.dtype in FLOATS:
        out = cast(out, t.data.dtype)
    if out.data.dtype != t.data.dtype:
        raise TypeError(f"{name}: the result must be {t.data.dtype} like the tensor, got {out.data.dtype}")
    if out.data.shape != t.data.shape:
        raise ValueError(f"{name}: the result must have shape {t.data.shape} like the tensor, got {out.data.shape}")
    guard(name, t)
    if out._node is not None:
        _keep(out._node, t.data)
    of(t.data).assign(t.data, out.data)
    return adopt(t, out)


def _update(name: str, function):
    def call(self, *args, **kwargs):
        check_tensor(name, "input", self)
        return _store(name, self, function(self, *args, **kwargs))

    call.__name__ = call.__qualname__ = name
    call.__doc__ = f"`{function.__name__}` in place; returns the tensor."
    return call


add_ = _update("add_", elementwise.add)
sub_ = _update("sub_", elementwise.sub)
mul_ = _update("mul_", elementwise.mul)
div_ = _update("div_", elementwise.div)
pow_ = _update("pow_", elementwise.pow)
neg_ = _update("neg_", pointwise.neg)
exp_ = _update("exp_", pointwise.exp)
log_ = _update("log_", pointwise.log)
sqrt_ = _update("sqrt_", pointwise.sqrt)
abs_ = _update("abs_", pointwise.abs)
clamp_ = _update("clamp_", pointwise.clamp)
masked_fill_ = _update("masked_fill_", pointwise.masked_fill)
relu_ = _update("relu_", activation.relu)
sigmoid_ = _update("sigmoid_", activation.sigmoid)
tanh_ = _update("tanh_", activation.tanh)


def copy_(self: Tensor, src) -> Tensor:
    """Take the values of src (a Tensor or array, anywhere, that broadcasts to this shape); converts the dtype."""
    src = wrap(src) if is_array(src) else check_tensor("copy_", "src", src)
    src = move(src, on_gpu(self.data))
    if src.data.dtype in DTYPES:
        src = cast(src, self.data.dtype)
    else:  # an array of a dtype that tensors don't hold
        src = wrap(src.data.astype(self.data.dtype))
    if src.data.shape != self.data.shape:
        try:
            src = expand(src, self.data.shape)
        except ValueError:
            raise ValueError(f"copy_: src must broadcast to {self.shape}, got shape {src.shape}") from None
    return _store("copy_", self, apply(Clone(), src) if src._requires else src.detach())


def fill_(self: Tensor, value) -> Tensor:
    """Set every element to a number."""
    if not isinstance(value, elementwise.NUMBERS):
        raise TypeError(f"fill_: value must be a number, got {type(value).__name__}")
    x = self.data
    return _assign("fill_", self, constant(number_as("fill_", "value", value, x.dtype), x.dtype, x))


def zero_(self: Tensor) -> Tensor:
    """Set every element to 0."""
    return _assign("zero_", self, constant(0, self.data.dtype, self.data))


def _assign(name: str, t: Tensor, values: np.ndarray) -> Tensor:
    guard(name, t)
    of(t.data).assign(t.data, values)
    return adopt(t, wrap(values))


def uniform_(self: Tensor, low: float = 0.0, high: float = 1.0, *, generator=None) -> Tensor:
    """Fill with uniform numbers in [low, high) from the given or default generator."""
    values = random.uniform(self.data.shape, low, high, self.data.dtype, generator)
    return _assign("uniform_", self, beside(values, self.data))


def normal_(self: Tensor, mean: float = 0.0, std: float = 1.0, *, generator=None) -> Tensor:
    """Fill with normal numbers from the given or default generator."""
    values = random.normal(self.data.shape, mean, std, self.data.dtype, generator)
    return _assign("normal_", self, beside(values, self.data))


def setitem(self: Tensor, index, value) -> None:
    """self[index] = value, a number or a Tensor that broadcasts to the part.

    Raises IndexError or TypeError for the index, ValueError for a value that doesn't broadcast, RuntimeError
    where autograd forbids the change.
    """
    index, basic = normalise(index, self.data)
    value = value_like("setitem", self, value)
    guard("setitem", self)
    if basic:
        _basic(index, self.data.shape)  # raises for a bad index
    else:  # backward reads the arrays, and the caller may change theirs
        index = tuple([item.copy() if is_array(item) else item for item in index])
    if value.data.size and np.may_share_memory(value.data, self.data):
        value = apply(Clone(), value)
    try:
        out = apply(SetItem(index, basic), self, value)
    except IndexError as error:
        raise IndexError(f"setitem: index must fit shape {self.data.shape}: {error}") from None
    adopt(self, out)
