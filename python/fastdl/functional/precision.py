"""Mixed precision: `autocast`, and how the functions follow it.

Within `autocast`, matrix products and convolutions of float32 tensors are computed in bfloat16 and give bfloat16;
losses, softmax, sums, powers, exponentials and logarithms are computed in float32; everything else keeps the dtype of
its input. Weights, their gradients and the statistics of batch norm stay in float32.
Source: Micikevicius et al., "Mixed precision training", ICLR 2018; for bfloat16, Kalamkar et al., arXiv 1905.12322.
"""

from __future__ import annotations

import functools
import sys
import threading

import numpy as np

from .. import kernels
from ..autograd import Operation, name_of
from ..kernels import of
from ..tensor import Tensor, use_bfloat16
from .copy import cast

PRECISIONS = ("fp32", "bf16")  # of a training run: without and with autocast
_FLOAT32 = np.dtype(np.float32)


class _Mode(threading.local):
    where = None  # None: nowhere; else "everywhere" or a device

    def __init__(self):
        self.before: list = []  # a stack, so that one object may be entered again inside its own block


mode = _Mode()


class autocast:
    """Compute products and convolutions in bfloat16 within the block or the decorated function.

    device_type: "cuda" or "cpu" lowers only what lies there (as `torch.autocast` has it); None (default) everything.
    dtype: bfloat16, the default and the only one.
    enabled: False switches it off within the block.

    Wrap the forward pass and the loss; backward computes as forward did. The gradients of float32 weights are float32
    (those of convolutions, where cuDNN makes them faster so, from sums rounded to bfloat16 as PyTorch's are), and no
    scaling of the loss is needed. The host has no arithmetic of bfloat16: it computes in float32 and rounds,
    which shows what training on a GPU will be like, but is slower than float32.

    Raises ValueError for another device or dtype, ImportError without the package ml_dtypes.

    >>> with fd.autocast():
    ...     y = model(fd.ones(1, 2))
    ...     loss = nn.functional.cross_entropy(y, fd.tensor([0]))
    >>> y.dtype, loss.dtype
    (dtype(bfloat16), dtype('float32'))
    >>> loss.backward()
    >>> model.weight.grad.dtype
    dtype('float32')
    """

    def __init__(self, device_type: str | None = None, dtype=None, enabled: bool = True):
        if device_type not in (None, "cuda", "cpu", "numpy"):
            raise ValueError(f"autocast: device_type must be None, 'cuda', 'cpu' or 'numpy', got {device_type!r}")
        if not isinstance(enabled, (bool, np.bool_)):
            raise TypeError(f"autocast: enabled must be a bool, got {type(enabled).__name__}")
        if dtype is not None and dtype != "bfloat16" and dtype != use_bfloat16():
            raise ValueError(f"autocast: dtype must be bfloat16, got {getattr(dtype, '__name__', dtype)}")
        if enabled:
            use_bfloat16()
        self._where = sys.intern(device_type or "everywhere") if enabled else None  # captured steps know it by identity

    def __enter__(self):
        mode.before.append(mode.where)
        mode.where = self._where
        return self

    def __exit__(self, *error):
        mode.where = mode.before.pop()

    def __call__(self, function):
        if not callable(function):
            raise TypeError(f"autocast: the decorated object must be callable, got {type(function).__name__}")

        @functools.wraps(function)
        def wrapped(*args, **kwargs):
            with self:
                return function(*args, **kwargs)

        return wrapped


def is_autocast_enabled() -> bool:
    """Whether this thread is inside `autocast`."""
    return mode.where is not None


def _applies(t: Tensor) -> bool:
    """Whether autocast is on for what lies where the tensor does."""
    where = mode.where
    return where is not None and (where == "everywhere" or kernels.on_gpu(t.data) == (where == "cuda"))


class Mixed(Operation):
    """An operation between tensors of several float dtypes: each gradient gets the dtype of its input.

    tensors: the inputs, where it is to be computed in bfloat16.
    """

    __slots__ = ("op", "tensors", "dtypes", "stand_ins")
    fresh = places = True

    def __init__(self, op: Operation, tensors=None):
        self.op, self.tensors, self.stand_ins = op, tensors, ()

    def forward(self, *arrays):
        op = self.op
        op.need = self.need
        self.dtypes = [None if x is None else x.dtype for x in arrays]
        if self.tensors is not None and not any(dtype == np.float64 for dtype in self.dtypes):
            self.stand_ins = [None if t is None or t._home is None else _kept_copy(t) for t in self.tensors]
            arrays = [
                x if x is None or x.dtype != _FLOAT32 else of(x).cast(x, "bfloat16") if kept is None else kept
                for x, kept in zip(arrays, self.stand_ins)
            ]
        self.tensors = None
        y = op.forward(*arrays)
        self.saved, op.saved = op.saved, ()
        return y

    def backward(self, dy, out, more=None):
        op = self.op
        op.saved = self.saved
        grads = op.backward(dy, *([out, more] if op.adds else [out] if op.places else []))
        op.saved = ()
        return [
            grad if grad is None or grad.dtype == dtype else of(grad).cast(grad, str(dtype))
            for grad, dtype in zip(grads, self.dtypes)
        ]

    @property
    def name(self) -> str:
        """What errors call it."""
        return name_of(self.op)

    adds = property(lambda self: self.op.adds)
    relu = property(lambda self: self.op.relu)
    gated = property(lambda self: self.op.gated, lambda self, value: setattr(self.op, "gated", value))


def _kept_copy(t: Tensor):
    """The parameter in bfloat16 as its optimizer keeps it, or None."""
    reference, i = t._home
    flat = reference()
    return None if flat is None or flat.params[i] is not t else flat.in_bfloat16(i)


def lowered(op: Operation, *tensors):
    """The operation, in bfloat16 where autocast says so."""
    if kernels.bfloat16 is None or not isinstance(tensors[0], Tensor):
        return op
    lower = _applies(tensors[0])
    return Mixed(op, tensors if lower else None) if lower or _has_bfloat16(tensors) else op


def mixed(op: Operation, *tensors):
    """The operation, where one of the tensors is of bfloat16 between several dtypes."""
    return op if kernels.bfloat16 is None or not _has_bfloat16(tensors) else Mixed(op)


def _has_bfloat16(tensors) -> bool:
    return any(isinstance(t, Tensor) and t.data.dtype == kernels.bfloat16 for t in tensors)


def in_float32(t: Tensor, y: Tensor) -> Tensor:
    """The float32 that a function made of t: itself within autocast, else in bfloat16 where t is."""
    return y if _applies(t) or not _has_bfloat16([t]) else cast(y, kernels.bfloat16)


def raised(*tensors):
    """The tensors as an operation takes them that autocast computes in float32: those of bfloat16 are converted."""
    if mode.where is not None:
        tensors = [cast(t, _FLOAT32) if _has_bfloat16([t]) and _applies(t) else t for t in tensors]
    return tensors[0] if len(tensors) == 1 else tuple(tensors)
