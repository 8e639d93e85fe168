"""Tensor's methods and operators: the functions of `fastdl.functional` hung on the class (imported for that effect)."""

from __future__ import annotations

import numpy as np

from . import autograd, device, functional
from .functional import copy as copy_module
from .functional import elementwise, gemm, index, inplace, pointwise
from .kernels import is_array
from .tensor import Tensor

# Functions whose first argument is the tensor become methods of the same name.
_METHODS = (
    "abs", "add", "argmax", "argmin", "broadcast_to", "clamp", "clone", "contiguous", "div", "dot", "eq",
    "exp", "expand", "flatten", "floor_divide", "ge", "gt", "index_select", "le", "log", "log_softmax", "lt",
    "masked_fill", "masked_select", "matmul", "max", "maximum", "mean", "min", "minimum", "mm", "bmm", "mul",
    "ne", "neg", "permute", "pow", "relu", "remainder", "reshape", "sigmoid", "softmax", "split", "sqrt",
    "square", "squeeze", "sub", "sum", "t", "tanh", "transpose", "unsqueeze", "var",
)  # fmt: skip
_INPLACE = (
    "abs_", "add_", "clamp_", "copy_", "div_", "exp_", "fill_", "log_", "masked_fill_", "mul_", "neg_",
    "normal_", "pow_", "relu_", "sigmoid_", "sqrt_", "sub_", "tanh_", "uniform_", "zero_",
)  # fmt: skip

for _name in _METHODS:
    setattr(Tensor, _name, getattr(functional, _name))
for _name in _INPLACE:
    setattr(Tensor, _name, getattr(inplace, _name))

Tensor.backward = autograd.backward
Tensor.view = copy_module.reshape
Tensor.__getitem__ = index.getitem
Tensor.__setitem__ = inplace.setitem
Tensor.__neg__ = pointwise.neg
Tensor.__abs__ = pointwise.abs
Tensor.__iadd__, Tensor.__isub__ = inplace.add_, inplace.sub_
Tensor.__imul__, Tensor.__itruediv__ = inplace.mul_, inplace.div_
Tensor.__ipow__ = inplace.pow_


def _swapped(function):
    def operator(self, other):
        return function(other, self)

    return operator


def _equality(function):
    """== and != with what is no number, array or Tensor are Python's: by identity."""

    def operator(self, other):
        known = isinstance(other, (Tensor, *elementwise.NUMBERS)) or is_array(other)
        return function(self, other) if known else NotImplemented

    return operator


for _symbol, _function in {
    "add": elementwise.add, "sub": elementwise.sub, "mul": elementwise.mul, "truediv": elementwise.div,
    "floordiv": elementwise.floor_divide, "mod": elementwise.remainder, "pow": elementwise.pow,
    "matmul": gemm.matmul,
}.items():  # fmt: skip
    setattr(Tensor, f"__{_symbol}__", _function)
    setattr(Tensor, f"__r{_symbol}__", _swapped(_function))
for _symbol in ("lt", "le", "gt", "ge"):
    setattr(Tensor, f"__{_symbol}__", getattr(elementwise, _symbol))
Tensor.__eq__, Tensor.__ne__ = _equality(elementwise.eq), _equality(elementwise.ne)
Tensor.__hash__ = object.__hash__

# What NumPy is asked to do where its array stands on the left of an operator.
_UFUNCS = {
    np.add: elementwise.add, np.subtract: elementwise.sub, np.multiply: elementwise.mul, np.divide: elementwise.div,
    np.floor_divide: elementwise.floor_divide, np.remainder: elementwise.remainder, np.power: elementwise.pow,
    np.matmul: gemm.matmul, np.less: elementwise.lt, np.less_equal: elementwise.le, np.greater: elementwise.gt,
    np.greater_equal: elementwise.ge, np.equal: elementwise.eq, np.not_equal: elementwise.ne,
}  # fmt: skip


def _array_ufunc(self, ufunc, method: str, *inputs, **options):
    """NumPy's function of tensors: operators are the Tensor's, all else (`array -= t`, `np.sin(t)`) is of arrays."""
    if method == "__call__" and not options and ufunc in _UFUNCS:
        return _UFUNCS[ufunc](*inputs)
    if any(isinstance(x, Tensor) for x in options.get("out", ())):
        raise TypeError(f"numpy.{ufunc.__name__}: out must be an array, got a Tensor; use t.numpy()")
    return getattr(ufunc, method)(*(np.asarray(x) if isinstance(x, Tensor) else x for x in inputs), **options)


class _NumPyOnly:
    """An `__array_ufunc__` that NumPy finds, since it asks the class, and CuPy, which asks the object, does not.

    CuPy would take an operator to its own function of the tensor's memory; without one it leaves it to the Tensor.
    """

    def __get__(self, tensor, owner):
        return _array_ufunc if tensor is None else None


Tensor.__array_ufunc__ = _NumPyOnly()


def _attach(function):
    setattr(Tensor, function.__name__, function)
    return function


@_attach
def to(self, *args, dtype=None, device=None, copy: bool = False) -> Tensor:
    """The tensor with another dtype or on another device (itself if nothing changes and copy is False).

    Takes a dtype, a device name, both, or another Tensor whose dtype and device to take. "cuda" copies to the GPU's
    memory, "cpu" and "numpy" to the host's; gradients are copied back.
    """
    for arg in args:
        if isinstance(arg, Tensor):
            dtype, device = arg.data.dtype, arg.device
        elif isinstance(arg, str) and arg in _device_names:
            device = arg
        else:
            dtype = arg
    _check_device(device)
    out = self if device is None else copy_module.move(self, device == "cuda")
    out = out if dtype is None else copy_module.cast(out, dtype)
    return functional.clone(out) if copy and out is self else out


@_attach
def cpu(self) -> Tensor:
    """The tensor in the host's memory; itself if it is there."""
    return copy_module.move(self, False)


@_attach
def cuda(self) -> Tensor:
    """The tensor in the GPU's memory; itself if it is there."""
    return self.to("cuda")


_device_names, _check_device = device.NAMES, device.check


def _cast(name: str, dtype):
    def method(self):
        return copy_module.cast(self, dtype)

    method.__name__ = method.__qualname__ = name
    method.__doc__ = f"The tensor as {dtype}; itself if it is that already."
    setattr(Tensor, name, method)


for _name, _kind in {
    "float": "float32",
    "double": "float64",
    "bfloat16": "bfloat16",
    "long": "int64",
    "int": "int32",
    "bool": "bool",
}.items():
    _cast(_name, _kind)


@_attach
def type_as(self, other: Tensor) -> Tensor:
    """The tensor in the dtype of `other`."""
    return copy_module.cast(self, other.data.dtype)


@_attach
def view_as(self, other: Tensor) -> Tensor:
    """The tensor in the shape of `other`."""
    return copy_module.reshape(self, other.data.shape)


@_attach
def detach_(self) -> Tensor:
    """Forget how this tensor was computed, in place; returns it."""
    self._node, self._requires = None, False
    return self


@_attach
def __iter__(self):
    if self.data.ndim == 0:
        raise TypeError("iteration over a 0-d tensor")
    return (self[i] for i in range(self.data.shape[0]))


def _transposed(self) -> Tensor:
    """A view with the dims in reverse order."""
    return functional.permute(self, tuple(range(self.data.ndim))[::-1])


def _matrix_transposed(self) -> Tensor:
    """A view with the last two dims swapped."""
    return functional.transpose(self, -2, -1)


Tensor.T = property(_transposed)
Tensor.mT = property(_matrix_transposed)
