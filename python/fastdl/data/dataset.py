"""Data sets over arrays in memory, subsets of them, and random splits."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .. import kernels, random, recording
from ..device import check as check_device
from ..tensor import Tensor, use_bfloat16


def _array(position: int, value):
    name = f"ArrayDataset: array {position}"
    if isinstance(value, Tensor):
        recording.leaves("ArrayDataset", value.data)
        value = value.data
    if not kernels.is_array(value):
        raise TypeError(f"{name} must be a NumPy or CuPy array or a Tensor, got {type(value).__name__}")
    if value.dtype.name == "bfloat16":
        value = value.view(use_bfloat16())  # kernels know this very dtype
    elif value.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold numbers or booleans, got dtype {value.dtype}")
    if value.ndim == 0:
        raise ValueError(f"{name} must have at least 1 dimension, got shape ()")
    return value


class ArrayDataset:
    """Hold aligned arrays: sample i is row i of every array.

    Args:
        arrays: one or more NumPy or CuPy arrays or Tensors with the same number of rows, by habit features first
            and labels second. They are kept as they are, without a copy: do not alter them while a loader runs. Those
            on the GPU give batches there, gathered without a copy from the host.

    `dataset[i]` is a tuple of rows, `dataset[a:b]` or `dataset[index_array]` a tuple of arrays,
    `len(dataset)` the number of samples, `dataset.arrays` the arrays, `dataset.to("cuda")` a copy on the GPU.

    Raises:
        TypeError: an argument is no array, or holds no numbers.
        ValueError: no array, an array of rank 0, arrays of unequal length, or no samples at all.

    Example:
        >>> import numpy as np
        >>> dataset = ArrayDataset(np.zeros((4, 3), np.float32), np.arange(4))
        >>> len(dataset), int(dataset[2][1])
        (4, 2)
    """

    def __init__(self, *arrays):
        if not arrays:
            raise ValueError("ArrayDataset: arrays must hold at least one array, got none")
        self.arrays = tuple(_array(i, a) for i, a in enumerate(arrays))
        lengths = [len(a) for a in self.arrays]
        if len(set(lengths)) > 1:
            shapes = ", ".join(str(a.shape) for a in self.arrays)
            raise ValueError(f"ArrayDataset: arrays must have the same length, got {lengths} (shapes {shapes})")
        if lengths[0] == 0:
            raise ValueError("ArrayDataset: arrays must hold at least one sample, got length 0")

    def to(self, device: str) -> ArrayDataset:
        """The data set with its arrays on "cuda" or in the host's memory ("cpu", "numpy"); itself if they are there."""
        check_device(device)
        moved = [kernels.place(a, device) for a in self.arrays]
        return self if all(a is b for a, b in zip(moved, self.arrays)) else ArrayDataset(*moved)

    def __len__(self) -> int:
        return len(self.arrays[0])

    def __getitem__(self, index) -> tuple:
        return tuple(a[index] for a in self.arrays)

    def __repr__(self) -> str:
        rows = ", ".join(f"{a.dtype}{list(a.shape[1:])}" for a in self.arrays)
        return f"ArrayDataset({len(self)} samples: {rows})"


def fits_on_gpu(dataset) -> bool:
    """Whether the arrays of a data set take at most half of the GPU memory that is free."""
    runtime = kernels.backend("cuda").cupy.cuda.runtime
    return sum(a.nbytes for a in dataset.arrays) <= runtime.memGetInfo()[0] / 2


def check_dataset(function: str, dataset):
    """The data set, if it is one."""
    if not isinstance(dataset, (ArrayDataset, Subset)):
        kind = type(dataset).__name__
        raise TypeError(f"{function}: dataset must be an ArrayDataset or a Subset, got {kind}")
    return dataset


def check_generator(function: str, generator) -> None:
    """The generator is one, or None."""
    if generator is not None and not isinstance(generator, random.Generator):
        kind = type(generator).__name__
        raise TypeError(f"{function}: generator must be a fastdl.random.Generator, got {kind}")


class Subset:
    """Show some samples of a data set, in a given order and without copying them.

    Args:
        dataset: an ArrayDataset or another Subset.
        indices: 1-D integers in [0, len(dataset)); repeats are allowed.

    `subset.arrays` are the arrays of the data set underneath and `subset.indices` the rows of those that
    belong to the subset (int64), also for a subset of a subset.

    Raises:
        TypeError: dataset is no data set, or indices are no integers.
        ValueError: indices are empty or not 1-D.
        IndexError: an index lies outside the data set.
    """

    def __init__(self, dataset, indices):
        check_dataset("Subset", dataset)
        indices = np.asarray(indices)
        if indices.ndim != 1:
            raise ValueError(f"Subset: indices must have 1 dimension, got shape {indices.shape}")
        if indices.size == 0:
            raise ValueError("Subset: indices must name at least one sample, got none")
        if indices.dtype.kind not in "iu":
            raise TypeError(f"Subset: indices must be integers, got {indices.dtype}")
        outside = (indices < 0) | (indices >= len(dataset))
        if outside.any():
            raise IndexError(f"Subset: indices must lie in [0, {len(dataset)}), got {indices[outside][0]}")
        indices = indices.astype(np.int64)
        self.arrays = dataset.arrays
        self.indices = dataset.indices[indices] if isinstance(dataset, Subset) else indices
        self._whole = dataset._whole if isinstance(dataset, Subset) else dataset

    def to(self, device: str) -> Subset:
        """The same samples of the data set underneath, moved to a device (`ArrayDataset.to`)."""
        return Subset(self._whole.to(device), self.indices)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index) -> tuple:
        rows = kernels.beside(np.asarray(self.indices[index]), self.arrays[0])
        return tuple(a[rows] for a in self.arrays)

    def __repr__(self) -> str:
        return f"Subset({len(self)} of {len(self.arrays[0])} samples)"


