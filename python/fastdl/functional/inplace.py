"""In-place operations: compute, write into the tensor's memory, count the change, and take over the result's
history.

Writing into a leaf that requires grad, or through a view into memory that autograd follows, raises unless
recording is
off: its gradient would be lost. Backward of an operation that needs the old values raises (see autograd).
"""

from __future__ import annotations

import numpy as np

from .. import random
from ..autograd import apply, is_grad_enabled
from ..kernels import of
from ..tensor import FLOATS, Tensor, check_tensor, wrap
from . import activation, elementwise, pointwise
from .copy import Cast, Clone, expand
from .elementwise import constant
from .index import SetItem, _basic, normalise, value_like


def guard(name: str, t: Tensor, tracked: bool = False) -> None:
    """Raise RuntimeError where a change to t in place would lose a gradient. tracked: the new values need one."""
    if not is_grad_enabled():
        return
    if t._requires and t._node is None:
        raise RuntimeError(
            f"{name}: a leaf tensor that requires grad must not be changed in place; do it inside fastdl.no_grad()"
        )
    if t._base is not None and (tracked or t._requires or t._base._requires):
        raise RuntimeError(
            f"{name}: the tensor is a view of memory that autograd follows and must not be changed in place; "
            "write to the base tensor (base[index] = value) or clone() the view first"
        )


def adopt(t: Tensor, out: Tensor) -> Tensor:
    """Count the change and, while recording, make the history of `out` that of t."""
    t._counter[0] += 1
    if is_grad_enabled():
        t._requires, t._node = out._requires, out._node
    return t


def _store(name: str, t: Tensor, out: Tensor) -> Tensor:
    if out.data.dtype != t.data.dtype:
        raise TypeError(f"{name}: the result must be {t.data.dtype} like the tensor, got {out.data.dtype}")
    if out.data.shape != t.data.shape:
        raise ValueError(f"{name}: the result must have shape {t.data.shape} like the tensor, got {out.data.shape}")
    guard(name, t, out._requires)
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
    """Take the values of src (a Tensor or array that broadcasts to this shape); converts the dtype."""
    src = wrap(src) if isinstance(src, np.ndarray) else check_tensor("copy_", "src", src)
    if src.data.dtype != self.data.dtype:
        both = src.data.dtype in FLOATS and self.data.dtype in FLOATS
        src = apply(Cast(self.data.dtype), src) if both else wrap(src.data.astype(self.data.dtype))
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
    return _assign("fill_", self, constant(value, self.data.dtype))


def zero_(self: Tensor) -> Tensor:
    """Set every element to 0."""
    return _assign("zero_", self, constant(0, self.data.dtype))


def _assign(name: str, t: Tensor, values: np.ndarray) -> Tensor:
    guard(name, t)
    of(t.data).assign(t.data, values)
    return adopt(t, wrap(values))


def uniform_(self: Tensor, low: float = 0.0, high: float = 1.0, *, generator=None) -> Tensor:
    """Fill with uniform numbers in [low, high) from the given or default generator."""
    return _assign("uniform_", self, random.uniform(self.data.shape, low, high, self.data.dtype, generator))


def normal_(self: Tensor, mean: float = 0.0, std: float = 1.0, *, generator=None) -> Tensor:
    """Fill with normal numbers from the given or default generator."""
    return _assign("normal_", self, random.normal(self.data.shape, mean, std, self.data.dtype, generator))


def setitem(self: Tensor, index, value) -> None:
    """self[index] = value, a number or a Tensor that broadcasts to the part.

    Raises IndexError or TypeError for the index, ValueError for a value that doesn't broadcast, RuntimeError
    where autograd forbids the change.
    """
    index, basic = normalise(index)
    value = value_like("setitem", self, value)
    guard("setitem", self, value._requires)
    if basic:
        _basic(index, self.data.shape)  # raises for a bad index
    else:  # backward reads the arrays, and the caller may change theirs
        index = tuple([item.copy() if isinstance(item, np.ndarray) else item for item in index])
    if value.data.size and np.may_share_memory(value.data, self.data):
        value = apply(Clone(), value)
    try:
        out = apply(SetItem(index, basic), self, value)
    except IndexError as error:
        raise IndexError(f"setitem: index must fit shape {self.data.shape}: {error}") from None
    adopt(self, out)
