"""Random numbers from Philox 4x32-10, the same on every backend.

A `Generator` is a 64-bit seed and a counter. Every call draws from the stream (seed, counter) and advances
the counter by one, so that a checkpoint of two integers restores it exactly.
Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

import math
import operator

import numpy as np

from . import kernels, recording
from .tensor import FLOATS

_DEFAULT_SEED = 67280421310721  # PyTorch's


def _integer(function: str, name: str, value) -> int:
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{function}: {name} must be an int, got bool")
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{function}: {name} must be an int, got {type(value).__name__}") from None


def _finite(function: str, **values) -> None:
    for name, value in values.items():
        if not math.isfinite(value):
            raise ValueError(f"{function}: {name} must be finite, got {value:g}")


def _shape(function: str, shape) -> tuple:
    sizes = shape if isinstance(shape, (tuple, list)) else (shape,)
    sizes = tuple(_integer(function, "shape", size) for size in sizes)
    if any(size < 0 for size in sizes):
        raise ValueError(f"{function}: shape must have sizes of at least 0, got {sizes}")
    return sizes


def _float(function: str, dtype) -> np.dtype:
    dtype = np.dtype(dtype)
    if dtype not in FLOATS:
        raise TypeError(f"{function}: dtype must be float32 or float64, got {dtype}")
    return dtype


class Generator:
    """A stream of random numbers: `seed` and the number of calls so far, `counter`.

    Args:
        seed: an int; taken modulo 2**64.
    """

    def __init__(self, seed: int = _DEFAULT_SEED):
        self.manual_seed(seed)

    def manual_seed(self, seed: int) -> Generator:
        """Start again from `seed` with counter 0; returns the generator."""
        self.seed = _integer("manual_seed", "seed", seed) % 2**64
        self.counter = 0
        return self

    def initial_seed(self) -> int:
        """The seed."""
        return self.seed

    def state_dict(self) -> dict:
        """{"seed": ..., "counter": ...}, two ints."""
        return {"seed": self.seed, "counter": self.counter}

    def load_state_dict(self, state: dict) -> None:
        """Restore what `state_dict` returned; raises KeyError, TypeError or ValueError for anything else."""
        for key in ("seed", "counter"):
            if key not in state:
                raise KeyError(f"Generator.load_state_dict: state has no entry '{key}'")
            value = _integer("Generator.load_state_dict", key, state[key])
            if not 0 <= value < 2**64:
                raise ValueError(f"Generator.load_state_dict: {key} must lie in [0, 2**64), got {value}")
        self.seed, self.counter = int(state["seed"]), int(state["counter"])

    def next(self, on_host: bool = False) -> tuple:
        """(seed, counter) of the next stream; the counter advances by one. For kernels that draw by themselves.

        The counter is an int; in a step that is being captured on the GPU, the place that kernels read it from there.
        """
        counter, place = self.counter, self.counter
        if recording.session is not None:
            place = recording.session.draw(self, counter, on_host)
        self.counter = (counter + 1) % 2**64
        return self.seed, place

    def words(self, n: int) -> np.ndarray:
        """n random 32-bit words, uint32 (n,)."""
        seed, counter = self.next(on_host=True)
        return kernels.host().random_words(seed, counter, n)

    def uniform(self, shape, low: float = 0.0, high: float = 1.0, dtype=np.float32) -> np.ndarray:
        """Uniform in [low, high): low + (high - low) * (word >> 8) * 2**-24, computed in float64.

        Returns an array of the given shape and dtype; for bfloat16 the word has 8 bits, not 24.
        """
        _finite("uniform", low=low, high=high)
        if low > high:
            raise ValueError(f"uniform: low must not be above high, got {low:g} and {high:g}")
        shape = _shape("uniform", shape)
        dtype = _float("uniform", dtype)
        bits = 24 if dtype.itemsize > 2 else 8  # as many as the dtype has: more would be rounded up to `high`
        unit = (self.words(math.prod(shape)) >> np.uint32(32 - bits)) * 2.0**-bits
        values = unit if low == 0 and high == 1 else low + (high - low) * unit
        return values.astype(dtype).reshape(shape)

    def normal(self, shape, mean: float = 0.0, std: float = 1.0, dtype=np.float32) -> np.ndarray:
        """Normal with the given mean and standard deviation, by Box-Muller in float64 on pairs of words.

        With u = (word0 + 1) / 2**32 and v = word1 / 2**32: sqrt(-2 ln u) cos(2 pi v), sqrt(-2 ln u) sin(2 pi v).
        Returns an array of the given shape and dtype.
        """
        _finite("normal", mean=mean, std=std)
        if std < 0:
            raise ValueError(f"normal: std must be at least 0, got {std:g}")
        shape = _shape("normal", shape)
        n = math.prod(shape)
        words = self.words(n + n % 2).astype(np.float64)
        radius = np.sqrt(-2.0 * np.log((words[0::2] + 1.0) * 2.0**-32))
        angle = words[1::2] * (2.0 * math.pi * 2.0**-32)
        values = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)[:n]
        return (mean + std * values).astype(_float("normal", dtype)).reshape(shape)

    def integers(self, low: int, high: int, shape) -> np.ndarray:
        """Uniform integers in [low, high), int64: low + (64-bit word modulo the range)."""
        low, high = _integer("integers", "low", low), _integer("integers", "high", high)
        if low >= high:
            raise ValueError(f"integers: low must be below high, got {low} and {high}")
        shape = _shape("integers", shape)
        return (self._keys(math.prod(shape)) % np.uint64(high - low)).astype(np.int64).reshape(shape) + low

    def permutation(self, n: int) -> np.ndarray:
        """A random order of 0 .. n-1, int64 (n,): the stable argsort of n random 64-bit keys."""
        n = _integer("permutation", "n", n)
        if n < 0:
            raise ValueError(f"permutation: n must be at least 0, got {n}")
        keys = self._keys(n)
        order = np.argsort(keys)  # the quick sort is three times as fast, and the same where no two keys are equal
        keys = keys[order]
        if (keys[1:] == keys[:-1]).any():
            order = order[np.lexsort((order, keys))]
        return order.astype(np.int64, copy=False)

    def _keys(self, n: int) -> np.ndarray:
        words = self.words(2 * n).astype(np.uint64)
        return (words[1::2] << np.uint64(32)) | words[0::2]

    def __repr__(self) -> str:
        return f"Generator(seed={self.seed}, counter={self.counter})"


default_generator = Generator()


def manual_seed(seed: int) -> Generator:
    """Seed the default generator, which every random function uses unless told otherwise; returns it."""
    return default_generator.manual_seed(seed)


def initial_seed() -> int:
    """The seed of the default generator."""
    return default_generator.seed


def uniform(shape, low: float = 0.0, high: float = 1.0, dtype=np.float32, generator: Generator | None = None):
    """`Generator.uniform` of the given or default generator: an array in [low, high)."""
    return _pick("uniform", generator).uniform(shape, low, high, dtype)


def normal(shape, mean: float = 0.0, std: float = 1.0, dtype=np.float32, generator: Generator | None = None):
    """`Generator.normal` of the given or default generator: an array."""
    return _pick("normal", generator).normal(shape, mean, std, dtype)


def permutation(n: int, generator: Generator | None = None) -> np.ndarray:
    """`Generator.permutation` of the given or default generator: int64 (n,)."""
    return _pick("permutation", generator).permutation(n)


def _pick(name: str, generator) -> Generator:
    if generator is None:
        return default_generator
    if not isinstance(generator, Generator):
        raise TypeError(f"{name}: generator must be a fastdl.Generator, got {type(generator).__name__}")
    return generator
