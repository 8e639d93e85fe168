"""The compiled CPU backend: the names of `fastdl.kernels.numpy`, served by the extension module `fastdl._cpu`."""

import fastdl._cpu as _cpu  # where it is missing this raises ModuleNotFoundError; `from .. import _cpu` does not

from . import numpy as _reference

_cpu.configure()
name = "cpu"
__all__ = list(_reference.__all__)
BFLOAT16 = _reference.BFLOAT16
set_bfloat16 = _cpu.set_bfloat16
globals().update({_name: getattr(_cpu, _name) for _name in __all__})
