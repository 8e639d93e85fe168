"""A shuffled epoch of MNIST-shaped images in batches of 100, normalised to float32; times are per batch."""

from functools import partial

import numpy as np

from .. import gpu
from ..case import Case, to_numpy

COUNT, SIZE, BATCH = 60_000, 28, 100
MEAN, STD = 0.13066, 0.30811


def cases(rivals):
    # Orders differ from rival to rival; what is checked is the sum of the images of each label.
    shown = dict.fromkeys(("fastdl", "numpy", "torch"), _sums)
    size = 5.0 * BATCH * SIZE * SIZE
    runs = partial(_runs, rivals)
    yield Case("loader", f"MNIST, batch {BATCH}", runs, bytes=size, pieces=COUNT // BATCH, shown=shown)


def _runs(rivals) -> dict:
    import fastdl as fd

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (COUNT, 1, SIZE, SIZE), dtype=np.uint8)
    labels = rng.integers(0, 10, COUNT)
    dataset = fd.data.ArrayDataset(images, labels).to(fd.get_device())
    loader = fd.data.DataLoader(dataset, BATCH, shuffle=True, scale=1 / 255, mean=MEAN, std=STD)
    runs = {"fastdl": partial(_drain, loader), "numpy": partial(_drain, _NumpyLoader(images, labels))}
    if rivals.torch:
        runs["torch"] = _torch_ways(rivals, images, labels)
    return runs


def _drain(loader):
    for _ in loader:
        pass
    return loader


def _sums(loader) -> np.ndarray:
    """Per label, the sum of all its images in one epoch."""
    sums = np.zeros((10, SIZE * SIZE))
    for x, y in loader:
        sums += np.eye(10)[to_numpy(y)].T @ to_numpy(x).reshape(-1, SIZE * SIZE)
    return sums


class _NumpyLoader:
    def __init__(self, images, labels):
        self.images, self.labels, self.rng = images, labels, np.random.default_rng(0)

    def __iter__(self):
        order = self.rng.permutation(COUNT)
        for start in range(0, COUNT, BATCH):
            rows = order[start : start + BATCH]
            yield (self.images[rows] * np.float32(1 / 255) - np.float32(MEAN)) / np.float32(STD), self.labels[rows]


class _Normalised:
    """A PyTorch loader whose images are normalised batch by batch."""

    def __init__(self, loader):
        self.loader = loader

    def __iter__(self):
        for x, y in self.loader:
            yield (x.float() * (1 / 255) - MEAN) / STD, y


class _Resident:
    """Batches of tensors that lie on the GPU."""

    def __init__(self, torch, x, y):
        self.torch, self.x, self.y = torch, x, y

    def __iter__(self):
        for rows in self.torch.randperm(COUNT, device="cuda").split(BATCH):
            yield self.x[rows], self.y[rows]


def _torch_ways(rivals, images, labels) -> dict:
    """TensorDataset of the bytes, normalised as batches, or of floats normalised beforehand; on a GPU tensors there."""
    torch, data = rivals.torch, rivals.torch.utils.data
    x, y = rivals.tensor(images), rivals.tensor(labels)
    if gpu.in_use():
        return {"resident": partial(_drain, _Normalised(_Resident(torch, x, y)))}

    def loader(x):
        return data.DataLoader(data.TensorDataset(x, y), batch_size=BATCH, shuffle=True)

    return {
        "bytes": partial(_drain, _Normalised(loader(x))),
        "floats": partial(_drain, loader((x.float() * (1 / 255) - MEAN) / STD)),
    }
