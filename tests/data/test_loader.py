"""The loader: what a batch holds, in which order, and that a saved position continues with the same bits."""

import json

import numpy as np
import pytest

import fastdl.random
from fastdl import kernels
from fastdl.data import ArrayDataset, Convert, DataLoader, Subset
from tolerances import tolerance


@pytest.fixture(params=["numpy", "cpu"])
def host(request):
    """Each host backend in turn serves the gathering."""
    before = kernels.host().__name__.rpartition(".")[2]
    try:
        kernels.set_host(request.param)
    except RuntimeError as error:
        pytest.skip(str(error))
    yield request.param
    kernels.set_host(before)


def images(n=23, channels=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, channels, 5, 4), dtype=np.uint8)


def dataset(n=23):
    return ArrayDataset(images(n), np.arange(n))


def numbers(loader):
    """The sample numbers of each batch of one epoch."""
    return [labels.numpy().tolist() for _, labels in loader]


# -- batches ------


def test_in_order(host):
    batches = list(DataLoader(dataset(), batch_size=5))
    assert [y.numpy().tolist() for _, y in batches] == [list(range(i, min(i + 5, 23))) for i in range(0, 23, 5)]
    x = np.concatenate([x.numpy() for x, _ in batches])
    assert x.dtype == np.uint8
    np.testing.assert_array_equal(x, images())


@pytest.mark.parametrize(
    ("n", "batch_size", "drop_last", "sizes"),
    [
        (23, 5, False, [5, 5, 5, 5, 3]),
        (23, 5, True, [5, 5, 5, 5]),
        (20, 5, False, [5, 5, 5, 5]),
        (20, 5, True, [5, 5, 5, 5]),
        (3, 5, False, [3]),
        (3, 1, False, [1, 1, 1]),
        (1, 1, True, [1]),
    ],
)
def test_length(n, batch_size, drop_last, sizes):
    loader = DataLoader(dataset(n), batch_size, drop_last=drop_last)
    assert len(loader) == len(sizes)
    assert [len(y) for _, y in loader] == sizes
    assert [len(x) for x, _ in loader] == sizes


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("mean", "std"),
    [(0.0, 1.0), (0.13, 0.31), ([0.1, 0.2, 0.3], [0.5, 0.25, 1.0]), ([0.1, 0.2, 0.3], 0.5)],
    ids=str,
)
def test_conversion(host, mean, std, dtype):
    loader = DataLoader(dataset(), 4, shuffle=True, scale=1 / 255, mean=mean, std=std, dtype=dtype)
    along = (-1, 1, 1)
    want = (images() / 255 - np.reshape(mean, along)) / np.reshape(std, along)
    for x, y in loader:
        assert x.dtype == dtype and x.shape == (len(y), 3, 5, 4) and y.dtype == np.int64
        np.testing.assert_allclose(x.numpy(), want[y.numpy()], **tolerance("gather", dtype))


@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 4), (2, 3, 4), (1, 2, 3, 4)], ids=str)
@pytest.mark.parametrize("source", [np.uint8, np.float32, np.float64])
def test_conversion_of_any_rank(host, source, shape):
    x = np.random.default_rng(1).integers(0, 17, (9, *shape)).astype(source)
    loader = DataLoader(ArrayDataset(x, np.arange(9)), 4, shuffle=True, scale=1 / 16, mean=0.3)
    for batch, rows in loader:
        want = x[rows.numpy()] / 16 - 0.3
        np.testing.assert_allclose(batch.numpy(), want, **tolerance("gather", np.float32))


def test_arrays_without_conversion_keep_dtype_and_values(host):
    rng = np.random.default_rng(2)
    arrays = [rng.normal(size=(9, 2)).astype(t) for t in (np.float32, np.float64)]
    arrays += [rng.integers(-5, 5, (9, 3)).astype(t) for t in (np.int32, np.int64, np.int8)] + [arrays[0] > 0]
    arrays[0][3, 0], arrays[1][4, 1] = np.nan, -np.inf
    batches = list(DataLoader(ArrayDataset(*arrays), 4))
    for i, want in enumerate(arrays):
        got = np.concatenate([batch[i].numpy() for batch in batches])
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)


