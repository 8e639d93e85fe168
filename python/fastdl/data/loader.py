"""The loader: batches of a data set, shuffled, converted while they are gathered, resumable to the bit."""

from __future__ import annotations

from functools import partial

import numpy as np

from .. import kernels, random, recording
from ..device import check as check_device
from ..tensor import wrap
from .convert import Source, converts
from .dataset import Subset, check_dataset, check_generator


class DataLoader:
    """Cut a data set into batches, once through for every `for batch in loader`.

    Args:
        dataset: an ArrayDataset or a Subset.
        batch_size: samples in a batch; default 1.
        shuffle: draw a new order for every epoch; default False, the order of the data set.
        drop_last: leave out a last batch that is not full; default False.
        generator: the `fastdl.random.Generator` that draws the orders. Default: one of the loader's own,
            seeded by a draw from the library's generator when the loader is made (only if shuffle), so that
            `fastdl.manual_seed` decides the orders and nothing drawn later disturbs them. One that is handed
            in should serve this loader alone, or a resumed run can't repeat what others drew from it.
        scale, mean, std, dtype: the conversion of the first array, as in `Convert`:
            y = (x * scale - mean) / std, computed in the same pass that gathers the rows. Without any of
            them the array keeps its dtype.
        convert: {number of the array: Convert} for other arrays.
        device: "cuda", "cpu" or "numpy" to copy every batch there, for data too large for the GPU; default None: a
            batch is where its array is. A data set that fits is quicker whole on the GPU (`dataset.to("cuda")`).

    A batch is a tuple of Tensors, one for each array of the data set: dtype of the conversion where there
    is one, else the array's own; 4-D floats are channels-last in memory where the backend prefers that.
    There are no worker processes: the arrays are in memory, and gathering a batch costs about as much as
    copying it.

    Position: `state_dict()` holds the epoch, the number of batches already handed out in it, and the
    generator as it was when the epoch began. After `load_state_dict()` the next `iter(loader)` goes on with
    the very batches that would have followed, bit for bit, and later epochs are those of the run that never
    stopped. Every other `iter(loader)` begins a new epoch, also when the one before was left early. An
    epoch is over, and `loader.epoch` counts it, when its iterator has run out, not with the last batch: a
    state taken while the last batch is worked on resumes at the end of that epoch, with no batch left, so
    that what follows an epoch is done once.

    Raises:
        TypeError: dataset, generator or dtype of an array is of the wrong kind.
        ValueError: batch_size is not positive, drop_last would leave no batch, or a conversion does not fit.

    Example:
        >>> import numpy as np
        >>> from fastdl.data import ArrayDataset
        >>> images, labels = np.zeros((10, 1, 8, 8), np.uint8), np.arange(10)
        >>> loader = DataLoader(ArrayDataset(images, labels), batch_size=4, shuffle=True, scale=1 / 16)
        >>> [(x.shape, y.shape) for x, y in loader]
        [((4, 1, 8, 8), (4,)), ((4, 1, 8, 8), (4,)), ((2, 1, 8, 8), (2,))]
    """

    def __init__(
        self,
        dataset,
        batch_size: int = 1,
        shuffle: bool = False,
        drop_last: bool = False,
        generator=None,
        *,
        scale=None,
        mean=None,
        std=None,
        dtype=None,
        convert=None,
        device=None,
    ):
        check_device(device)
        self._device = device
        self.dataset = check_dataset("DataLoader", dataset)
        self.batch_size = _integer("DataLoader", "batch_size", batch_size, 1)
        self.shuffle, self.drop_last = bool(shuffle), bool(drop_last)
        if drop_last and len(dataset) < batch_size:
            allowed = f"at most {len(dataset)} (the samples) with drop_last"
            raise ValueError(f"DataLoader: batch_size must be {allowed}, got {batch_size}")
        first = {"scale": scale, "mean": mean, "std": std, "dtype": dtype}
        pairs = zip(dataset.arrays, converts(len(dataset.arrays), first, convert))
        self._sources = [Source(number, array, how) for number, (array, how) in enumerate(pairs)]
        self._rows = dataset.indices if isinstance(dataset, Subset) else None
        check_generator("DataLoader", generator)
        self.generator = _own_generator(generator) if self.shuffle else None
        self._epoch = self._position = 0
        self._begin = self._generator_state()  # the generator when the running, or else the next, epoch begins
        self._running = False  # an epoch has begun and is not over
        self._resume = False  # the next iterator goes on with the running epoch
        self._newest = None  # the iterator that moves the position
        self._orders = None  # of the epoch, on the GPU, and the batch that `iter_sizes` is at
        self.current = 0

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        full, rest = divmod(len(self.dataset), self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    @property
    def epoch(self) -> int:
        """How many epochs are over."""
        return self._epoch

    @property
    def position(self) -> int:
        """How many batches of the running epoch have been handed out; 0 between epochs."""
        return self._position

    def __iter__(self):
        return self._begin_pass(self._batch, self._beside_data)

    def iter_sizes(self):
        """Iterate like `iter(loader)`, over the sizes of the batches; `current_batch` makes the one it is at.

        For data on the GPU, where the order of the epoch then lies as well: a captured step that calls `current_batch`
        follows the iterator without a copy. Only the newest such iterator can be used.
        """
        return self._begin_pass(self._go_to, self._orders_on_gpu)

    def current_batch(self, size: int) -> tuple:
        """The batch, of so many samples, that `iter_sizes` has handed out last."""
        number = self.current if recording.session is None else recording.session.cursor(self)
        recording.keep(self._orders)
        rows = np.take(self._orders, number, axis=0)[:size]
        return tuple(wrap(source.gather(rows)) for source in self._sources)

    @property
    def on_gpu(self) -> bool:
        """Whether the data set lies on the GPU, and batches stay there."""
        there = all(kernels.on_gpu(source.array) for source in self._sources)
        return there and self._device in (None, "cuda")

    def _begin_pass(self, make, prepare):
        if not self._resume:
            self._epoch += self._running  # an epoch that was left early counts
            self._position = 0
            self._begin = self._generator_state()
        self._running, self._resume = True, False
        count = len(self.dataset)
        order = self.generator.permutation(count) if self.shuffle else np.arange(count, dtype=np.int64)
        if self._rows is not None:
            order = self._rows[order]
        self._newest = _Epoch(self, partial(make, prepare(order)), self._position)
        return self._newest

    def _beside_data(self, order: np.ndarray) -> tuple:
        """The order in the host's memory and, where an array lies on the GPU, there: copied once for an epoch."""
        gpu = next((source.array for source in self._sources if kernels.on_gpu(source.array)), None)
        return order, None if gpu is None else kernels.beside(order, gpu)

    def _batch(self, orders: tuple, number: int) -> tuple:
        part = slice(number * self.batch_size, (number + 1) * self.batch_size)
        arrays = [source.gather(orders[kernels.on_gpu(source.array)][part]) for source in self._sources]
        return tuple(wrap(x if self._device is None else kernels.place(x, self._device)) for x in arrays)

    def _orders_on_gpu(self, order: np.ndarray) -> int:
        """Put the order, a row a batch, where captured steps read it; how many samples it has."""
        rows = np.zeros((-(-len(order) // self.batch_size), self.batch_size), np.int64)
        rows.reshape(-1)[: len(order)] = order
        rows = kernels.beside(rows, self._sources[0].array)
        if self._orders is None:
            self._orders = rows
        else:
            kernels.of(rows).assign(self._orders, rows)
        return len(order)

    def _go_to(self, count: int, number: int) -> int:
        self.current = number
        return min(self.batch_size, count - number * self.batch_size)

    def _moved(self, iterator, position: int) -> None:
        if iterator is self._newest:
            self._position = position

    def _ended(self, iterator) -> None:
        if iterator is self._newest:
            self._epoch, self._position = self._epoch + 1, 0
            self._running, self._newest = False, None

    def _generator_state(self) -> dict | None:
        return self.generator.state_dict() if self.shuffle else None

    def _settings(self) -> dict:
        return {
            "samples": len(self.dataset),
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
            "drop_last": self.drop_last,
        }

    def state_dict(self) -> dict:
        """Return the position, a dict that `load_state_dict` takes.

        "epoch" counts the epochs that are over; "running" tells whether another has begun, and "position" how
        many batches of it have been handed out; "generator" is the generator's state_dict at the beginning of
        that epoch, None without shuffle; "samples", "batch_size", "shuffle" and "drop_last" are the settings
        that a position depends on. All values are int, bool, None or a dict of int. A state that was loaded
        and not yet iterated over is returned as it was.
        """
        begin = self._begin if self._running else self._generator_state()
        where = {"epoch": self._epoch, "position": self._position, "running": self._running}
        return {**where, "generator": begin and dict(begin), **self._settings()}

    def load_state_dict(self, state: dict) -> None:
        """Go to a position that `state_dict` returned; the next `iter(loader)` continues there.

        Raises:
            KeyError: an entry is missing.
            TypeError, ValueError: an entry is of the wrong kind or out of range, or the state was taken with
                another number of samples, batch_size, shuffle or drop_last; the loader is then as before.
        """
        name, settings = "DataLoader.load_state_dict", self._settings()
        for key in ("epoch", "position", "running", "generator", *settings):
            if key not in state:
                raise KeyError(f"{name}: state has no entry {key!r}")
        for key, here in settings.items():
            if state[key] != here:
                raise ValueError(f"{name}: {key} must be {here} as in this loader, got {state[key]}")
        epoch = _integer(name, "epoch", state["epoch"], 0)
        position = _integer(name, "position", state["position"], 0, len(self) if state["running"] else 0)
        if self.shuffle:
            if not isinstance(state["generator"], dict):
                raise TypeError(f"{name}: generator must be a dict, got {type(state['generator']).__name__}")
            self.generator.load_state_dict(state["generator"])
        self._epoch, self._position = epoch, position
        self._running = self._resume = bool(state["running"])
        self._begin, self._newest = self._generator_state(), None


class _Epoch:
    """One pass over the batches. The newest of a loader moves its position; older ones run on unnoticed."""

    def __init__(self, loader: DataLoader, make, position: int):
        self._loader, self._make, self._next = loader, make, position

    def __iter__(self):
        return self

    def __len__(self) -> int:
        """The number of batches left."""
        return len(self._loader) - self._next

    def __next__(self) -> tuple:
        if len(self) == 0:
            self._loader._ended(self)
            raise StopIteration
        batch = self._make(self._next)
        self._next += 1
        self._loader._moved(self, self._next)
        return batch


def _own_generator(generator):
    if generator is not None:
        return generator
    low, high = random.default_generator.words(2).tolist()
    return random.Generator(high << 32 | low)


def _integer(function: str, name: str, value, low: int, high: int | None = None) -> int:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{function}: {name} must be an int, got {type(value).__name__}")
    if value < low or (high is not None and value > high):
        allowed = f"in [{low}, {high}]" if high is not None else "positive" if low == 1 else f"at least {low}"
        raise ValueError(f"{function}: {name} must be {allowed}, got {value}")
    return int(value)
