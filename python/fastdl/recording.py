"""The step that is being recorded, for those parts of fastdl that do more than call kernels.

`session` is None except while `fastdl.capture` runs a step for the first time; then it is the `capture.Session` that
notes what a replay depends on besides the kernels.
"""

from __future__ import annotations

session = None
settings = [object()]  # another object after each change of an attribute, a child or a hook of any module


def refuse(what: str) -> None:
    """Note that the step does something that a replay would not do again; nothing happens outside a recording."""
    if session is not None:
        session.refuse(what)


def outside(what: str, *arrays) -> None:
    """Note that NumPy or CuPy computes with values: NumPy's work is refused if they change from step to step."""
    if session is not None:
        for array in arrays:
            session.outside(what, array)


def keep(*arrays) -> None:
    """Note arrays that are read other than by kernels: they must live as long as the program."""
    if session is not None:
        for array in arrays:
            session.keep(array)


def leaves(what: str, *arrays) -> None:
    """Note that values leave for Python or NumPy: refused if they change from step to step."""
    if session is not None:
        for array in arrays:
            session.leaves(what, array)
