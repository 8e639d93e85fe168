"""Parameter: a tensor that a module trains."""

from __future__ import annotations

from fastdl.tensor import Tensor


class Parameter(Tensor):
    """A tensor that a `Module` registers among its parameters when it is assigned as an attribute.

    data: a NumPy array or a Tensor, whose memory is shared. requires_grad: True by default.
    Raises TypeError for anything else, and for integers with requires_grad=True.
    """

    def __init__(self, data, requires_grad: bool = True) -> None:
        if isinstance(data, Tensor):
            super().__init__(data.data, requires_grad)
            self._counter = data._counter
        else:
            super().__init__(data, requires_grad)

    def __repr__(self) -> str:
        return "Parameter containing:\n" + super().__repr__()