def test_conversion_of_other_arrays(host):
    data = ArrayDataset(np.arange(6), images(6), images(6, seed=1))
    loader = DataLoader(data, 4, convert={1: Convert(scale=2.0), 2: Convert(mean=1.0, std=4.0, dtype="float64")})
    for rows, a, b in loader:
        rows = rows.numpy()
        assert a.dtype == np.float32 and b.dtype == np.float64
        np.testing.assert_allclose(a.numpy(), images(6)[rows] * 2.0, **tolerance("gather", np.float32))
        want = (images(6, seed=1)[rows] - 1.0) / 4.0
        np.testing.assert_allclose(b.numpy(), want, **tolerance("gather", np.float64))


def test_memory_order_and_byte_order_do_not_matter(host):
    x = images().astype(np.float64) / 255
    odd = [
        x[::-1][::-1],
        np.asfortranarray(x),
        np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
        x.astype(">f8"),
    ]
    for variant in odd:
        for (want, _), (got, _) in zip(DataLoader(ArrayDataset(x, x), 6), DataLoader(ArrayDataset(variant, x), 6)):
            assert got.dtype == np.float64 and got.dtype.isnative
            np.testing.assert_array_equal(got.numpy(), want.numpy())


def test_batches_are_copies():
    data = ArrayDataset(np.zeros((4, 2), np.float32), np.zeros(4, np.int64))
    for x, y in DataLoader(data, 4):
        x.numpy()[:] = 1
        y.numpy()[:] = 1
    assert not data.arrays[0].any() and not data.arrays[1].any()


def test_subset(host):
    rows = [20, 3, 11, 7, 5]
    loader = DataLoader(Subset(dataset(), rows), 2)
    assert numbers(loader) == [[20, 3], [11, 7], [5]]
    shuffled = DataLoader(Subset(dataset(), rows), 2, shuffle=True, scale=1.0)
    got = list(shuffled)
    assert sorted(i for _, y in got for i in y.numpy()) == sorted(rows)
    for x, y in got:
        np.testing.assert_array_equal(x.numpy(), images()[y.numpy()])


# -- order ------


