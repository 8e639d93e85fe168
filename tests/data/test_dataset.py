"""Data sets, subsets and splits."""

import doctest
import importlib

import numpy as np
import pytest

import fastdl.random
from fastdl.data import ArrayDataset, Subset, random_split
from fastdl.tensor import Tensor


def dataset(n=20):
    return ArrayDataset(np.arange(2 * n, dtype=np.float32).reshape(n, 2), np.arange(n) % 3)


def test_rows_of_aligned_arrays():
    data = ArrayDataset(
        np.arange(12).reshape(4, 3), Tensor(np.array([5, 6, 7, 8])), np.array([True, False, True, False])
    )
    assert len(data) == 4
    features, label, flag = data[2]
    assert features.tolist() == [6, 7, 8] and label == 7 and flag
    assert [a.tolist() for a in data[1:3]] == [[[3, 4, 5], [6, 7, 8]], [6, 7], [False, True]]
    assert data[np.array([3, 0])][1].tolist() == [8, 5]
    assert data[-1][1] == 8
    with pytest.raises(IndexError):
        data[4]
    assert [int(label) for _, label, _ in data] == [5, 6, 7, 8]
    assert repr(data) == "ArrayDataset(4 samples: int64[3], int64[], bool[])"


def test_arrays_are_not_copied():
    features = np.zeros((4, 3))
    assert ArrayDataset(features).arrays[0] is features


@pytest.mark.parametrize(
    ("arrays", "error", "message"),
    [
        ((), ValueError, "ArrayDataset: arrays must hold at least one array, got none"),
        (([1, 2],), TypeError, "ArrayDataset: array 0 must be a NumPy or CuPy array or a Tensor, got list"),
        (
            (np.zeros(2), np.array(["a", "b"])),
            TypeError,
            "array 1 must hold numbers or booleans, got dtype <U1",
        ),
        ((np.array([None, 1]),), TypeError, "array 0 must hold numbers or booleans, got dtype object"),
        ((np.zeros(2), np.array(3.0)), ValueError, r"array 1 must have at least 1 dimension, got shape \(\)"),
        ((np.zeros((3, 2)), np.zeros(2)), ValueError, r"must have the same length, got \[3, 2\]"),
        ((np.zeros((0, 2)), np.zeros(0)), ValueError, "must hold at least one sample, got length 0"),
    ],
)
def test_array_dataset_refuses(arrays, error, message):
    with pytest.raises(error, match=message):
        ArrayDataset(*arrays)


def test_subset_of_subset_points_at_the_arrays():
    data = dataset()
    inner = Subset(Subset(data, [10, 3, 7, 3]), [3, 0])
    assert inner.indices.tolist() == [3, 10] and inner.indices.dtype == np.int64
    assert inner.arrays is data.arrays and len(inner) == 2
    assert inner[1][0].tolist() == [20.0, 21.0]
    assert inner[:][1].tolist() == [0, 1]
    assert repr(inner) == "Subset(2 of 20 samples)"


@pytest.mark.parametrize(
    ("indices", "error", "message"),
    [
        ([], ValueError, "indices must name at least one sample, got none"),
        ([[1]], ValueError, r"indices must have 1 dimension, got shape \(1, 1\)"),
        ([1.0], TypeError, "indices must be integers, got float64"),
        ([True], TypeError, "indices must be integers, got bool"),
        ([0, 20], IndexError, r"indices must lie in \[0, 20\), got 20"),
        ([-1], IndexError, r"indices must lie in \[0, 20\), got -1"),
        (np.array([2**64 - 1], np.uint64), IndexError, r"indices must lie in \[0, 20\)"),
    ],
)
def test_subset_refuses(indices, error, message):
    with pytest.raises(error, match="Subset: " + message):
        Subset(dataset(), indices)


def test_subset_wants_a_dataset():
    with pytest.raises(TypeError, match="Subset: dataset must be an ArrayDataset or a Subset, got ndarray"):
        Subset(np.zeros(3), [0])


@pytest.mark.parametrize("stratify", [None, 1])
def test_split_shares_out_every_sample_once(stratify):
    parts = random_split(dataset(), [12, 5, 3], seed=4, stratify=stratify)
    assert [len(part) for part in parts] == [12, 5, 3]
    assert sorted(np.concatenate([part.indices for part in parts])) == list(range(20))


def test_split_depends_on_the_seed_alone():
    def split(**how):
        return [part.indices.tolist() for part in random_split(dataset(), [15, 5], **how)]

    assert split(seed=1) == split(seed=1) == split(generator=fastdl.random.Generator(1))
    assert split(seed=1) != split(seed=2)
    fastdl.random.manual_seed(1)
    assert split() == split(seed=1)
    assert split() != split(seed=1)  # the library's generator has moved on


