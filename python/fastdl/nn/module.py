"""The base class of all layers: parameters, buffers, children, modes, hooks.

What is registered lives twice: in the ordered registries `_parameters`, `_buffers` and `_modules`, which
the traversals walk, and in `__dict__`, so that reading `self.weight` in a forward pass is a plain attribute
lookup.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from fastdl import kernels, recording
from fastdl.autograd import clear_grad
from fastdl.nn import _state
from fastdl.nn.hooks import RemovableHandle, add_hook, run_with_hooks
from fastdl.nn.parameter import Parameter
from fastdl.tensor import Tensor

_KINDS = {"_parameters": "parameter", "_buffers": "buffer", "_modules": "module"}


class Module:
    """Base class of all layers and models, as `torch.nn.Module`.

    A subclass calls `super().__init__()`, assigns parameters and other modules as attributes, and defines
    `forward`.

    >>> class Twice(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.inner = nn.Linear(3, 3)
    ...     def forward(self, x):
    ...         return self.inner(self.inner(x))
    """

    training: bool

    def __init__(self) -> None:
        self.__dict__.update(
            training=True,
            _parameters={},
            _buffers={},
            _modules={},
            _non_persistent=set(),
            _forward_pre_hooks={},
            _forward_hooks={},
            _backward_hooks={},
            _hooked=False,
        )

    def forward(self, *args, **kwargs):
        """Compute the module's result; every subclass defines it."""
        raise NotImplementedError(f'Module [{type(self).__name__}] is missing the required "forward" function')

    def __call__(self, *args, **kwargs):
        if recording.session is not None:
            recording.session.module(self)
        if self._hooked:
            return run_with_hooks(self, args, kwargs)
        return self.forward(*args, **kwargs)

    # Registration ---------------------------------------------------------------------------------------

    def _register(self, registry: str, name: str, value) -> None:
        """Put `value` under `name` into one registry, and into no other."""
        kind = _KINDS[registry]
        if registry not in self.__dict__:
            raise AttributeError(f"cannot assign a {kind} before Module.__init__() call")
        if not isinstance(name, str):
            raise TypeError(f"{kind} name should be a string, got {type(name).__name__}")
        if "." in name or not name:
            raise KeyError(f'{kind} name can\'t be empty or contain ".", got {name!r}')
        if name not in self.__dict__[registry] and hasattr(self, name):
            raise KeyError(f"attribute '{name}' already exists")
        self.__dict__[registry][name] = value
        self.__dict__[name] = value
        recording.settings[0] = object()

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Add a parameter, read as `self.<name>`; None reserves the name. Raises KeyError if it is taken."""
        if param is not None and not isinstance(param, Parameter):
            raise TypeError(f"cannot assign {type(param).__name__} to parameter '{name}': Parameter or None required")
        self._register("_parameters", name, param)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Add a tensor that is state but not trained; with persistent=False it stays out of `state_dict`."""
        if tensor is not None and (not isinstance(tensor, Tensor) or isinstance(tensor, Parameter)):
            raise TypeError(f"cannot assign {type(tensor).__name__} to buffer '{name}': Tensor or None required")
        self._register("_buffers", name, tensor)
        (self._non_persistent.discard if persistent else self._non_persistent.add)(name)

    def register_module(self, name: str, module: Module | None) -> None:
        """Add a child module, read as `self.<name>`; the same as `add_module`."""
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"{type(module).__name__} is not a Module subclass")
        self._register("_modules", name, module)

    add_module = register_module

    def __setattr__(self, name: str, value) -> None:
        registered = self._registry_of(name)
        if isinstance(value, Parameter):
            self._move(name, registered, "_parameters", value)
        elif isinstance(value, Module):
            self._move(name, registered, "_modules", value)
        elif registered is None:
            object.__setattr__(self, name, value)
            recording.settings[0] = object()  # after the change: a replay in another thread may look in between
        elif value is None or (registered == "_buffers" and isinstance(value, Tensor)):
            self._register(registered, name, value)
        else:
            want = {"_parameters": "Parameter", "_buffers": "Tensor", "_modules": "Module"}[registered]
            raise TypeError(
                f"cannot assign {type(value).__name__} to {_KINDS[registered]} '{name}': {want} or None required"
            )

    def _registry_of(self, name: str) -> str | None:
        return next((r for r in _KINDS if name in self.__dict__.get(r, ())), None)

    def _move(self, name: str, old: str | None, new: str, value) -> None:
        """Register `value`, taking over a name that is a plain attribute or registered as another kind."""
        if new not in self.__dict__:
            raise AttributeError(f"cannot assign a {_KINDS[new]} before Module.__init__() call")
        if old != new and name in self.__dict__:
            delattr(self, name)
        self._register(new, name, value)

    def __delattr__(self, name: str) -> None:
        registered = self._registry_of(name)
        if registered is not None:
            del self.__dict__[registered][name]
            self._non_persistent.discard(name)
        object.__delattr__(self, name)
        recording.settings[0] = object()

    # Traversal ------------------------------------------------------------------------------------------

    def named_modules(self, memo: set | None = None, prefix: str = "", remove_duplicate: bool = True) -> Iterator:
        """Pairs of dotted name and module, this one ("") first; a shared module comes once."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                yield from module.named_modules(memo, f"{prefix}.{name}" if prefix else name, remove_duplicate)

    def modules(self) -> Iterator[Module]:
        """This module and all below it."""
        for _, module in self.named_modules():
            yield module

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Pairs of name and module of the direct children."""
        memo = set()
        for name, module in self._modules.items():
            if module is not None and module not in memo:
                memo.add(module)
                yield name, module

    def children(self) -> Iterator[Module]:
        """The direct children."""
        for _, module in self.named_children():
            yield module

    def _named_members(self, registry: str, prefix: str, recurse: bool, remove_duplicate: bool) -> Iterator:
        memo = set()
        modules = self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate) if recurse else [(prefix, self)]
        for path, module in modules:
            for name, value in module.__dict__[registry].items():
                if value is None or id(value) in memo:
                    continue
                if remove_duplicate:
                    memo.add(id(value))
                yield (f"{path}.{name}" if path else name), value

    def named_parameters(self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True) -> Iterator:
        """Pairs of dotted name and parameter; a shared parameter comes once, under its first name."""
        return self._named_members("_parameters", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """The parameters of this module and, with recurse, of all below it."""
        for _, parameter in self.named_parameters(recurse=recurse):
            yield parameter

    def named_buffers(self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True) -> Iterator:
        """Pairs of dotted name and buffer."""
        return self._named_members("_buffers", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """The buffers of this module and, with recurse, of all below it."""
        for _, buffer in self.named_buffers(recurse=recurse):
            yield buffer

    def get_submodule(self, target: str) -> Module:
        """The module with this dotted name, "" for this one. Raises AttributeError if there is none."""
        module = self
        for name in target.split(".") if target else ():
            if module._modules.get(name) is None:
                raise AttributeError(f"{type(module).__name__} has no submodule '{name}' (looking for '{target}')")
            module = module._modules[name]
        return module

    def get_parameter(self, target: str) -> Parameter:
        """The parameter with this dotted name. Raises AttributeError if there is none."""
        return self._get("_parameters", target)

    def get_buffer(self, target: str) -> Tensor:
        """The buffer with this dotted name. Raises AttributeError if there is none."""
        return self._get("_buffers", target)

    def _get(self, registry: str, target: str) -> Tensor:
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        value = module.__dict__[registry].get(name)
        if value is None:
            kind = _KINDS[registry]
            raise AttributeError(f"{type(module).__name__} has no {kind} '{name}' (looking for '{target}')")
        return value

    # Modes and conversions ------------------------------------------------------------------------------

    def apply(self, fn: Callable[[Module], None]) -> Module:
        """Call fn on every module below this one and then on this one; returns self."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    def train(self, mode: bool = True) -> Module:
        """Set training mode (dropout active, batch statistics in BatchNorm) here and below; returns self."""
        if not isinstance(mode, bool):
            raise ValueError(f"train: mode must be True or False, got {mode!r}")
        for module in self.modules():
            module.__dict__["training"] = mode
        return self

    def eval(self) -> Module:
        """Set evaluation mode here and below; returns self."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Module:
        """Say for all parameters whether backward computes their gradients; returns self."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters, or fill them with zeros."""
        for parameter in self.parameters():
            clear_grad(parameter, set_to_none)

    def to(self, *args, device=None, dtype=None) -> Module:
        """Move to a device and convert float parameters and buffers to a dtype, in place; returns self.

        `to("cpu")`, `to("float64")`, `to(device, dtype)` and the keywords all work; integer buffers keep
        their dtype. Convert before the optimizer is made: the converted tensors have new memory.
        """
        _state.convert(self, *_state.parse_to(args, device, dtype))
        return self

    def cuda(self) -> Module:
        """Move to the GPU; the same as `to("cuda")`."""
        return self.to("cuda")

    def cpu(self) -> Module:
        """Move to the host's memory."""
        return self.to(kernels.host().name)

    def float(self) -> Module:
        """Convert to float32; the same as `to("float32")`."""
        return self.to(dtype=np.float32)

    def double(self) -> Module:
        """Convert to float64; the same as `to("float64")`."""
        return self.to(dtype=np.float64)

    def bfloat16(self) -> Module:
        """Convert to bfloat16; the same as `to("bfloat16")`. To train, leave the weights and use `fastdl.autocast`."""
        return self.to(dtype="bfloat16")

    # State ----------------------------------------------------------------------------------------------

    def state_dict(self, *, destination: dict | None = None, prefix: str = "", keep_vars: bool = False) -> dict:
        """Dotted names and tensors of all parameters and persistent buffers, in PyTorch's order.

        The tensors share memory with the module and carry no graph; with keep_vars they are the parameters
        themselves.
        """
        state = {} if destination is None else destination
        for path, module in self.named_modules(prefix=prefix.removesuffix("."), remove_duplicate=False):
            for name, value in module._own_state():
                state[f"{path}.{name}" if path else name] = value if keep_vars else value.detach()
        return state

    def _own_state(self) -> Iterator[tuple[str, Tensor]]:
        """Parameters and persistent buffers of this module alone."""
        for name, value in self._parameters.items():
            if value is not None:
                yield name, value
        for name, value in self._buffers.items():
            if value is not None and name not in self._non_persistent:
                yield name, value

    def load_state_dict(self, state_dict: dict, strict: bool = True) -> _state.IncompatibleKeys:
        """Copy the values of `state_dict` into the parameters and buffers, in place.

        Args:
            state_dict: names and values; fastdl tensors, NumPy arrays or PyTorch tensors, converted to the
                dtype here.
            strict: refuse missing and unexpected names; wrong shapes are always refused.

        Returns the lists (missing_keys, unexpected_keys). Raises RuntimeError listing everything that
        doesn't fit; then nothing has been copied.
        """
        return _state.load(self, state_dict, strict)

    # Hooks ----------------------------------------------------------------------------------------------

    def register_forward_pre_hook(self, hook: Callable, *, prepend=False, with_kwargs=False) -> RemovableHandle:
        """Call `hook(module, args)` before forward; what it returns, unless None, replaces the arguments.

        With with_kwargs: `hook(module, args, kwargs)`, which returns None or (args, kwargs).
        """
        return add_hook(self, self._forward_pre_hooks, hook, prepend, with_kwargs)

    def register_forward_hook(self, hook: Callable, *, prepend=False, with_kwargs=False) -> RemovableHandle:
        """Call `hook(module, args, output)` after forward; what it returns, unless None, replaces the output.

        With with_kwargs: `hook(module, args, kwargs, output)`.
        """
        return add_hook(self, self._forward_hooks, hook, prepend, with_kwargs)

    def register_full_backward_hook(self, hook: Callable, prepend: bool = False) -> RemovableHandle:
        """Call `hook(module, grad_input, grad_output)` once the gradients of the module's inputs are known.

        Both are tuples with None where there is no gradient; what the hook returns, unless None, replaces
        grad_input.
        """
        return add_hook(self, self._backward_hooks, hook, prepend, False)

    # Description ----------------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """The constructor arguments that `repr` shows; layers override it."""
        return ""

    def _get_name(self) -> str:
        return type(self).__name__

    def __repr__(self) -> str:
        extra = self.extra_repr()
        lines = extra.split("\n") if extra else []
        children = [f"({n}): " + repr(m).replace("\n", "\n  ") for n, m in self._modules.items()]
        if not children and len(lines) <= 1:
            return f"{self._get_name()}({extra})"
        return f"{self._get_name()}(\n  " + "\n  ".join(lines + children) + "\n)"
