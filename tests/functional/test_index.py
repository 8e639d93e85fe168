"""Indexing and assignment against NumPy's, with gradients."""

import numpy as np
import pytest

import fastdl as fd

SHAPE = (4, 3, 2)
BASIC = [
    0, -1, slice(1, 3), slice(None, None, 2), slice(5, 1), (1, 2), (1, 2, 0), (slice(None), 1), (..., 0), (0, ..., 1),
    None, (None, 0), (slice(1, 4, 2), None, -2), (), ..., (slice(None), slice(0, 0)), (..., None), np.int64(2),
]  # fmt: skip
ADVANCED = [
    [0, 0, 3], [-1, 2], np.array([[0, 1], [3, 3]]), np.array([], np.int64), (slice(None), [0, 2, 2]), ([0, 1], [2, 2]),
    ([0, 1], slice(None), 1), ([3, 0], slice(1, 3)), (1, [0, 1, 1]), ([[0], [1]], [0, 2]),
    np.array([True, False, True, True]),
    np.arange(24).reshape(SHAPE) % 3 == 0, np.arange(12).reshape(4, 3) % 5 == 1,
    (slice(None), np.array([True, False, True])),
        np.zeros(4, bool), (..., [0, 0]), (None, [1, 1]), [True, False, True, False],
]  # fmt: skip


def text(index):
    return str(index).replace("\n", "").replace(" ", "")


def beside(index, x):
    """The index with its arrays, as tensors, where x lies."""
    if isinstance(index, tuple):
        return tuple(beside(item, x) for item in index)
    return fd.from_numpy(index).to(x.device) if isinstance(index, np.ndarray) and x.device == "cuda" else index


@pytest.mark.parametrize("index", BASIC + ADVANCED, ids=text)
def test_values_and_gradient(device, index):
    array = np.random.default_rng(0).standard_normal(SHAPE)
    x = fd.tensor(array, requires_grad=True)
    y = x[beside(index, x)]
    np.testing.assert_array_equal(y.detach().cpu().numpy(), array[index])
    weights = np.random.default_rng(1).standard_normal(y.shape)
    y.backward(fd.tensor(weights))
    want = np.zeros(SHAPE)
    np.add.at(want, index, weights)
    np.testing.assert_allclose(x.grad.cpu().numpy(), want, rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize("index", BASIC, ids=text)
def test_basic_indices_are_views(index):
    x = fd.zeros(*SHAPE)
    assert not x[index].numel() or np.may_share_memory(x[index].data, x.data)


@pytest.mark.parametrize("index", BASIC + ADVANCED, ids=text)
def test_assignment_and_gradient(device, index):
    rng = np.random.default_rng(2)
    array, weights = rng.standard_normal(SHAPE), rng.standard_normal(SHAPE)
    value = rng.standard_normal(array[index].shape)
    a, v = fd.tensor(array, requires_grad=True), fd.tensor(value, requires_grad=True)
    x = a * 1.0
    x[beside(index, x)] = v
    want = array.copy()
    want[index] = value
    np.testing.assert_array_equal(x.detach().cpu().numpy(), want)
    x.backward(fd.tensor(weights))
    kept = weights.copy()
    kept[index] = 0.0
    np.testing.assert_array_equal(a.grad.cpu().numpy(), kept)
    if not isinstance(index, (list, tuple)) or len(set(np.arange(24).reshape(SHAPE)[index].ravel())) == value.size:
        np.testing.assert_array_equal(v.grad.cpu().numpy(), weights[index])


@pytest.mark.parametrize("value", [2.5, 3, np.float32(1.5), fd.tensor([7.0, 8.0]), fd.tensor([[1], [2], [3]])], ids=str)
def test_assigned_values_broadcast(value):
    x, want = fd.zeros(*SHAPE), np.zeros(SHAPE, np.float32)
    x[1:3] = value
    want[1:3] = value.cpu().numpy() if isinstance(value, fd.Tensor) else value
    np.testing.assert_array_equal(x.cpu().numpy(), want)


def test_a_tensor_assigned_from_itself():
    x = fd.arange(5).float()
    x[1:] = x[:-1]
    assert x.tolist() == [0.0, 0.0, 1.0, 2.0, 3.0]


def test_index_tensors_and_integer_tensors():
    x = fd.arange(12).reshape(3, 4)
    assert x[fd.tensor([2, 0])].tolist() == [[8, 9, 10, 11], [0, 1, 2, 3]]
    assert x[fd.tensor(1), 2].item() == 6 and x[x > 9].tolist() == [10, 11]
    assert fd.ones(3, 4)[fd.tensor(1)].shape == (4,)


@pytest.mark.parametrize(
    "index, error, message",
    [
        (4, IndexError, r"getitem: index must lie in \[-4, 4\) along dim 0, got 4"),
        ((0, -4), IndexError, r"index must lie in \[-3, 3\) along dim 1, got -4"),
        ((0, 0, 0, 0), IndexError, r"index must have at most 3 entries for shape \(4, 3, 2\), got 4"),
        ((..., ...), IndexError, "index must have at most"),
        (slice(None, None, -1), ValueError, "index must have positive steps, got -1"),
        ([0, 4], IndexError, r"index must lie in \[-4, 4\), got 4"),
        ([-5], IndexError, r"index must lie in \[-4, 4\), got -5"),
        (np.ones(3, bool), IndexError, r"index must fit shape \(4, 3, 2\)"),
        (([0], [7]), IndexError, r"index must fit shape \(4, 3, 2\)"),
        (1.5, TypeError, "index must be ints, slices.*got float"),
        ("x", TypeError, "got str"),
        (True, TypeError, "must not be a Python bool"),
        (np.array([1.0]), TypeError, "index must be of integers or bools, got float64"),
    ],
    ids=str,
)
def test_bad_indices(index, error, message):
    with pytest.raises(error, match=message):
        fd.zeros(*SHAPE)[index]
    x = fd.zeros(*SHAPE)
    with pytest.raises(error):
        x[index] = 1.0
    assert x._version == 0 and not x.data.any()


@pytest.mark.parametrize(
    "value, error, message",
    [
        (fd.ones(5), ValueError, "broadcast"),
        (fd.ones(2, dtype="float64"), TypeError, "setitem: value must be float32 like the tensor, got float64"),
        ("x", TypeError, "setitem: value must be a Tensor, got str"),
        (None, TypeError, "setitem: value must be a Tensor, got NoneType"),
    ],
    ids=["shape", "dtype", "text", "none"],
)
def test_bad_values(value, error, message):
    for index in (0, [0, 1]):
        with pytest.raises(error, match=message):
            fd.zeros(*SHAPE)[index] = value
