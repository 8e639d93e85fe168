"""MNIST: 60,000 + 10,000 handwritten digits of 28x28 (Y. LeCun, C. Cortes, C. Burges, 1998)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .download import cache_dir, fetch
from .idx import read_idx

MEAN = 0.13066  # of the training images, after division by 255
STD = 0.30811

MIRRORS = (
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
)
# SHA-256 of the gzip files as published; a copy that someone packed anew has other sums and the same
# contents.
FILES = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}


class Mnist(NamedTuple):
    """Images uint8 (N, 1, 28, 28) with 0 the background, labels int64 (N,) in [0, 10)."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


def load_mnist(data_dir=None, progress: bool = True) -> Mnist:
    """Load MNIST from a folder, or download it.

    Args:
        data_dir: a folder with `mnist/` in it (or that folder itself), which holds the four IDX files under
            their official names, gzip-compressed or plain (without `.gz`). Default: the environment variable
            FASTDL_DATA. With neither, the files are downloaded from public mirrors into `cache_dir()/mnist`,
            11.6 MB in all, and checked against their SHA-256; what is there already is not downloaded again.
        progress: report a slow download on stderr.

    Returns:
        `Mnist(train_images, train_labels, test_images, test_labels)`, in the original order.

    Raises:
        FileNotFoundError: data_dir or FASTDL_DATA is given and a file is missing there; it names the places
            searched.
        ValueError: a file is corrupt, or does not hold 28x28 images or labels 0 to 9 in equal number.
        DownloadError: no mirror could be reached; it says which file to put where.

    Example:
        train = ArrayDataset(*load_mnist()[:2])
        loader = DataLoader(train, batch_size=100, shuffle=True, scale=1 / 255, mean=MEAN, std=STD)
    """
    paths = [_find(name, data_dir, progress) for name in FILES]
    return Mnist(*_pair(paths[0], paths[1]), *_pair(paths[2], paths[3]))


def _find(name: str, data_dir, progress: bool) -> Path:
    source = "data_dir"
    if data_dir is None:
        data_dir, source = os.environ.get("FASTDL_DATA"), "FASTDL_DATA"
    if not data_dir:
        return fetch([mirror + name for mirror in MIRRORS], cache_dir() / "mnist" / name, FILES[name], progress)
    root = Path(data_dir).expanduser().absolute()
    tried = [folder / file for folder in (root / "mnist", root) for file in (name, name.removesuffix(".gz"))]
    for path in tried:
        if path.is_file():
            return path
    where = "\n".join(f"  {path}" for path in tried)
    raise FileNotFoundError(f"load_mnist: {source} must hold {name}, found none of\n{where}")


def _pair(images_path: Path, labels_path: Path) -> tuple[np.ndarray, np.ndarray]:
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1:] != (28, 28):
        _refuse(images_path, "uint8 images of shape (N, 28, 28)", f"{images.dtype} {images.shape}")
    if labels.dtype != np.uint8 or labels.ndim != 1:
        _refuse(labels_path, "uint8 labels of shape (N,)", f"{labels.dtype} {labels.shape}")
    if len(images) != len(labels) or len(labels) == 0:
        _refuse(labels_path, f"one label for each of {len(images)} images", len(labels))
    if labels.max() > 9:
        _refuse(labels_path, "labels in [0, 10)", labels.max())
    return images.reshape(-1, 1, 28, 28), labels.astype(np.int64)


def _refuse(path: Path, allowed: str, got) -> None:
    raise ValueError(f"load_mnist: {path} must hold {allowed}, got {got}")
