"""What a recorded step depends on besides its inputs: modes, parameters, gradients, optimizers, random streams."""

from __future__ import annotations

import functools
import sys
import threading
from pathlib import Path

import numpy as np

from . import autograd, kernels, recording
from .functional import precision

_HERE = str(Path(__file__).parent)


class Session:
    """Notes taken while a step runs for the first time, and the checks and updates that its replays need.

    program: the `fastdl._cpu.Program` that the kernels are recorded into.
    """

    runs = True  # the kernels run as they are called

    def __init__(self, program):
        self.program = program
        self.reasons: list[str] = []
        self._thread = threading.get_ident()
        self.grad_enabled, self.autocast = autograd.is_grad_enabled(), precision.mode.where
        self.backend = kernels.host()
        self.modules: dict = {}  # module: its settings
        self.arrays: dict = {}  # tensor: the array it had
        self._named: list = []  # (registry, name, tensor) of the modules' tensors
        self._grads: dict = {}  # leaf: its .grad when it was first read; absent if it was overwritten first
        self._touched: dict = {}  # leaves in the order in which .grad was touched
        self.generators: list = []  # [generator, draws of one step]
        self.updates: list[Update] = []
        self._changes: dict = {}  # id of a tensor's counter of changes in place: [the counter, changes of one step]

    # -- notes, called through fastdl.recording -----------------------------------------------------------------

    def refuse(self, what: str) -> None:
        """The step does something that a replay would not do again."""
        if threading.get_ident() == self._thread:
            place = _caller()
            self.reasons.append(f"{what} ({place})" if place else what)

    def on_gpu(self, arrays) -> None:
        """A kernel runs on the GPU, which this recording, on the host, does not see."""
        self.refuse("kernels on the GPU in a step without inputs there")

    def keep(self, array) -> None:
        """The step reads this array, which must live as long as its program."""

    def leaves(self, what: str, array) -> None:
        """Values leave for Python: no harm if they are the same in every step."""
        if isinstance(array, np.ndarray) and self.program.varies(array):
            self.refuse(f"{what}, which hands a value that changes from step to step to Python or NumPy")

    outside = leaves  # NumPy's results are constants of the program

    def module(self, module) -> None:
        """A module is called: its mode, its settings and its tensors are part of the program."""
        if module not in self.modules:
            # With all below it: what has no call of its own (lists, layers that are fused) may be gone by, too.
            for below in module.modules():
                if below not in self.modules:
                    self._note(below)

    def _note(self, module) -> None:
        self.modules[module] = _settings(module)
        for registry in (module._parameters, module._buffers):
            for name, tensor in registry.items():
                if tensor is not None:
                    self.arrays.setdefault(tensor, tensor.data)
                    self._named.append((registry, name, tensor))

    def grad_read(self, leaf) -> None:
        """The gradient of a leaf is read or added to."""
        if leaf not in self._touched:
            self._touched[leaf] = True
            self._grads[leaf] = leaf._grad
            self.arrays.setdefault(leaf, leaf.data)

    def grad_set(self, leaf) -> None:
        """The gradient of a leaf is replaced."""
        if leaf not in self._touched:
            self._touched[leaf] = True
            self.arrays.setdefault(leaf, leaf.data)

    def changed(self, tensor) -> None:
        """A tensor's memory is changed in place."""
        self._changes.setdefault(id(tensor._counter), [tensor._counter, 0])[1] += 1

    def has_changed(self, tensor) -> bool:
        """Whether the step has changed this tensor's memory in place so far."""
        return id(tensor._counter) in self._changes

    def draw(self, generator, counter: int, on_host: bool):
        """The generator is asked for its next stream; what a kernel takes as its counter."""
        for entry in self.generators:
            if entry[0] is generator:
                entry[1] += 1
                return counter
        if any(entry[0].seed == generator.seed for entry in self.generators):
            self.refuse("two generators with the same seed")
        self.generators.append([generator, 1])
        self.program.add_generator(generator.seed, generator.counter)
        return counter

    def cursor(self, loader) -> int:
        """A batch is made at `loader.current`, which moves from step to step; what a kernel takes as its number."""
        self.refuse("a batch of data in the host's memory; make it before the step")
        return loader.current

    def rounded(self, flat) -> None:
        """The copy of a flat buffer in bfloat16 is read; there is none on the host."""

    def number(self, value, dtype) -> np.ndarray:
        """A 0-d array that kernels read and replays write to."""
        return np.array(value, dtype)

    def place_of(self, number) -> np.ndarray:
        """Where a replay writes that number."""
        return number

    def update(self, flat, group: dict, first: int, last: int, steps: int) -> Update:
        """An optimizer updates parameters [first, last) of a flat buffer."""
        lr, step = self.number(float(group["lr"]), np.float64), self.number(steps + 1, np.int64)
        update = Update(flat, group, first, last, steps, lr, step)
        self.updates.append(update)
        return update

    # -- after the recording -------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Hand the notes to the program, which checks and updates Python's side in every replay."""
        program = self.program
        program.watch_attribute(autograd._mode, "enabled", self.grad_enabled)
        program.watch_attribute(precision.mode, "where", self.autocast)
        program.watch(kernels.__dict__, "_host", self.backend)
        for module, before in self.modules.items():
            program.watch(module.__dict__, "training", before.pop("training"))
            after = _settings(module)  # what the step sets itself is its own business
            self.modules[module] = {name: value for name, value in before.items() if _is(after.get(name, self), value)}
        program.watch_settings(recording.settings, functools.partial(_settings_hold, self.modules))
        for registry, name, tensor in self._named:
            program.watch(registry, name, tensor)
        for tensor, array in self.arrays.items():
            program.watch(tensor.__dict__, "data", array)
            program.watch(tensor.__dict__, "_requires", tensor.__dict__.get("_requires"))
        for leaf, grad in self._grads.items():
            program.watch(leaf.__dict__, "_grad", grad)
        for leaf, gradient in self.new_gradients():
            program.add_gradient(leaf.__dict__, gradient)
        for u in self.updates:
            numbers = self.place_of(u.lr), self.place_of(u.step)
            program.add_update(u.group, _options(u.group), u.flat.steps, u.first, u.last, u.counts, *numbers)
        for generator, draws in self.generators:
            program.add_draws(generator.__dict__, draws)
        for counter, changes in self._changes.values():
            program.add_changes(counter, changes)

    def new_gradients(self) -> list:
        """(leaf, gradient) of the leaves whose .grad the step replaced."""
        return [(leaf, leaf._grad) for leaf in self._touched if leaf._grad is not self._grads.get(leaf, self)]

    def gradients(self) -> list:
        """The gradients of the leaves that the step touched: arrays, or None."""
        return [None if leaf._grad is None else leaf._grad.data for leaf in self._touched]


