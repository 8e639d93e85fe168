"""The reference backend: every kernel in a few lines of NumPy, any float dtype.

These functions are the definition that compiled kernels are tested against, and what runs where no compiled module is
present. They check their arguments with the same words as the compiled ones (see `_check`).
"""

from importlib import import_module

from .. import FAMILIES
from .copy import __all__ as BFLOAT16  # noqa: F401 - the kernels that take bfloat16 as it is
from .copy import set_bfloat16  # noqa: F401

name = "numpy"
__all__ = []
for _family in FAMILIES:
    _module = import_module(f".{_family}", __name__)
    __all__ += _module.__all__
    globals().update({_name: getattr(_module, _name) for _name in _module.__all__})
