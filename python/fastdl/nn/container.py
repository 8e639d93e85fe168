"""Containers of modules: Sequential, ModuleList, ModuleDict."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping

from fastdl.kernels import on_gpu
from fastdl.nn.activation import ReLU
from fastdl.nn.module import Module
from fastdl.nn.relu import then_relu
from fastdl.tensor import Tensor


class _Numbered(Module):
    """Children in a row, named "0", "1", ... unless named otherwise; what Sequential and ModuleList share."""

    def _key(self, index) -> str:
        """The name of child number `index`, which may be negative."""
        size, index = len(self), operator.index(index)
        if not -size <= index < size:
            raise IndexError(f"index {index} is out of range for {type(self).__name__} of length {size}")
        return list(self._modules)[index]

    def _set_children(self, modules: Iterable[Module]) -> None:
        """Replace all children, numbering them from 0."""
        modules = list(modules)
        for name in list(self._modules):
            delattr(self, name)
        self.extend(modules)

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules.values())

    def __setitem__(self, index: int, module: Module) -> None:
        self.register_module(self._key(index), module)

    def __delitem__(self, index: int | slice) -> None:
        names = list(self._modules)[index] if isinstance(index, slice) else [self._key(index)]
        self._set_children(module for name, module in self._modules.items() if name not in set(names))

    def append(self, module: Module):
        """Add a module at the end; returns self."""
        number = len(self)
        while str(number) in self._modules:  # a slice keeps its names, so it need not start at "0"
            number += 1
        self.register_module(str(number), module)
        return self

    def extend(self, modules: Iterable[Module]):
        """Add several modules at the end; returns self."""
        for module in modules:
            self.append(module)
        return self

    def insert(self, index: int, module: Module):
        """Put a module before number `index`; the later ones move up. Returns self."""
        if not isinstance(module, Module):
            raise TypeError(f"{type(module).__name__} is not a Module subclass")
        modules = list(self)
        modules.insert(index, module)
        self._set_children(modules)
        return self

    def pop(self, index: int = -1) -> Module:
        """Remove a module and return it."""
        module = self._modules[self._key(index)]
        del self[index]
        return module


class Sequential(_Numbered):
    """Modules called one after another, each with the result of the one before.

    Made from modules, or from one ordered dict of names and modules. `model[i]` is a module, `model[a:b]` a
    Sequential that shares them.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    """

    def __init__(self, *args) -> None:
        super().__init__()
        if len(args) == 1 and isinstance(args[0], Mapping):
            for name, module in args[0].items():
                self.register_module(name, module)
        else:
            self.extend(args)

    def __getitem__(self, index: int | slice) -> Module:
        if isinstance(index, slice):
            return type(self)(dict(list(self._modules.items())[index]))
        return self._modules[self._key(index)]

    def forward(self, x):
        if isinstance(x, Tensor) and on_gpu(x.data):
            return self._fused(x)
        for module in self._modules.values():
            x = module(x)
        return x

    def _fused(self, x):
        """The same, with a ReLU made by the layer before it."""
        modules = [*self._modules.values(), None]
        skip = False
        for module, after in zip(modules, modules[1:]):
            if skip:
                skip = False
                continue
            skip = type(after) is ReLU and not after._hooked
            x = then_relu(module, x) if skip else module(x)
        return x


class ModuleList(_Numbered):
    """A list of modules whose parameters the owner sees; it has no forward of its own.

    >>> row = ModuleList([nn.Linear(2, 2), nn.ReLU()])
    >>> len(row), row[-1]
    (2, ReLU())
    """

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        super().__init__()
        self.extend(modules or ())

    def __getitem__(self, index: int | slice) -> Module:
        if isinstance(index, slice):
            return type(self)(list(self)[index])
        return self._modules[self._key(index)]


class ModuleDict(Module):
    """A dict of modules whose parameters the owner sees, in order of insertion; it has no forward.

    >>> table = ModuleDict({"act": nn.ReLU()})
    >>> table["act"](fd.tensor([-1.0, 1.0]))
    tensor([0., 1.])
    """

    def __init__(self, modules: Mapping[str, Module] | None = None) -> None:
        super().__init__()
        self.update(modules or {})

    def __getitem__(self, key: str) -> Module:
        return self._modules[key]

    def __setitem__(self, key: str, module: Module) -> None:
        self.register_module(key, module)

    def __delitem__(self, key: str) -> None:
        if key not in self._modules:
            raise KeyError(key)
        delattr(self, key)

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __contains__(self, key: str) -> bool:
        return key in self._modules

    def keys(self):
        """The names."""
        return self._modules.keys()

    def values(self):
        """The modules."""
        return self._modules.values()

    def items(self):
        """Pairs of name and module."""
        return self._modules.items()

    def update(self, modules: Mapping[str, Module]) -> None:
        """Add or replace modules from a mapping or from pairs."""
        for key, module in modules.items() if isinstance(modules, Mapping) else modules:
            self[key] = module

    def pop(self, key: str) -> Module:
        """Remove a module and return it."""
        module = self[key]
        del self[key]
        return module

    def clear(self) -> None:
        """Remove all."""
        for key in list(self):
            del self[key]
