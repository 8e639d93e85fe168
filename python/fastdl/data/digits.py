"""The UCI optical digits: 1,797 handwritten digits of 8x8, shipped with the package (source: digits.txt)."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from .dataset import ArrayDataset, random_split

MEAN = 0.30526  # of the images, after division by 16
STD = 0.37605

_SEED = 1797


class Digits(NamedTuple):
    """Images uint8 (1797, 1, 8, 8) of 0 to 16, labels int64 (1797,), and the rows of each part."""

    images: np.ndarray
    labels: np.ndarray
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def load_digits() -> Digits:
    """Load the optical digits and their fixed split.

    Returns:
        `Digits(images, labels, train, validation, test)`; the last three are sorted int64 row numbers without
        overlap: train 1,258 samples, validation 180 (a tenth), test 359 (the held-out fifth). The split is
        stratified by class and drawn with Philox from a fixed seed, the same for everyone.

    Example:
        >>> digits = load_digits()
        >>> digits.images.shape, len(digits.train), len(digits.validation), len(digits.test)
        ((1797, 1, 8, 8), 1258, 180, 359)
    """
    with np.load(Path(__file__).with_name("digits.npz"), allow_pickle=False) as file:
        images, labels = file["images"], file["labels"].astype(np.int64)
    parts = random_split(ArrayDataset(images, labels), [1258, 180, 359], seed=_SEED, stratify=1)
    return Digits(images, labels, *(part.indices for part in parts))