@pytest.mark.parametrize(
    ("total", "lengths", "want"),
    [
        (10, [0.8, 0.2], [8, 2]),
        (10, [0.5, 0.25, 0.25], [6, 2, 2]),
        (7, [1 / 3, 1 / 3, 1 / 3], [3, 2, 2]),
        (100, [0.1] * 10, [10] * 10),
        (100, [0.71, 0.29], [72, 28]),  # 100 * 0.29 is 28.999999999999996; PyTorch has 72 as well
        (5, [1.0], [5]),
        (5, [5], [5]),
    ],
)
def test_split_by_fractions(total, lengths, want):
    assert [len(part) for part in random_split(dataset(total), lengths, seed=0)] == want


def test_split_by_fractions_has_pytorchs_sizes():
    torch_data = pytest.importorskip("torch.utils.data")
    rng = np.random.default_rng(0)
    for total in rng.integers(10, 2000, 100).tolist():
        lengths = rng.dirichlet([5.0] * rng.integers(1, 5)).tolist()
        if sum(lengths) > 1:  # by rounding; PyTorch does not take it for fractions
            continue
        want = [len(part) for part in torch_data.random_split(range(total), lengths)]
        if 0 not in want:
            assert [len(part) for part in random_split(dataset(total), lengths, seed=0)] == want


def test_split_of_a_subset():
    parts = random_split(Subset(dataset(), [2, 4, 6, 8]), [3, 1], seed=0)
    assert sorted(np.concatenate([part.indices for part in parts])) == [2, 4, 6, 8]
    parts = random_split(Subset(dataset(30), range(15)), [5, 10], seed=0, stratify=1)
    assert np.bincount(parts[0][:][1]).tolist() in ([2, 2, 1], [2, 1, 2], [1, 2, 2])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("sizes", [(800, 200), (700, 100, 200), (500, 499, 1), (250, 250, 250, 250)], ids=str)
def test_stratified_split_keeps_the_shares(sizes, seed):
    counts = np.array([1, 9, 90, 400, 500])
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(5), counts))
    parts = random_split(ArrayDataset(np.zeros(1000), labels), sizes, seed=seed, stratify=1)
    for part, size in zip(parts, sizes):
        assert len(part) == size and (np.diff(part.indices) > 0).all()
        off = np.bincount(part[:][1], minlength=5) - counts * size / 1000
        assert abs(off).max() < 2
    assert len(np.unique(np.concatenate([part.indices for part in parts]))) == 1000


def test_stratified_split_is_random_within_a_class():
    labels = np.repeat([0, 1], 50)
    data = ArrayDataset(labels)
    picks = np.stack([random_split(data, [20, 80], seed=s, stratify=labels)[0].indices for s in range(40)])
    assert (np.bincount(labels[picks].reshape(-1)) == 400).all()
    # Each sample is picked 8 times of 40 on average, standard deviation 2.5.
    times = np.bincount(picks.reshape(-1), minlength=100)
    assert times.min() >= 1 and times.max() <= 19


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ({"lengths": []}, ValueError, "lengths must name at least one part, got none"),
        ({"lengths": [10, 9]}, ValueError, "lengths must sum to 20 samples, got 19"),
        ({"lengths": [20, 0]}, ValueError, "lengths must be positive, got 0"),
        ({"lengths": [21, -1]}, ValueError, "lengths must be positive, got -1"),
        (
            {"lengths": [0.5, 0.4]},
            ValueError,
            "lengths must be counts that sum to 20 or fractions that sum to 1",
        ),
        (
            {"lengths": [0.5, 10]},
            ValueError,
            "lengths must be counts that sum to 20 or fractions that sum to 1",
        ),
        ({"lengths": [float("nan"), 0.5]}, ValueError, "lengths must be positive, got nan"),
        ({"lengths": [0.999, 0.001]}, ValueError, "leave a part of 20 samples empty"),
        ({"lengths": ["a"]}, TypeError, "lengths must be integers or fractions, got 'a'"),
        ({"lengths": [True]}, TypeError, "lengths must be integers or fractions, got True"),
        (
            {"lengths": [20], "stratify": np.zeros(3)},
            ValueError,
            r"stratify must have shape \(20,\), got \(3,\)",
        ),
        ({"lengths": [20], "stratify": 0}, ValueError, r"stratify must have shape \(20,\), got \(20, 2\)"),
        ({"lengths": [20], "stratify": 2}, IndexError, r"stratify must lie in \[0, 2\), got 2"),
        (
            {"lengths": [20], "seed": 0, "generator": fastdl.random.Generator(0)},
            ValueError,
            "give generator or seed, not both",
        ),
        (
            {"lengths": [20], "generator": 3},
            TypeError,
            "generator must be a fastdl.random.Generator, got int",
        ),
        ({"lengths": [20], "seed": 1.5}, TypeError, "seed must be an int, got float"),
    ],
)
def test_split_refuses(how, error, message):
    with pytest.raises(error, match=message):
        random_split(dataset(), **how)


@pytest.mark.parametrize("module", ["dataset", "loader", "digits"])
def test_docstring_examples(module):
    result = doctest.testmod(importlib.import_module(f"fastdl.data.{module}"))
    assert result.attempted > 0 and result.failed == 0