class Update:
    """One kernel call of an optimizer: the learning rate and the step count live in arrays that the program reads."""

    def __init__(self, flat, group: dict, first: int, last: int, steps: int, lr, step):
        self.flat, self.group, self.first, self.last = flat, group, first, last
        self.steps, self.lr, self.step = steps, lr, step
        self.counts = False  # whether the optimizer counts steps, set when it has updated


def _settings(module) -> dict:
    """What a module's forward pass may go by besides its parameters and buffers: plain attributes, and children."""
    tensors = (*module._parameters, *module._buffers)
    found = {name: value for name, value in module.__dict__.items() if name not in tensors}
    found["_modules"] = tuple(map(id, module._modules.values()))
    return found


def _settings_hold(modules: dict) -> bool:
    """Whether the modules have the settings of the recording; asked when one of any module was set."""
    for module, before in modules.items():
        now = _settings(module)
        if not all(_is(now.get(name, modules), value) for name, value in before.items()):
            return False
    return True


def _is(a, b) -> bool:
    """Whether two settings are one object, or equal numbers, words or tuples of them."""
    if a is b or type(a) is not type(b):
        return a is b
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(_is, a, b))
    return isinstance(a, (int, float, str)) and a == b


def _options(group: dict) -> dict:
    return {key: value for key, value in group.items() if key not in ("lr", "params")}


def _caller() -> str:
    """Where the step's own code, outside this package, is now: "train.py:12"."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith(_HERE):
            return f"{Path(name).name}:{frame.f_lineno}"
        frame = frame.f_back
    return ""