def test_shuffle_is_a_new_permutation_every_epoch():
    loader = DataLoader(dataset(), 5, shuffle=True, generator=fastdl.random.Generator(3))
    epochs = [sum(numbers(loader), []) for _ in range(4)]
    assert all(sorted(epoch) == list(range(23)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    generator = fastdl.random.Generator(3)
    assert epochs == [generator.permutation(23).tolist() for _ in range(4)]


def test_order_is_the_same_on_every_backend(cpu):
    before = kernels.host().__name__.rpartition(".")[2]
    orders = []
    for name in ("numpy", "cpu"):
        kernels.set_host(name)
        orders.append(numbers(DataLoader(dataset(), 5, shuffle=True, generator=fastdl.random.Generator(3))))
    kernels.set_host(before)
    assert orders[0] == orders[1]


def test_manual_seed_decides_the_order():
    def orders(seed, disturb=0):
        fastdl.random.manual_seed(seed)
        loader = DataLoader(dataset(), 5, shuffle=True)
        fastdl.random.default_generator.words(disturb)
        return [numbers(loader), numbers(loader)]

    assert orders(1) == orders(1, disturb=10)
    assert orders(1) != orders(2)


def test_without_shuffle_nothing_is_drawn():
    fastdl.random.manual_seed(1)
    list(DataLoader(dataset(), 5))
    assert fastdl.random.default_generator.state_dict()["counter"] == 0


# -- position ------


def loaders(shuffle, drop_last, seed):
    generator = fastdl.random.Generator(seed) if shuffle else None
    return DataLoader(dataset(), 5, shuffle=shuffle, drop_last=drop_last, generator=generator, scale=1 / 255)


def steps(loader, epochs):
    """(epoch, bytes of the batch, state after it) for every batch until `epochs` are over."""
    while loader.epoch < epochs:
        for x, y in loader:
            yield loader.epoch, x.numpy().tobytes() + y.numpy().tobytes(), loader.state_dict()


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
def test_resuming_after_any_batch_gives_the_same_bits(shuffle, drop_last):
    whole = list(steps(loaders(shuffle, drop_last, 1), 3))
    assert len(whole) == 3 * (4 if drop_last else 5)
    for done, (_, _, state) in enumerate(whole, 1):
        resumed = loaders(shuffle, drop_last, 2)
        resumed.load_state_dict(json.loads(json.dumps(state)))
        assert resumed.state_dict() == state
        rest = list(steps(resumed, 3))
        assert rest == whole[done:]


@pytest.mark.parametrize("shuffle", [False, True])
def test_resuming_between_epochs(shuffle):
    loader = loaders(shuffle, False, 1)
    for epoch in range(3):
        state = loader.state_dict()
        assert (state["epoch"], state["position"], state["running"]) == (epoch, 0, False)
        resumed = loaders(shuffle, False, 2)
        resumed.load_state_dict(state)
        assert numbers(resumed) == numbers(loader)
        assert resumed.epoch == loader.epoch == epoch + 1
        assert resumed.state_dict() == loader.state_dict()


def test_resuming_before_the_first_batch_of_an_epoch():
    loader = loaders(True, False, 1)
    iterator = iter(loader)
    resumed = loaders(True, False, 2)
    resumed.load_state_dict(loader.state_dict())
    assert [y.numpy().tolist() for _, y in iterator] == numbers(resumed)
    assert numbers(loader) == numbers(resumed)


def test_state_after_the_last_batch_resumes_at_the_end_of_the_epoch():
    loader = loaders(True, False, 1)
    iterator = iter(loader)
    for _ in range(5):
        next(iterator)
    assert (loader.epoch, loader.position) == (0, 5)
    resumed = loaders(True, False, 2)
    resumed.load_state_dict(loader.state_dict())
    assert next(iterator, None) is None
    assert numbers(resumed) == []
    assert resumed.epoch == loader.epoch == 1
    assert numbers(resumed) == numbers(loader)


def test_state_is_a_snapshot():
    loader = loaders(True, False, 1)
    iterator = iter(loader)
    next(iterator)
    state = loader.state_dict()
    kept = json.dumps(state)
    list(iterator)
    numbers(loader)
    assert json.dumps(state) == kept
    assert state["generator"] == {"seed": 1, "counter": 0}


def test_loading_in_the_middle_of_an_epoch_leaves_that_iterator_alone():
    loader = loaders(True, False, 1)
    want = [y for epoch in range(2) for y in numbers(loader)]
    loader = loaders(True, False, 1)
    iterator = iter(loader)
    first = next(iterator)
    state = loader.state_dict()
    next(iterator)
    loader.load_state_dict(state)
    assert len(list(iterator)) == 3  # the old iterator runs on, unnoticed
    assert loader.state_dict() == state
    assert [first[1].numpy().tolist(), *numbers(loader), *numbers(loader)] == want


def test_an_epoch_left_early_is_not_continued():
    loader, same = loaders(True, False, 1), loaders(True, False, 1)
    next(iter(loader))
    numbers(same)
    assert loader.epoch == 0 and loader.position == 1
    assert numbers(loader) == numbers(same)
    assert loader.epoch == same.epoch == 2


def test_two_iterators_at_once():
    loader = loaders(True, False, 1)
    old = iter(loader)
    next(old)
    new = iter(loader)
    next(new)
    next(new)
    assert len(list(old)) == 4
    assert (loader.epoch, loader.position, len(new)) == (1, 2, 3)
    assert len(list(new)) == 3
    assert (loader.epoch, loader.position) == (2, 0)
    assert next(new, None) is None and next(old, None) is None
    assert loader.epoch == 2


# -- refusals ------


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ({"batch_size": 0}, ValueError, "DataLoader: batch_size must be positive, got 0"),
        ({"batch_size": -3}, ValueError, "DataLoader: batch_size must be positive, got -3"),
        ({"batch_size": 2.0}, TypeError, "DataLoader: batch_size must be an int, got float"),
        ({"batch_size": True}, TypeError, "DataLoader: batch_size must be an int, got bool"),
        (
            {"batch_size": 24, "drop_last": True},
            ValueError,
            r"batch_size must be at most 23 \(the samples\) with drop_last, got 24",
        ),
        (
            {"shuffle": True, "generator": 3},
            TypeError,
            "generator must be a fastdl.random.Generator, got int",
        ),
        ({"generator": 3}, TypeError, "generator must be a fastdl.random.Generator, got int"),
        ({"scale": float("nan")}, ValueError, "Convert: scale must be finite, got nan"),
        ({"scale": [1.0, 2.0]}, ValueError, "Convert: scale must be one number"),
        ({"scale": "a"}, TypeError, "Convert: scale must be a number or numbers, got 'a'"),
        ({"mean": float("inf")}, ValueError, "Convert: mean must be finite, got inf"),
        ({"mean": []}, ValueError, r"Convert: mean must be one number or one a channel, got shape \(0,\)"),
        (
            {"mean": [[1.0]]},
            ValueError,
            r"Convert: mean must be one number or one a channel, got shape \(1, 1\)",
        ),
        (
            {"mean": [1.0, 2.0]},
            ValueError,
            r"array 0 of shape \(23, 3, 5, 4\) must have 1 number or 3 as mean, got 2",
        ),
        ({"std": [1.0] * 4}, ValueError, "must have 1 number or 3 as std, got 4"),
        ({"std": 0.0}, ValueError, "Convert: std must be positive, got 0.0"),
        ({"std": [1.0, -1.0, 1.0]}, ValueError, "Convert: std must be positive"),
        ({"dtype": "float16"}, ValueError, "Convert: dtype must be 'float32' or 'float64', got 'float16'"),
        ({"dtype": "fast"}, ValueError, "Convert: dtype must be 'float32' or 'float64', got 'fast'"),
        ({"convert": [Convert()]}, TypeError, "convert must be a dict, got list"),
        ({"convert": {0: 2.0}}, TypeError, r"convert\[0\] must be a Convert, got float"),
        ({"convert": {2: Convert()}}, ValueError, r"convert must name arrays in \[0, 2\), got 2"),
        ({"convert": {0: Convert()}, "scale": 2.0}, ValueError, r"give scale or convert\[0\], not both"),
        (
            {"convert": {1: Convert()}},
            TypeError,
            "array 1 must be uint8, float32 or float64 to be converted, got int64",
        ),
    ],
)
def test_refuses(how, error, message):
    with pytest.raises(error, match=message):
        DataLoader(dataset(), **how)


