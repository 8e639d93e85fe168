"""The Tensor: one array, its gradient and the operation that made it.

This file holds what a Tensor is; what can be computed with it is in `fastdl.functional`, and `fastdl.methods`
hangs those functions on the class as methods and operators.
"""

from __future__ import annotations

import numpy as np

from . import kernels, recording

FLOATS = [np.dtype(np.float32), np.dtype(np.float64)]  # and bfloat16, once it is in use
DTYPES = [*FLOATS, *map(np.dtype, (np.int32, np.int64, np.uint8, np.bool_))]  # what kernels take


class Tensor:
    """An n-dimensional array with automatic differentiation; the interface follows `torch.Tensor`.

    Args:
        data: a NumPy or CuPy array (used as it is, not copied); `fastdl.tensor` converts lists, numbers and other
            arrays.
        requires_grad: record operations on this tensor so that `backward()` fills `.grad`. Float dtypes only.

    Attributes:
        data: the array, not a Tensor as PyTorch's is. Writing to it directly is not seen by autograd; in-place methods
            (`add_`, `copy_`) are, and update a parameter within `no_grad`.
        grad: a Tensor of the same shape and dtype, or None before the first backward.

    Raises:
        TypeError: data is not a NumPy or CuPy array, or has a dtype that tensors don't hold.
    """

    # Most tensors leave most of these at their defaults, which then cost nothing to set.
    _grad = None
    _requires = False
    _node = None  # the Operation that made this tensor, while it is being recorded
    _base = None  # for a view: the tensor whose memory it shows
    _chain = ()  # for a view: the operations that lead from the base to it; None if taken inside no_grad
    _seen = 0  # for a view: the version of that memory when the view was made
    _home = None  # the flat buffer of an optimizer that it lies in, and its number there
    _slot_counter = None  # the count of changes of what is there
    _grad_slot = None  # an array that backward writes the gradient into, set by an optimizer

    __hash__ = object.__hash__

    def __init__(self, data, requires_grad: bool = False):
        if not kernels.is_array(data):
            raise TypeError(f"Tensor: data must be a NumPy or CuPy array, got {type(data).__name__}; see fastdl.tensor")
        if check_dtype("Tensor", data.dtype) == kernels.bfloat16:
            data = data.view(kernels.bfloat16)  # kernels know this very dtype
        self.data = wrap(data).data
        self._counter = [0]
        if requires_grad:
            self.requires_grad_()

    # -- what it is ------------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple:
        """The size along each dimension, a tuple."""
        return self.data.shape

    @property
    def dtype(self) -> np.dtype:
        """The NumPy dtype."""
        return self.data.dtype

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return self.data.ndim

    @property
    def device(self) -> str:
        """The name of the backend that serves this tensor: "numpy", "cpu" or "cuda"."""
        return kernels.of(self.data).name

    def size(self, dim: int | None = None):
        """The shape, or the size along `dim`."""
        if dim is None:
            return self.data.shape
        return self.data.shape[check_dim("size", dim, self.data.ndim)]

    def dim(self) -> int:
        """The number of dimensions."""
        return self.data.ndim

    def numel(self) -> int:
        """The number of elements."""
        return self.data.size

    def is_floating_point(self) -> bool:
        """Whether the dtype is float32, float64 or bfloat16."""
        return self.data.dtype in FLOATS

    def is_contiguous(self) -> bool:
        """Whether the elements lie in C order in memory."""
        return self.data.flags.c_contiguous

    # -- gradient --------------------------------------------------------------------------------------------

    @property
    def grad(self):
        """The gradient that backward accumulated, or None."""
        if recording.session is not None:
            recording.session.grad_read(self)
        return self._grad

    @grad.setter
    def grad(self, value):
        if value is not None:
            if not isinstance(value, Tensor):
                raise TypeError(f"Tensor.grad: grad must be a Tensor or None, got {type(value).__name__}")
            if value.data.dtype != self.data.dtype:
                raise TypeError(f"Tensor.grad: grad must be {self.data.dtype} like the tensor, got {value.data.dtype}")
            if value.data.shape != self.data.shape:
                raise ValueError(f"Tensor.grad: grad must have shape {self.data.shape}, got {value.data.shape}")
            if value.device != self.device:
                raise TypeError(
                    f"Tensor.grad: grad must lie on {self.device!r} like the tensor, got one on {value.device!r}"
                )
        if recording.session is not None:
            recording.session.grad_set(self)
        self._grad = value

    @property
    def requires_grad(self) -> bool:
        """Whether operations on this tensor are recorded."""
        return self._requires

    @requires_grad.setter
    def requires_grad(self, value: bool):
        self.requires_grad_(value)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Switch recording on or off for this leaf tensor, in place; returns the tensor.

        Raises:
            TypeError: the dtype is no float.
            RuntimeError: the tensor is the result of an operation and can't stop requiring a gradient.
        """
        if requires_grad and self.data.dtype not in FLOATS:
            raise TypeError(f"requires_grad: only float tensors have gradients, this one is {self.dtype}")
        if self._node is not None and not requires_grad:
            raise RuntimeError("requires_grad: only leaf tensors can be switched off; use detach() on a result")
        self._requires = bool(requires_grad)
        return self

    @property
    def grad_fn(self):
        """The recorded operation that made this tensor, or None for a leaf."""
        return self._node

    @property
    def is_leaf(self) -> bool:
        """Whether the tensor was made by the user rather than by a recorded operation."""
        return self._node is None

    @property
    def _version(self) -> int:
        """How often the memory was changed in place (views share the count)."""
        return self._counter[0]

    def detach(self) -> Tensor:
        """The same memory as a tensor that autograd does not follow. In-place changes to it are still noticed."""
        out = wrap(self.data)
        out._counter = self._counter
        return out

    # -- conversion ------------------------------------------------------------------------------------------

    def numpy(self) -> np.ndarray:
        """The array itself, sharing memory.

        Raises:
            RuntimeError: the tensor requires grad; use ``t.detach().numpy()``.
            TypeError: the tensor lies on the GPU; use ``t.cpu().numpy()``.
        """
        if self._requires:
            raise RuntimeError("numpy: the tensor requires grad and its array may not leave it; use t.detach().numpy()")
        if kernels.on_gpu(self.data):
            raise TypeError("numpy: the tensor lies on the GPU; copy it to the host with t.cpu().numpy()")
        recording.leaves("numpy()", self.data)
        return self.data

    def item(self):
        """The value of a one-element tensor as a Python number.

        Raises:
            ValueError: the tensor has another number of elements.
        """
        if self.data.size != 1:
            raise ValueError(f"item: the tensor must have one element, got shape {self.data.shape}")
        if recording.session is not None:
            recording.session.leaves("item()", self.data)
        return self.data.item()

    def tolist(self):
        """The values as nested Python lists (a number for a 0-d tensor)."""
        recording.leaves("tolist()", self.data)
        return self.data.tolist()

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        data = self.numpy()
        if dtype is not None and data.dtype != dtype:
            return data.astype(dtype)
        return data.copy() if copy else data

    def __dlpack__(self, **options):
        """The memory, shared, for another framework's `from_dlpack`; options are those of the DLPack protocol.

        Raises BufferError where the tensor requires grad (use ``t.detach()``) or the options can't be met.
        """
        if self._requires:
            raise BufferError("__dlpack__: the tensor requires grad and its memory may not leave it; use t.detach()")
        recording.leaves("__dlpack__()", self.data)
        given = {name: value for name, value in options.items() if value is not None}  # NumPy 1 knows only `stream`
        if self.data.dtype is kernels.bfloat16 and not kernels.on_gpu(self.data):
            from ._dlpack import give

            return give(self.data, **given)
        return self.data.__dlpack__(**given)

    def __dlpack_device__(self) -> tuple:
        """Where the memory lies, as DLPack says it: (1, 0) for the host, (2, number) for a GPU."""
        return self.data.__dlpack_device__()

    @property
    def __cuda_array_interface__(self) -> dict:
        """The memory on the GPU for other libraries, as CuPy describes it: version 3, with CuPy's current stream.

        Raises AttributeError for a tensor in the host's memory, RuntimeError where the tensor requires grad.
        """
        if not kernels.on_gpu(self.data):
            raise AttributeError("__cuda_array_interface__: the tensor lies in the host's memory")
        if self._requires:
            raise RuntimeError("__cuda_array_interface__: the tensor requires grad; use t.detach()")
        recording.leaves("__cuda_array_interface__", self.data)
        return self.data.__cuda_array_interface__

    def __len__(self) -> int:
        if self.data.ndim == 0:
            raise TypeError("len() of a 0-d tensor")
        return self.data.shape[0]

    def __bool__(self) -> bool:
        if self.data.size != 1:
            raise ValueError(f"the truth value of a tensor of shape {self.data.shape} is ambiguous")
        recording.leaves("bool()", self.data)
        return bool(self.data.item())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.data.size != 1 or self.data.dtype.kind not in "iu":
            raise TypeError(f"only one-element integer tensors can be an index, got {self.dtype} {self.shape}")
        recording.leaves("use as an index", self.data)
        return int(self.data.item())

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else str(self)

    def __repr__(self) -> str:
        recording.leaves("printing", self.data)
        values = kernels.to_host(self.data)
        if values.dtype == kernels.bfloat16:
            values = values.astype(np.float32)  # as ml_dtypes prints it, it could be of ints
        text = np.array2string(values, separator=", ", prefix="tensor(")
        if self.data.dtype not in (np.float32, np.int64, np.bool_):
            text += f", dtype={self.data.dtype}"
        if self.data.size == 0 and self.data.ndim != 1:
            text += f", size={self.data.shape}"
        if kernels.on_gpu(self.data):
            text += ", device='cuda'"
        if self._node is not None:
            text += f", grad_fn=<{getattr(self._node, 'name', type(self._node).__name__)}>"
        elif self._requires:
            text += ", requires_grad=True"
        return f"tensor({text})"

    def __getstate__(self) -> dict:
        return {key: value for key, value in self.__dict__.items() if key != "_home"}  # the optimizer stays

    def __deepcopy__(self, memo) -> Tensor:
        if self._node is not None:
            raise RuntimeError("deepcopy: only leaf tensors can be copied; use detach() first")
        out = memo[id(self)] = type(self).__new__(type(self))
        out.__dict__.update({k: v for k, v in self.__dict__.items() if k not in _OWN})
        out.data, out._counter = self.data.copy(order="K"), [0]
        out._requires = self._requires
        out._grad = None if self._grad is None else wrap(self._grad.data.copy(order="K"))
        return out


_OWN = {"data", "_counter", "_grad", "_requires", "_node", "_base", "_chain", "_seen"}
_OWN |= {"_home", "_grad_slot", "_slot_counter"}  # an optimizer's
_new = Tensor.__new__
_ndarray = np.ndarray


def wrap(data) -> Tensor:
    """A Tensor around an array that a kernel returned, unchecked: the fast way in."""
    out = _new(Tensor)
    if type(data) is not _ndarray and not isinstance(data, kernels.gpu_arrays):
        data = np.asarray(data)  # a number; and a subclass of ndarray would bring operators of its own
    out.data = data
    out._counter = [0]
    return out


def changed(*tensors: Tensor) -> None:
    """Count a change of each tensor's memory in place, for autograd to notice; replays of the step count it too."""
    for t in tensors:
        t._counter[0] += 1
    if recording.session is not None:
        for t in tensors:
            recording.session.changed(t)


