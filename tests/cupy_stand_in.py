"""CuPy for machines without a GPU: the part of its API that fastdl uses, on the host's memory, as strict as CuPy is.

An array here is no NumPy array, never becomes one in silence, and does not mix with them. Behind it, the CUDA kernels
run on the host (`fastdl._cuda_emulated`). What CuPy does not have, or does differently, must not be added here.
"""

import contextlib
import ctypes
import importlib
import os
import sys
import weakref
from types import ModuleType, SimpleNamespace

import numpy as np

from cupy_streams import CUDARuntimeError, Stream, current, flat, note, wait, work
from fastdl import Tensor, kernels


class ndarray(np.lib.mixins.NDArrayOperatorsMixin):  # noqa: N801 - CuPy's name
    """`cupy.ndarray`."""

    __array_priority__ = 100
    __hash__ = None

    def __init__(self, shape, dtype=float, memptr=None, strides=None):
        memory = np.zeros(shape, dtype) if memptr is None else memptr.memory
        start = 0 if memptr is None else memptr.start
        self.a = np.ndarray(shape, dtype, buffer=memory if np.prod(shape) else None, offset=start, strides=strides)
        _note_pool(self.a)

    def __array__(self, *args, **kwargs):
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **kwargs):
        if method != "__call__" or any(isinstance(x, np.ndarray) for x in inputs):
            return NotImplemented
        inputs = [x.data if isinstance(x, Tensor) and x.__cuda_array_interface__ else x for x in inputs]
        if out is not None:
            kwargs["out"] = tuple(map(_host, out))
        result = _array(_work(lambda: ufunc(*map(_host, inputs), **kwargs), flat((inputs, out or ()))))
        return result if out is None else out[0]

    def __array_function__(self, function, types, args, kwargs):
        if function.__name__ not in _FUNCTIONS:
            return NotImplemented
        if any(isinstance(x, np.ndarray) for x in flat((args, kwargs))):
            raise TypeError(f"Unsupported type {np.ndarray}")
        given = _host(args), _host({k: v for k, v in kwargs.items() if k != "like"})
        return _array(_work(lambda: function(*given[0], **given[1]), flat((args, kwargs))))

    def __getitem__(self, index):
        index = _index(index)
        return _array(_work(lambda: self.a[index], [self]))

    def __setitem__(self, index, value):
        if isinstance(value, np.ndarray):
            raise TypeError(f"Unsupported type {np.ndarray}")
        index, value = _index(index), _host(value)
        _work(lambda: self.a.__setitem__(index, value), [self])

    def __iter__(self):
        return (self[i] for i in range(len(self.a)))

    def __len__(self):
        return len(self.a)

    def __bool__(self):
        return bool(self.item())

    def __float__(self):
        return float(self.item())

    def __int__(self):
        return int(self.item())

    def __index__(self):
        return self.item().__index__()

    def item(self):
        """A Python number; waits."""
        wait()
        return self.a.item()

    def tolist(self):
        """Nested lists; waits."""
        wait()
        return self.a.tolist()

    def __dlpack__(self, stream=None, max_version=None, dl_device=None, copy=None):
        raise BufferError("the stand-in's memory is the host's")

    def __dlpack_device__(self):
        return (2, 0)

    @property
    def __cuda_array_interface__(self):
        at = {"data": (self.a.ctypes.data, False), "strides": None if self.a.flags.c_contiguous else self.a.strides}
        return {"shape": self.a.shape, "typestr": self.a.dtype.str, "descr": [("", self.a.dtype.str)],
                "stream": 1, "version": 3, **at}  # fmt: skip

    shape, dtype, ndim = (property(lambda self, name=n: getattr(self.a, name)) for n in ("shape", "dtype", "ndim"))
    size, strides, flags = (property(lambda self, name=n: getattr(self.a, name)) for n in ("size", "strides", "flags"))
    itemsize, nbytes = (property(lambda self, name=n: getattr(self.a, name)) for n in ("itemsize", "nbytes"))
    data = property(lambda self: Pointer(self.a, 0))
    device = property(lambda self: SimpleNamespace(id=0))
    T = property(lambda self: self.transpose())

    def set(self, array):
        """Copy a NumPy array here."""
        assert type(array) is np.ndarray and array.dtype == self.dtype
        wait()
        self.a[...] = array


