"""The digits that ship with the package, and their split."""

import hashlib
from pathlib import Path

import numpy as np

from fastdl.data import digits, load_digits


def test_contents():
    data = load_digits()
    assert data.images.shape == (1797, 1, 8, 8) and data.images.dtype == np.uint8
    assert data.labels.shape == (1797,) and data.labels.dtype == np.int64
    assert data.images.min() == 0 and data.images.max() == 16
    assert data.labels[:12].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    assert np.bincount(data.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    first = [
        0,
        0,
        5,
        13,
        9,
        1,
        0,
        0,
        0,
        0,
        13,
        15,
        10,
        15,
        5,
        0,
    ]  # the first two rows of the UCI file's first line
    assert data.images[0, 0, :2].reshape(-1).tolist() == first
    scaled = data.images / 16
    assert (round(scaled.mean(), 5), round(scaled.std(), 5)) == (digits.MEAN, digits.STD)


def test_split_is_stratified_and_complete():
    data = load_digits()
    assert [len(part) for part in (data.train, data.validation, data.test)] == [1258, 180, 359]
    rows = np.concatenate([data.train, data.validation, data.test])
    assert sorted(rows) == list(range(1797))
    for part in (data.train, data.validation, data.test):
        share = np.bincount(data.labels) * len(part) / 1797
        assert abs(np.bincount(data.labels[part]) - share).max() < 2
        assert (np.diff(part) > 0).all() and part.dtype == np.int64


def test_split_never_changes():
    """A published accuracy is worth nothing if the held-out samples move."""
    data = load_digits()
    sums = [hashlib.sha256(part.astype("<i8").tobytes()).hexdigest()[:16] for part in data[2:]]
    assert sums == ["7f1f02cc8ecf773b", "00e57cdba69689ff", "7fce1b0547dec3db"]


def test_same_values_as_the_source():
    """The sum is of scikit-learn's digits.csv, read as uint8: 1,797 rows of 64 pixels and the label."""
    data = load_digits()
    rows = np.concatenate([data.images.reshape(1797, 64), data.labels[:, None].astype(np.uint8)], axis=1)
    assert (
        hashlib.sha256(rows.tobytes()).hexdigest() == "68aea062d35a127749050fa0e52dca09d6569ac08092c925610e0954e172dde2"
    )


def test_source_is_named():
    folder = Path(digits.__file__).parent
    text = (folder / "digits.txt").read_text()
    for word in ("UCI Machine Learning Repository", "E. Alpaydin, C. Kaynak", "10.24432/C50P49", "CC BY 4.0"):
        assert word in text
    assert (folder / "digits.npz").stat().st_size < 100_000
