"""Hooks of a module: the call path that runs them, and the handle that removes them.

A backward hook wants the gradients of all inputs at once, while an operation has one output and so one
gradient. Two operations that compute nothing solve it: every tapped tensor passes through a `_Port`, whose
backward leaves its gradient with the `_Junction` all of them lead to; the junction comes up once every port
is done, calls back with the list, and sends the gradients on.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from fastdl import recording
from fastdl.autograd import Operation, is_grad_enabled
from fastdl.tensor import Tensor, wrap

_ids = itertools.count()


class RemovableHandle:
    """Removes a hook: by `remove()`, or at the end of a `with` block."""

    def __init__(self, module, hooks: dict) -> None:
        self.id = next(_ids)
        self._module, self._hooks = module, hooks

    def remove(self) -> None:
        """Take the hook away; a second call does nothing."""
        self._hooks.pop(self.id, None)
        _note(self._module)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exc) -> None:
        self.remove()


def _note(module) -> None:
    """Tell the module whether it has hooks, so that a call without any tests one flag."""
    module.__dict__["_hooked"] = bool(module._forward_pre_hooks or module._forward_hooks or module._backward_hooks)
    recording.settings[0] = object()


def add_hook(module, hooks: dict, hook: Callable, prepend: bool, with_kwargs: bool) -> RemovableHandle:
    """Append (or prepend) a hook to one of the module's tables."""
    if not callable(hook):
        raise TypeError(f"hook must be callable, got {hook!r}")
    handle = RemovableHandle(module, hooks)
    entry = {handle.id: (hook, with_kwargs)}
    if prepend:
        entry.update(hooks)
        hooks.clear()
    hooks.update(entry)
    _note(module)
    return handle


def run_with_hooks(module, args: tuple, kwargs: dict):
    """`module(*args, **kwargs)` with all its hooks, in the order of their registration."""
    recording.refuse(f"hooks on {type(module).__name__}, which are Python code that only runs while recording")
    for hook, with_kwargs in tuple(module._forward_pre_hooks.values()):
        args, kwargs = _call_pre_hook(module, hook, with_kwargs, args, kwargs)
    taps = BackwardTaps(module) if module._backward_hooks and is_grad_enabled() else None
    if taps:
        args = taps.inputs(args)
    output = module.forward(*args, **kwargs)
    for hook, with_kwargs in tuple(module._forward_hooks.values()):
        result = hook(module, args, kwargs, output) if with_kwargs else hook(module, args, output)
        if result is not None:
            output = result
    return taps.outputs(output) if taps else output


def _call_pre_hook(module, hook, with_kwargs, args, kwargs) -> tuple[tuple, dict]:
    if not with_kwargs:
        result = hook(module, args)
        if result is None:
            return args, kwargs
        return (result if isinstance(result, tuple) else (result,)), kwargs
    result = hook(module, args, kwargs)
    if result is None:
        return args, kwargs
    if not (isinstance(result, tuple) and len(result) == 2):
        raise RuntimeError(f"forward pre-hook must return None or a tuple of (new_args, new_kwargs), but got {result}")
    return result


class _Junction(Operation):
    """Where the gradients of several tensors meet; calls `meet(grads)`, which returns the ones to send on."""

    __slots__ = ("arrays", "grads", "meet")

    def __init__(self, tensors, meet: Callable) -> None:
        self.edges = [t._node or t for t in tensors]
        self.saved, self.watched = (), []
        self.arrays = [t.data for t in tensors]
        self.grads = [None] * len(tensors)
        self.meet = meet

    def backward(self, dy):
        grads, self.grads = self.grads, [None] * len(self.edges)
        return [np.zeros_like(x) if g is None else g for g, x in zip(self.meet(grads), self.arrays)]


class _Port(Operation):
    """One tensor on its way through a junction, unchanged."""

    __slots__ = ("index", "junction")
    fresh = True

    def __init__(self, junction: _Junction, index: int) -> None:
        self.edges = [junction]
        self.saved, self.watched = (), []
        self.junction, self.index = junction, index

    def backward(self, dy):
        self.junction.grads[self.index] = dy
        return [np.zeros(())]  # only a sign for the junction that this port is done


def _tap(values: tuple, meet: Callable) -> tuple:
    """values, with the tensors that require grad led through a junction; meet gets one entry per value."""
    places = [i for i, v in enumerate(values) if isinstance(v, Tensor) and v.requires_grad]
    if not places:
        return values

    def meet_all(grads):
        full = [None] * len(values)
        for place, grad in zip(places, grads):
            full[place] = grad
        full = meet(full)
        return [full[place] for place in places]

    junction = _Junction([values[i] for i in places], meet_all)
    tapped = list(values)
    for index, place in enumerate(places):
        tensor = values[place]
        out = tapped[place] = wrap(tensor.data)
        out._counter, out._seen = tensor._counter, tensor._counter[0]
        out._base = tensor if tensor._base is None else tensor._base
        out._requires, out._node = True, _Port(junction, index)
    return tuple(tapped)


class BackwardTaps:
    """Watches one call of a module: the gradients of its outputs and inputs, for its full backward hooks."""

    def __init__(self, module) -> None:
        self.module = module
        self.grad_output = ()
        self.tapped_inputs = False
        self.count = 0

    def inputs(self, args: tuple) -> tuple:
        """The arguments, tapped."""
        tapped = _tap(args, self._call_hooks)
        self.tapped_inputs = tapped is not args
        self.count = len(args)
        return tapped

    def outputs(self, output):
        """The output (a tensor, or a tuple of them), tapped."""
        single = not isinstance(output, tuple)
        tapped = _tap((output,) if single else output, self._keep_grad_output)
        return tapped[0] if single else tapped

    def _keep_grad_output(self, grads: list) -> list:
        self.grad_output = _tensors(grads)
        if not self.tapped_inputs:
            self._call_hooks([None] * self.count)
        return grads

    def _call_hooks(self, grads: list) -> list:
        grad_input = _tensors(grads)
        for hook, _ in tuple(self.module._backward_hooks.values()):
            result = hook(self.module, grad_input, self.grad_output)
            if result is None:
                continue
            result = result if isinstance(result, tuple) else (result,)
            if len(result) != len(grad_input):
                raise RuntimeError(f"backward hook returned {len(result)} gradients, grad_input has {len(grad_input)}")
            grad_input = result
        return [None if g is None else g.data for g in grad_input]


def _tensors(grads: list) -> tuple:
    return tuple(None if g is None else wrap(g) for g in grads)