def _method(name):
    def call(self, *args, **kwargs):
        if any(isinstance(x, np.ndarray) for x in flat((args, kwargs))):
            raise TypeError(f"Unsupported type {np.ndarray}")
        given = _host(args), _host(kwargs)
        return _array(_work(lambda: getattr(self.a, name)(*given[0], **given[1]), [self, *flat((args, kwargs))]))

    return call


for _name in ("all any argmax argmin argsort astype copy fill max mean min nonzero ravel reshape squeeze sum "
              "swapaxes take transpose view").split():  # fmt: skip
    setattr(ndarray, _name, _method(_name))

_FUNCTIONS = set(
    "all any arange argmax argmin broadcast_to clip concatenate empty empty_like expand_dims full full_like "
    "may_share_memory ndim ones ones_like squeeze stack sum take take_along_axis where zeros zeros_like".split()
)


class Pointer:
    """`cupy.cuda.MemoryPointer`: memory and a place in it."""

    def __init__(self, memory, start):
        self.memory, self.start = memory, start

    def __add__(self, count):
        return Pointer(self.memory, self.start + count)

    device_id = 0
    ptr = property(lambda self: self.memory.ctypes.data + self.start)

    @property
    def mem(self):
        """`PooledMemory`: says which pool the memory is from."""
        return SimpleNamespace(pool=_pools.get(id(_root(self.memory)), "default"))


class MemoryPool:
    """`cupy.cuda.MemoryPool`: only a name, as memory here is NumPy's."""

    def malloc(self, size):
        """Never called."""

    def free_all_blocks(self, stream=None):
        """Nothing is held."""


@contextlib.contextmanager
def using_allocator(malloc):
    """`cupy.cuda.using_allocator`."""
    _allocators.append(malloc.__self__)
    try:
        yield
    finally:
        _allocators.pop()


_pools: dict = {}  # id of the NumPy array that owns memory: its pool
_allocators = ["default"]


def _root(array):
    """The NumPy array that owns the memory."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _note_pool(array):
    """Memory that is seen for the first time is from the pool in use."""
    root = _root(array)
    if id(root) not in _pools:
        _pools[id(root)] = _allocators[-1]
        weakref.finalize(root, _pools.pop, id(root), None)


def _work(compute, given):
    return work(compute, [x.a for x in given if isinstance(x, ndarray)])


def _host(value):
    """Arrays here as NumPy arrays, in nested tuples, lists and dicts."""
    if isinstance(value, ndarray):
        return value.a
    if isinstance(value, dict):
        return {key: _host(item) for key, item in value.items()}
    return type(value)(map(_host, value)) if type(value) in (list, tuple) else value


def _array(value):
    """NumPy's results as arrays here: CuPy hands out no numbers, but 0-d arrays."""
    if isinstance(value, (np.ndarray, np.generic)):
        out = object.__new__(ndarray)
        out.a = np.asarray(value)
        _note_pool(out.a)
        return out
    return type(value)(map(_array, value)) if type(value) in (list, tuple) else value


def _index(index):
    if any(isinstance(x, (np.ndarray, list)) for x in (index if isinstance(index, tuple) else (index,))):
        raise IndexError("the stand-in takes no host arrays and lists as an index")
    index = _host(index) if isinstance(index, tuple) else (_host(index),)
    basic = Ellipsis not in index if all(x is None or isinstance(x, (int, slice)) for x in index) else False
    return (*index, ...) if basic else index  # an element is a view, too


def zeros(shape, dtype=float):
    """`cupy.zeros`, on a border of 512 bytes."""
    count = int(np.prod(shape)) * np.dtype(dtype).itemsize
    room = np.zeros(count + 512, np.uint8)
    skip = -room.ctypes.data % 512
    made = room[skip : skip + count].view(dtype).reshape(shape)
    note(lambda: made.fill(0))
    return _array(made)


def asarray(array, dtype=None, blocking=False):
    """`cupy.asarray`: a copy of host memory, or the memory that `__cuda_array_interface__` describes."""
    if not isinstance(array, ndarray) and hasattr(array, "__cuda_array_interface__"):
        about = array.__cuda_array_interface__
        at, strides = about["data"][0], about["strides"]
        memory = np.frombuffer((ctypes.c_uint8 * (1 << 20)).from_address(at), np.uint8)
        return _array(np.ndarray(about["shape"], about["typestr"], buffer=memory, strides=strides))
    if not isinstance(array, ndarray):
        wait()
    return array if isinstance(array, ndarray) else _array(np.array(array, dtype, order="C"))


