"""The same values in every memory layout a kernel must accept, and checks that a kernel left its inputs
alone.
"""

import numpy as np


def _contiguous(values):
    return values.copy()


def _fortran(values):
    return values.copy(order="F")


def _channels_last(values):
    """Shape NCHW (or any rank of 3 and more) with the channels contiguous in memory."""
    return np.moveaxis(np.moveaxis(values, 1, -1).copy(), -1, 1)


def _reversed(values):
    """Negative strides on every axis."""
    flip = (..., *(slice(None, None, -1),) * values.ndim)  # the ellipsis keeps rank 0 an array
    return values[flip].copy()[flip]


def _gapped(values):
    """Every other element of a larger array whose gaps are NaN, so that reading one shows."""
    room = np.full([2 * n for n in values.shape], np.nan, values.dtype)
    view = room[(..., *(slice(1, None, 2),) * values.ndim)]
    view[...] = values
    return view


def _offset(values):
    """Contiguous, but starting one element past an aligned address."""
    room = np.empty(values.size + 1, values.dtype)
    room[1:] = values.reshape(-1)
    return room[1:].reshape(values.shape)


def _unaligned(values):
    """Contiguous, but starting one byte past an aligned address."""
    room = np.empty(values.nbytes + 1, np.uint8)
    view = room[1:].view(values.dtype).reshape(values.shape)
    view[...] = values
    return view


LAYOUTS = {
    "contiguous": _contiguous,
    "fortran": _fortran,
    "channels-last": _channels_last,
    "reversed": _reversed,
    "gapped": _gapped,
    "offset": _offset,
    "unaligned": _unaligned,
}


def layouts(values, names=tuple(LAYOUTS)) -> dict:
    """{name: an array equal to `values` in that layout}; channels-last only from rank 3 on."""
    return {n: LAYOUTS[n](values) for n in names if n != "channels-last" or values.ndim > 2}


class unchanged:
    """`with unchanged(x, w): kernel(x, w)` fails if a byte of the arrays differs afterwards; None passes."""

    def __init__(self, *arrays):
        self.arrays = [a for a in arrays if a is not None]

    def __enter__(self):
        self.before = [a.tobytes() for a in self.arrays]

    def __exit__(self, kind, *rest):
        if kind is None:
            for array, before in zip(self.arrays, self.before):
                assert array.tobytes() == before, "the kernel altered an input"
