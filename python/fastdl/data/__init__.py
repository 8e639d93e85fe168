"""Data: sets of arrays, a loader with a position that can be saved, and readers for MNIST and the optical
digits.

`fastdl.data.mnist` and `fastdl.data.digits` hold the MEAN and STD of their images, to be given to the loader.
"""

from . import digits, mnist
from .convert import Convert
from .dataset import ArrayDataset, Subset, random_split
from .digits import load_digits
from .download import DownloadError, fetch
from .idx import read_idx
from .loader import DataLoader
from .mnist import load_mnist

__all__ = [
    "ArrayDataset",
    "Convert",
    "DataLoader",
    "DownloadError",
    "Subset",
    "digits",
    "fetch",
    "load_digits",
    "load_mnist",
    "mnist",
    "random_split",
    "read_idx",
]
