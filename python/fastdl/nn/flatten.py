"""Flatten and Unflatten."""

from __future__ import annotations

from fastdl.nn import _check
from fastdl.nn.module import Module


class Flatten(Module):
    """Merge the dimensions start_dim..end_dim into one, in C order; by default all but the first.

    The order is that of the shape (N, C, H, W), whatever the order in memory, so the weights behind it are
    PyTorch's.

    >>> Flatten()(fd.ones(2, 3, 4)).shape
    (2, 12)
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim = _check.integer("Flatten", "start_dim", start_dim, low=-64)
        self.end_dim = _check.integer("Flatten", "end_dim", end_dim, low=-64)

    def forward(self, x):
        return x.flatten(self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """Split dimension dim into the shape unflattened_size; one entry may be -1.

    >>> Unflatten(1, (3, -1))(fd.ones(2, 12)).shape
    (2, 3, 4)
    """

    def __init__(self, dim: int, unflattened_size) -> None:
        super().__init__()
        self.dim = _check.integer("Unflatten", "dim", dim, low=-64)
        if not isinstance(unflattened_size, (tuple, list)) or not unflattened_size:
            raise TypeError(f"Unflatten: unflattened_size must be a tuple of ints, got {unflattened_size!r}")
        for size in unflattened_size:
            _check.integer("Unflatten", "unflattened_size", size, low=-1)
        self.unflattened_size = tuple(unflattened_size)

    def forward(self, x):
        shape = tuple(x.shape)
        if not -len(shape) <= self.dim < len(shape):
            raise ValueError(f"Unflatten: dim must lie in [{-len(shape)}, {len(shape)}), got {self.dim}")
        dim = self.dim % len(shape)
        return x.reshape(shape[:dim] + self.unflattened_size + shape[dim + 1 :])

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"
