"""The compiled CPU backend: the names of `fastdl.kernels.numpy`, served by the extension module `fastdl._cpu`."""

from .. import _cpu
from . import numpy as _reference

_cpu.configure()
name = "cpu"
__all__ = list(_reference.__all__)
globals().update({_name: getattr(_cpu, _name) for _name in __all__})