def _sizes(lengths: Sequence, total: int) -> list[int]:
    """Turn counts that sum to total, or fractions that sum to 1, into counts."""
    lengths = list(lengths)
    if not lengths:
        raise ValueError("random_split: lengths must name at least one part, got none")
    for value in lengths:
        if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
            raise TypeError(f"random_split: lengths must be integers or fractions, got {value!r}")
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"random_split: lengths must be positive, got {value}")
    if all(isinstance(value, (int, np.integer)) for value in lengths):
        if sum(lengths) != total:
            raise ValueError(f"random_split: lengths must sum to {total} samples, got {sum(lengths)}")
        return [int(value) for value in lengths]
    if abs(sum(lengths) - 1) > 1e-6 or not all(isinstance(value, (float, np.floating)) for value in lengths):
        allowed = f"counts that sum to {total} or fractions that sum to 1"
        raise ValueError(f"random_split: lengths must be {allowed}, got {lengths}")
    sizes = [math.floor(total * value) for value in lengths]
    for i in range(total - sum(sizes)):  # as PyTorch deals out the rest
        sizes[i % len(sizes)] += 1
    if min(sizes) == 0:
        raise ValueError(f"random_split: lengths {lengths} leave a part of {total} samples empty")
    return sizes


def _generator(generator, seed):
    if generator is not None and seed is not None:
        raise ValueError("random_split: give generator or seed, not both")
    if seed is not None:
        return random.Generator(seed)
    check_generator("random_split", generator)
    return random.default_generator if generator is None else generator


def _labels(dataset, stratify) -> np.ndarray:
    if isinstance(stratify, (int, np.integer)) and not isinstance(stratify, bool):
        if not 0 <= stratify < len(dataset.arrays):
            raise IndexError(f"random_split: stratify must lie in [0, {len(dataset.arrays)}), got {stratify}")
        rows = dataset.indices if isinstance(dataset, Subset) else slice(None)
        stratify = kernels.to_host(dataset.arrays[stratify])[rows]
    labels = np.asarray(stratify)
    if labels.shape != (len(dataset),):
        raise ValueError(f"random_split: stratify must have shape ({len(dataset)},), got {labels.shape}")
    return labels


def random_split(dataset, lengths, generator=None, *, seed=None, stratify=None) -> list[Subset]:
    """Split a data set at random into parts that share no sample.

    Args:
        dataset: an ArrayDataset or a Subset.
        lengths: counts that sum to len(dataset), or fractions that sum to 1 (rounded down, the rest dealt out
            from the first part on).
        generator: the `fastdl.random.Generator` that draws the permutation; default: the library's own.
        seed: an int, short for `generator=fastdl.random.Generator(seed)`: the same seed, the same split.
        stratify: the number of the array that holds class labels, or a 1-D array of labels; every class is
            then shared out in the proportion of the parts, to within two samples.

    Returns:
        one Subset per part; plain parts are in random order, stratified ones in the order of the data set.

    Raises:
        TypeError, ValueError: lengths are no numbers, not positive, of the wrong sum, or leave a part empty;
            labels of the wrong shape; both generator and seed.

    Stratified splits are systematic samples: sort the shuffled samples by class, then deal them out along
    the sequence in which part p's k-th place comes at (k + 1/2) / size(p). Part sizes are exact, and every
    run of that sequence, hence every class, holds each part in proportion. (W. Cochran, Sampling
    Techniques, ch. 8.)
    """
    check_dataset("random_split", dataset)
    sizes = _sizes(lengths, len(dataset))
    labels = None if stratify is None else _labels(dataset, stratify)
    order = _generator(generator, seed).permutation(len(dataset))
    if labels is None:
        ends = np.cumsum(sizes)
        return [Subset(dataset, order[end - size : end]) for size, end in zip(sizes, ends)]
    order = order[np.argsort(labels[order], kind="stable")]
    places = np.concatenate([(np.arange(size) + 0.5) / size for size in sizes])
    part = np.repeat(np.arange(len(sizes)), sizes)[np.argsort(places, kind="stable")]
    return [Subset(dataset, np.sort(order[part == p])) for p in range(len(sizes))]
