"""One contiguous buffer for many parameters, one for their gradients and one for each state of an optimizer.

The update of all parameters is then one kernel call over one run of memory. Each parameter owns a segment
that starts on a 256-byte border (a multiple of every vector and of the coalescing unit of a GPU); the gap up
to the next border belongs to nobody and stays harmless: zero gradients.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator

import numpy as np

from .. import kernels, recording
from ..tensor import Tensor, changed, wrap

ALIGNMENT = 256


def aligned_zeros(count: int, dtype, like=None):
    """A zero array (count) that starts on a 256-byte border, in the memory where `like` lies (None: the host's)."""
    dtype = np.dtype(dtype)
    if kernels.on_gpu(like):
        return np.zeros(count, dtype, like=like)  # CuPy's memory starts on borders of 512 bytes
    room = np.zeros(count * dtype.itemsize + ALIGNMENT, np.uint8)
    skip = -room.ctypes.data % ALIGNMENT
    return room[skip : skip + count * dtype.itemsize].view(dtype)


class FlatBuffer:
    """The parameters of one group, dtype and device, re-homed.

    `p.data` becomes a view of `data`, and `p._grad_slot`, where backward puts the gradient, one of `grad`.
    steps[i] counts the updates of parameter i; counts differ where a gradient was missing at times.
    """

    def __init__(self, params: list[Tensor]):
        self.params = params
        self.dtype = params[0].dtype
        unit = ALIGNMENT // self.dtype.itemsize
        self.starts, end = [], 0
        for p in params:
            self.starts.append(end)
            end += -(-p.numel() // unit) * unit
        self.data, self.grad = (aligned_zeros(end, self.dtype, params[0].data) for _ in range(2))
        self.states: dict[str, np.ndarray] = {}
        self.rounded = None  # the parameters in bfloat16, once they are asked for
        self._rounded: list[Tensor] = []  # its segments, of the version of their parameter that they show
        self.steps = [0] * len(params)
        self.homes = [self.segment(self.data, i) for i in range(len(params))]
        self.slots = [self.segment(self.grad, i) for i in range(len(params))]
        for i in range(len(params)):
            self._bring_home(i)

    def __getstate__(self) -> dict:
        return {"params": self.params, "states": self.states, "steps": self.steps}

    def __setstate__(self, state: dict) -> None:
        """A copy re-homes its own parameters: arrays that were copied one by one are no views of each other."""
        self.__init__(state["params"])
        self.steps[:] = state["steps"]
        for name, array in state["states"].items():
            self.state(name)[...] = array

    def segment(self, array: np.ndarray, i: int) -> np.ndarray:
        """Parameter i's part of a flat array, in the parameter's shape.

        On the GPU filters of convolutions are channels-last in memory, as kernels there read them.
        """
        p, start = self.params[i], self.starts[i]
        part = array[start : start + p.numel()]
        if p.data.ndim == 4 and kernels.on_gpu(array):
            o, c, h, w = p.shape
            return part.reshape(o, h, w, c).transpose(0, 3, 1, 2)
        return part.reshape(p.shape)

    def state(self, name: str) -> np.ndarray:
        """The flat state array of this name, made of zeros when first asked for."""
        if name not in self.states:
            self.states[name] = aligned_zeros(self.data.size, self.dtype, self.data)
        return self.states[name]

    def in_bfloat16(self, i: int):
        """Parameter i rounded to bfloat16, in a copy of the whole buffer that steps keep up to date; on the GPU.

        None for a parameter in the host's memory, where steps would take longer for it, or one that was replaced.
        """
        p = self.params[i]
        if p.data is not self.homes[i] or self.dtype != np.float32 or not kernels.on_gpu(self.data):
            return None
        if recording.session is not None:
            recording.session.rounded(self)
        if self.rounded is None:
            self.rounded = aligned_zeros(self.data.size, kernels.bfloat16, self.data)
            self._rounded = [wrap(self.segment(self.rounded, i)) for i in range(len(self.params))]
            for t in self._rounded:
                t._counter[0] = -1
            self._round()
        elif self._rounded[i]._counter[0] != p._counter[0]:
            self._round()
        return self._rounded[i].data

    def refresh_rounded(self) -> None:
        """Round again where a parameter was changed by anything but a step."""
        if any(t._counter[0] != p._counter[0] for t, p in zip(self._rounded, self.params)):
            self._round()

    def _round(self) -> None:
        k, session = kernels.of(self.data), recording.session
        stale = [(t, p) for t, p in zip(self._rounded, self.params) if t._counter[0] != p._counter[0]]
        if session is not None and not session.runs and not all(session.has_changed(p) for _, p in stale):
            recording.refuse("weights that changed between the step's first and second call")
            return
        k.assign(self.rounded, k.cast(self.data, "bfloat16"))
        for t, p in stale:
            if session is not None and not session.runs:  # replays count what the step has changed by itself
                for _ in range(p._counter[0] - t._counter[0]):
                    session.changed(t)
            t._counter[0] = p._counter[0]

    def _bring_home(self, i: int) -> None:
        p, home, slot = self.params[i], self.homes[i], self.slots[i]
        if p.data.dtype != self.dtype or p.data.shape != home.shape:
            raise RuntimeError(
                f"optimizer: parameter {i} was {self.dtype} of shape {home.shape} when it was handed over and is "
                f"now {p.data.dtype} of shape {p.data.shape}; make a new optimizer after such a change"
            )
        if kernels.on_gpu(p.data) != kernels.on_gpu(home):
            raise RuntimeError(
                f"optimizer: parameter {i} has been moved to {p.device!r} since it was handed over; make a new "
                "optimizer after such a change"
            )
        home[...] = p.data
        p.data, p._home = home, (weakref.ref(self), i)  # weak: memory on a GPU is not to wait for the collector
        if p._grad is not None and p._grad.data is p._grad_slot:
            slot[...] = p._grad.data
            p._grad = wrap(slot)
        p._grad_slot, p._slot_counter = slot, [0]

    def runs(self) -> Iterator[tuple[slice, int, int, int]]:
        """Runs of neighbours with a gradient and the same number of steps: (elements, first, past the last, steps).

        Parameters and gradients that were replaced since (`p.data = ...`, `p.grad = ...`, another optimizer)
        are copied in first.
        """
        count, first = len(self.params), 0
        session = recording.session
        if session is None and self._is_one_run():
            yield slice(0, self.data.size), 0, count, self.steps[0]
            return
        for i in range(count + 1):
            if i < count:
                p = self.params[i]
                if session is not None:
                    session.grad_read(p)
                grad = p._grad
                if grad is not None:
                    if p.data is not self.homes[i]:
                        recording.refuse("the first step with parameters replaced since the optimizer was made")
                        self._bring_home(i)
                        grad = p._grad
                    if grad.data is not self.slots[i]:
                        kernels.of(grad.data).assign(self.slots[i], grad.data)
                    if i == first or self.steps[i] == self.steps[first]:
                        continue
            if first < i:
                yield self._elements(first, i), first, i, self.steps[first]
            first = i if i < count and grad is not None else i + 1

    def _is_one_run(self) -> bool:
        """Everything is where it was put, has a gradient and the same number of steps: the usual case, found fast."""
        for p, home, slot in zip(self.params, self.homes, self.slots):
            grad = p._grad
            if grad is None or grad.data is not slot or p.data is not home:
                return False
        return self.steps.count(self.steps[0]) == len(self.steps)

    def count_step(self, first: int, last: int, steps: int) -> None:
        """Note that parameters [first, last) were updated and have now been so `steps` times."""
        self.steps[first:last] = [steps] * (last - first)
        changed(*self.params[first:last])
        for t, p in zip(self._rounded[first:last], self.params[first:last]):
            changed(t)
            t._counter[0] = p._counter[0]

    def _elements(self, first: int, last: int) -> slice:
        return slice(self.starts[first], self.starts[last] if last < len(self.params) else self.data.size)