def alloc(size):
    """`cupy.cuda.alloc`: memory on a border of 512 bytes, with what was there before (NaN)."""
    room = np.full(size + 512, 0xFF, np.uint8)
    return Pointer(room, -room.ctypes.data % 512)


def copyto(target, source):
    """`cupy.copyto`."""
    target[...] = source


def asnumpy(array):
    """`cupy.asnumpy`: a copy in C order; waits."""
    wait()
    return np.array(_host(array), order="C")


class Extension:
    """`fastdl._cuda`: the emulated kernels on arrays here, refusing NumPy's as the bindings for CuPy do."""

    architectures = "emulated"

    def __init__(self):
        self._module = importlib.import_module("fastdl._cuda_emulated")

    def probe(self):
        """Runs a kernel."""

    def set_cublaslt_finder(self, find):
        """Never asks it: the library computes on a GPU."""

    set_cudnn_finder = set_cublaslt_finder

    def load_cublaslt(self, path):
        raise RuntimeError("NVIDIA's libraries need a GPU")

    load_cudnn = load_cublaslt

    def __getattr__(self, name):
        kernel = getattr(self._module, name)
        if not callable(kernel):
            return kernel

        def call(*args, **kwargs):
            own = {id(x.a): x for x in flat((args, kwargs)) if isinstance(x, ndarray)}
            result = _work(lambda: _host(kernel(*args, **kwargs)), flat((args, kwargs)))
            if isinstance(result, tuple):
                return tuple(_known(own, x) for x in result)
            return _known(own, result)

        return call


def _known(own: dict, value):
    """The array here whose NumPy array a kernel has returned, or a new one around it."""
    found = own.get(id(value))
    return _array(value) if found is None else found


def emulated():
    """The module of the emulated kernels and this module as its CuPy; ModuleNotFoundError where it is not built."""
    with installed() as backend:
        module = importlib.import_module("fastdl._cuda_emulated")
        module.relu_forward(zeros(1, np.float32))  # finds its CuPy once
        module.emulate_order(int(os.environ.get("FASTDL_EMULATED_ORDER", "0")))
        module.BFLOAT16 = backend.BFLOAT16
    return module, _module()


def _module() -> ModuleType:
    cupy = ModuleType("cupy")
    for name in ("ndarray", "zeros", "asarray", "asnumpy", "copyto"):
        setattr(cupy, name, globals()[name])
    runtime = SimpleNamespace(
        getDeviceCount=lambda: 1, getDevice=lambda: 0, CUDARuntimeError=CUDARuntimeError, deviceSynchronize=wait,
        memGetInfo=lambda: (1 << 30, 1 << 31),
        getDeviceProperties=lambda device: {"name": b"a stand-in"},
    )  # fmt: skip
    cupy.cuda = ModuleType("cupy.cuda")
    vars(cupy.cuda).update(
        runtime=runtime, Device=lambda: SimpleNamespace(id=0, compute_capability="90"), Stream=Stream, alloc=alloc,
        get_current_stream=lambda: current[-1], MemoryPool=MemoryPool, using_allocator=using_allocator,
    )  # fmt: skip
    cupy.get_default_memory_pool = MemoryPool
    ndarray.__module__ = "cupy"
    return cupy


@contextlib.contextmanager
def installed():
    """Within the block `kernels.backend("cuda")` is this; raises ImportError where the kernels are not built so."""
    cupy = _module()
    modules = {"cupy": cupy, "cupy.cuda": cupy.cuda, "fastdl._cuda": Extension()}
    names = (*modules, "fastdl.kernels.cuda")
    before = {name: sys.modules.pop(name, None) for name in names}
    state = kernels._cuda, kernels.gpu_arrays, kernels._default, kernels.__dict__.get("cuda")
    sys.modules.update(modules)
    fastdl = sys.modules["fastdl"]
    fastdl._cuda = modules["fastdl._cuda"]
    try:
        yield kernels.backend("cuda")
    finally:
        kernels._cuda, kernels.gpu_arrays, kernels._default = state[:3]
        kernels.__dict__.pop("cuda", None)
        del fastdl._cuda
        for name in names:
            sys.modules.pop(name, None)
            if before[name] is not None:
                sys.modules[name] = before[name]
