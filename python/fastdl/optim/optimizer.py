"""The base class of optimizers: parameter groups over flat buffers, state, saving and loading."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from .. import kernels, recording
from ..autograd import clear_grad, enable_grad
from ..tensor import Tensor, wrap
from . import _check as check
from .flat import FlatBuffer


class Optimizer:
    """Updates parameters from their gradients; the interface follows `torch.optim.Optimizer`.

    A parameter handed over is re-homed: its memory, its gradient and the optimizer's state of a whole group lie
    in one buffer each, so that a step is one kernel call per group. `p.data` is a view of that buffer then;
    views taken before no longer show the parameter.

    Args:
        params: an iterable of leaf Tensors, or of dicts with the key "params" and options of their own.
        defaults: the options of groups that don't set their own.

    Attributes:
        param_groups: a list of dicts with "params" and every option; options may be changed between steps.
        state: {parameter: {name: Tensor, "step": int}}; the Tensors are views of the state buffers.

    Raises:
        TypeError: params is a Tensor or a set, or holds something else than float Tensors.
        ValueError: no parameters, a parameter given twice, a non-leaf, an option out of range.
    """

    # Options found in PyTorch's checkpoints that choose an implementation or are off by default.
    _FOREIGN = ("foreach", "fused", "capturable", "differentiable", "maximize")
    _STATES: tuple[str, ...] = ()  # every name that `_state_names` may return

    def __init__(self, params: Iterable, defaults: dict):
        check.number(self._name, "lr", defaults["lr"], 0)
        self.defaults = defaults
        self.param_groups: list[dict] = []
        self._buffers: list[list[FlatBuffer]] = []
        groups = self._list_of(params)
        if not groups:
            raise ValueError(f"{self._name}: params must hold at least one parameter, got an empty list")
        if not isinstance(groups[0], Mapping):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    @property
    def _name(self) -> str:
        return type(self).__name__

    # What a subclass defines.

    def _checked(self, group: dict) -> dict:
        """The group's options in their plain types (float, bool); raises for one that is not allowed."""
        raise NotImplementedError

    def _state_names(self, group: dict) -> tuple[str, ...]:
        """The names of the state arrays that a step with these options reads and writes."""
        raise NotImplementedError

    def _update(self, kernel, group: dict, param, grad, state: dict, step: int, rounded) -> None:
        """Update the flat array `param` in place, and `rounded`, its copy in bfloat16, where that is not None.

        step counts from 1 and `state` maps names to flat arrays.
        """
        raise NotImplementedError

    # Groups.

    def _list_of(self, params) -> list:
        if isinstance(params, (Tensor, Mapping)) or not isinstance(params, Iterable):
            raise TypeError(
                f"{self._name}: params must be an iterable of Tensors or dicts, got {type(params).__name__}"
            )
        if isinstance(params, (set, frozenset)):
            raise TypeError(f"{self._name}: params must be ordered, got {type(params).__name__}")
        return list(params)

    def add_param_group(self, param_group: dict) -> None:
        """Add a group of parameters: a dict with "params" (a Tensor or an iterable) and options of its own."""
        if not isinstance(param_group, Mapping):
            raise TypeError(f"{self._name}: param_group must be a dict, got {type(param_group).__name__}")
        if "params" not in param_group:
            raise ValueError(f"{self._name}: param_group must have the key 'params', got {sorted(param_group)}")
        params = param_group["params"]
        params = [params] if isinstance(params, Tensor) else self._list_of(params)
        known = {id(p) for group in self.param_groups for p in group["params"]}
        for i, p in enumerate(params):
            self._check_param(i, p)
            if id(p) in known:
                raise ValueError(f"{self._name}: params must not repeat, got parameter {i} of a group twice")
            known.add(id(p))
        if not params:
            raise ValueError(f"{self._name}: params must hold at least one parameter, got an empty list")
        group = {**self.defaults, **param_group, "params": params}
        check.number(self._name, "lr", group["lr"], 0)  # a schedule may take it below 0 later
        group.update(self._checked(group))
        self.param_groups.append(group)
        kinds: dict = {}
        for p in params:
            kinds.setdefault((p.dtype, kernels.on_gpu(p.data)), []).append(p)
        self._buffers.append([FlatBuffer(alike) for alike in kinds.values()])

    def _check_param(self, i: int, p) -> None:
        if not isinstance(p, Tensor):
            raise TypeError(f"{self._name}: params must hold Tensors, got {type(p).__name__} at {i}")
        if p.dtype not in (np.float32, np.float64):
            raise TypeError(f"{self._name}: params must be float32 or float64, got {p.dtype} at {i}")
        if not p.is_leaf:
            raise ValueError(f"{self._name}: params must be leaf Tensors, got the result of an operation at {i}")

    # Stepping.

    def step(self, closure: Callable | None = None):
        """Update every parameter that has a gradient; returns closure(), which is called first if given."""
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        for group, buffers in zip(self.param_groups, self._buffers):
            names = self._state_names(group)
            for flat in buffers:
                self._step_buffer(flat, group, names)
        return loss

    def _step_buffer(self, flat: FlatBuffer, group: dict, names: tuple[str, ...]) -> None:
        kernel = kernels.of(flat.data)
        for elements, first, last, steps in flat.runs():
            state = {name: flat.state(name)[elements] for name in names}
            options, step = group, steps + 1
            if recording.session is not None:  # a replay reads lr and the step from memory
                update = recording.session.update(flat, group, first, last, steps)
                update.counts = bool(names)
                options, step = {**group, "lr": update.lr}, update.step
            rounded = None if flat.rounded is None else flat.rounded[elements]
            self._update(kernel, options, flat.data[elements], flat.grad[elements], state, step, rounded)
            flat.count_step(first, last, steps + 1 if names else 0)  # without state a step leaves no trace

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop every gradient, or with set_to_none=False fill those that exist with zeros."""
        for group in self.param_groups:
            for p in group["params"]:
                clear_grad(p, set_to_none)

    # Saving and loading.

    def _located(self) -> list[tuple[FlatBuffer, int]]:
        """For every parameter, in the order of the groups: its buffer and its number there."""
        places = {id(p): (flat, i) for group in self._buffers for flat in group for i, p in enumerate(flat.params)}
        return [places[id(p)] for group in self.param_groups for p in group["params"]]

    def _state_of(self, flat: FlatBuffer, i: int) -> dict:
        if not flat.steps[i]:
            return {}
        found = {name: wrap(flat.segment(array, i)) for name, array in flat.states.items()}
        return {"step": flat.steps[i], **found}

    @property
    def state(self) -> dict:
        """{parameter: {name: Tensor, "step": int}} for parameters that were updated; the Tensors are views."""
        found = ((flat.params[i], self._state_of(flat, i)) for flat, i in self._located())
        return {p: state for p, state in found if state}

    def state_dict(self) -> dict:
        """{"state": {number: {name: Tensor, "step": int}}, "param_groups": [...]}, structured as PyTorch's.

        Parameters are numbered through all groups. The Tensors show the optimizer's memory: copy them to keep them.
        """
        state, groups, count = {}, [], 0
        for number, (flat, i) in enumerate(self._located()):
            if found := self._state_of(flat, i):
                state[number] = found
        for group in self.param_groups:
            numbers = list(range(count, count + len(group["params"])))
            count += len(numbers)
            groups.append({**{k: v for k, v in group.items() if k != "params"}, "params": numbers})
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: dict) -> None:
        """Take over options and state saved by `state_dict`, of this optimizer or of PyTorch's.

        Raises:
            TypeError: state_dict or an entry of it is of the wrong type.
            ValueError: a part is missing, another number of groups or parameters, a state of another shape or of
                another optimizer, an option out of range or one that fastdl does not have (maximize).
                Nothing is changed then.
        """
        saved, states = self._parts(state_dict)
        options = [self._merged(i, group, new) for i, (group, new) in enumerate(zip(self.param_groups, saved))]
        located, found = self._located(), []
        for group, merged in zip(saved, options):
            for number in group["params"]:
                found.append(self._parsed(states.get(number, {}), *located[len(found)], merged))
        for group, merged in zip(self.param_groups, options):
            group.update(merged)
        for (flat, i), (step, arrays) in zip(located, found):
            flat.steps[i] = step
            for name in dict.fromkeys([*flat.states, *arrays]):
                own = flat.segment(flat.state(name), i)
                own[...] = kernels.beside(arrays[name], own) if name in arrays else 0

    def _parts(self, state_dict) -> tuple[list, Mapping]:
        """The saved groups and states, of which there are as many as here."""
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"load_state_dict: state_dict must be a dict, got {type(state_dict).__name__}")
        for key in ("state", "param_groups"):
            if key not in state_dict:
                raise ValueError(f"load_state_dict: state_dict must have the key {key!r}, got {sorted(state_dict)}")
        saved = state_dict["param_groups"]
        if len(saved) != len(self.param_groups):
            raise ValueError(f"load_state_dict: {len(self.param_groups)} parameter groups expected, got {len(saved)}")
        return saved, state_dict["state"]

    def _merged(self, i: int, group: dict, saved: Mapping) -> dict:
        """The options of group i after loading, checked."""
        if len(saved["params"]) != len(group["params"]):
            raise ValueError(
                f"load_state_dict: group {i} has {len(group['params'])} parameters, got {len(saved['params'])}"
            )
        if saved.get("maximize"):
            raise ValueError(f"load_state_dict: group {i} must have maximize False, got {saved['maximize']}")
        merged = {k: v for k, v in {**group, **saved}.items() if k not in self._FOREIGN and k != "params"}
        return {**merged, **self._checked(merged)}

    def _parsed(self, state: Mapping, flat: FlatBuffer, i: int, options: dict) -> tuple[int, dict]:
        """One parameter's saved state as (step, {name: array}), checked."""
        arrays, shape = {}, flat.params[i].shape
        for name, value in state.items():
            if name == "step" or value is None:
                continue
            if name not in self._STATES:
                raise ValueError(f"load_state_dict: {self._name} has the states {self._STATES}, got {name!r}")
            value = value.data if isinstance(value, Tensor) else value
            value = value if kernels.is_array(value) else np.asarray(value)
            if value.dtype.kind != "f":
                raise TypeError(f"load_state_dict: state {name!r} must be a float array, got {value.dtype}")
            if value.shape != shape:
                raise ValueError(f"load_state_dict: state {name!r} must have shape {shape}, got {value.shape}")
            arrays[name] = value
        step = check.integer("load_state_dict", "step", int(state.get("step", 1 if arrays else 0)), 0)
        missing = [name for name in self._state_names(options) if name not in arrays]
        if step and missing:
            raise ValueError(f"load_state_dict: the state of a parameter must hold {missing[0]!r}, got {[*arrays]}")
        return step, arrays

    def __repr__(self) -> str:
        lines = []
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines += [f"    {key}: {value}" for key, value in sorted(group.items()) if key != "params"]
        return f"{self._name} (\n" + "\n".join(lines) + "\n)"