def check_dtype(name: str, dtype: np.dtype) -> np.dtype:
    """The dtype, if tensors hold it."""
    if dtype in DTYPES:
        return dtype
    if dtype.name == "bfloat16":
        return use_bfloat16()
    raise TypeError(f"{name}: dtype must be float32, float64, bfloat16, int32, int64, uint8 or bool, got {dtype}")


def dtype_called(function: str, dtype) -> np.dtype:
    """The dtype that tensors hold, from what NumPy understands as one, or "bfloat16"."""
    if isinstance(dtype, str) and dtype == "bfloat16":
        return use_bfloat16()
    try:
        dtype = np.dtype(dtype)
    except TypeError:
        device = isinstance(dtype, str) and dtype.partition(":")[0] in ("cuda", "gpu", "cpu")
        hint = "; devices are 'numpy', 'cpu' and 'cuda', without a number" if device else ""
        raise TypeError(f"{function}: dtype must be a NumPy dtype or its name, got {dtype!r}{hint}") from None
    return check_dtype(function, dtype)


def use_bfloat16() -> np.dtype:
    """The dtype bfloat16, which tensors hold from then on; raises ImportError without the package ml_dtypes."""
    dtype = kernels.use_bfloat16()
    if dtype not in DTYPES:
        FLOATS.append(dtype)
        DTYPES.append(dtype)
    return dtype


def check_tensor(function: str, name: str, value) -> Tensor:
    """The value, if it is a Tensor."""
    if isinstance(value, Tensor):
        return value
    raise TypeError(f"{function}: {name} must be a Tensor, got {type(value).__name__}")


def check_dim(function: str, dim, ndim: int, name: str = "dim") -> int:
    """dim as a number in [0, ndim); a 0-d tensor has the dims -1 and 0, as in torch."""
    if not isinstance(dim, (int, np.integer)) or isinstance(dim, bool):
        raise TypeError(f"{function}: {name} must be an int, got {type(dim).__name__}")
    limit = max(ndim, 1)
    if not -limit <= dim < limit:
        raise IndexError(f"{function}: {name} must lie in [{-limit}, {limit}), got {dim}")
    return int(dim) % limit