def test_refuses_other_data():
    with pytest.raises(TypeError, match="DataLoader: dataset must be an ArrayDataset or a Subset, got ndarray"):
        DataLoader(np.zeros((3, 2)))
    with pytest.raises(TypeError, match="array 0 must be float32, float64, bfloat16, bool or integers, got float16"):
        DataLoader(ArrayDataset(np.zeros(3, np.float16)))
    with pytest.raises(ValueError, match="Convert: dtype must be 'float32' or 'float64', got None"):
        Convert(dtype=None)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"epoch": -1}, ValueError, "epoch must be at least 0, got -1"),
        ({"epoch": 1.0}, TypeError, "epoch must be an int, got float"),
        ({"position": 6}, ValueError, r"position must be in \[0, 5\], got 6"),
        ({"position": -1}, ValueError, r"position must be in \[0, 5\], got -1"),
        ({"running": False}, ValueError, r"position must be in \[0, 0\], got 2"),
        ({"batch_size": 4}, ValueError, "batch_size must be 5 as in this loader, got 4"),
        ({"samples": 22}, ValueError, "samples must be 23 as in this loader, got 22"),
        ({"shuffle": False}, ValueError, "shuffle must be True as in this loader, got False"),
        ({"drop_last": True}, ValueError, "drop_last must be False as in this loader, got True"),
        ({"generator": None}, TypeError, "generator must be a dict, got NoneType"),
        ({"generator": {}}, KeyError, "seed"),
        ({"generator": {"seed": 1, "counter": -1}}, ValueError, "counter must lie in"),
    ],
)
def test_load_state_dict_refuses(change, error, message):
    loader = loaders(True, False, 1)
    iterator = iter(loader)
    next(iterator)
    next(iterator)
    state = loader.state_dict()
    with pytest.raises(error, match=message):
        loader.load_state_dict({**state, **change})
    assert loader.state_dict() == state
    for key in state:
        with pytest.raises(KeyError, match=f"state has no entry '{key}'"):
            loader.load_state_dict({k: v for k, v in state.items() if k != key})
