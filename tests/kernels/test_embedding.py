"""Embedding: worked values, finite differences, PyTorch, repeated rows, layouts, bad input."""

import re

import numpy as np
import pytest

from differences import assert_gradient
from layouts import layouts, unchanged
from on_gpu import skip_where_unseen
from tolerances import assert_close

FLOATS, INTS = ("float32", "float64"), ("int32", "int64")
# rows, width, shape of index
SHAPES = (
    (1, 1, ()), (5, 3, ()), (5, 3, (0,)), (5, 0, (4,)), (0, 3, (0,)), (0, 3, (2, 0)), (7, 1, (20,)),
    (7, 15, (20,)), (7, 16, (5, 4)), (7, 17, (5, 4)), (11, 33, (2, 3, 4)), (3, 300, (35, 20)),
    (10_000, 64, (700,)), (2, 5, (9000,)),
)  # fmt: skip


def make(rows, width, shape, dtype="float32", index_dtype="int64"):
    rng = np.random.default_rng(3)
    weight = np.asarray(rng.standard_normal((rows, width)), dtype)
    index = np.asarray(rng.integers(0, max(rows, 1), shape), index_dtype)
    return weight, index, np.asarray(rng.standard_normal((*shape, width)), dtype)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("index_dtype", INTS)
def test_worked_values(backend, dtype, index_dtype):
    weight = np.array([[1, 2], [3, 4], [5, 6]], dtype)
    index = np.array([[2, 0], [2, 1]], index_dtype)
    assert_close(
        backend.embedding_forward(weight, index),
        np.array([[[5, 6], [1, 2]], [[5, 6], [3, 4]]], dtype),
        "copy",
    )
    dy = np.array([[[1, 2], [3, 4]], [[5, 6], [7, 8]]], dtype)
    got = backend.embedding_backward(dy, index, 4, -1)
    assert_close(got, np.array([[3, 4], [7, 8], [6, 8], [0, 0]], dtype), "copy")
    got = backend.embedding_backward(dy, index, 4, 2)
    assert_close(got, np.array([[3, 4], [7, 8], [0, 0], [0, 0]], dtype), "copy")


def test_finite_differences(reference):
    weight, index, dy = make(4, 3, (5, 2), "float64")
    got = reference.embedding_backward(dy, index, 4, -1)
    assert_gradient(got, lambda w: reference.embedding_forward(w, index), weight, dy)


@pytest.mark.parametrize("padding", [-1, 0, 4])
def test_against_torch(reference, padding):
    torch = pytest.importorskip("torch")
    weight, index, dy = make(5, 3, (6, 4))
    tweight = torch.tensor(weight, requires_grad=True)
    y = torch.nn.functional.embedding(torch.tensor(index), tweight, padding_idx=None if padding < 0 else padding)
    y.backward(torch.tensor(dy))
    assert_close(reference.embedding_forward(weight, index), y.detach().numpy(), "copy")
    assert_close(reference.embedding_backward(dy, index, 5, padding), tweight.grad.numpy(), "embedding", scale=3)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("rows, width, shape", SHAPES)
def test_shapes(backend, reference, rows, width, shape, dtype):
    """Bit for bit: forward copies, and backward adds in the order of index, one addition after another."""
    for index_dtype in INTS:
        weight, index, dy = make(rows, width, shape, dtype, index_dtype)
        with unchanged(weight, index, dy):
            y = backend.embedding_forward(weight, index)
            got = [backend.embedding_backward(dy, index, rows, padding) for padding in (-1, 0)[: 1 + (rows > 0)]]
        assert_close(y, reference.embedding_forward(weight, index), "copy")
        for padding, dweight in zip((-1, 0), got):
            assert_close(dweight, reference.embedding_backward(dy, index, rows, padding), "copy")


def test_adds_in_the_order_of_index(backend):
    """1 after -1e8 + 1e8 survives in float32, before it is lost."""
    dy = np.array([[1e8], [-1e8], [1.0]], "float32")
    assert backend.embedding_backward(dy, np.zeros(3, "int64"), 1, -1)[0, 0] == 1
    assert backend.embedding_backward(dy[[2, 0, 1]], np.zeros(3, "int64"), 1, -1)[0, 0] == 0


def test_layouts(backend, reference):
    weight, index, dy = make(5, 7, (3, 4))
    y, dweight = reference.embedding_forward(weight, index), reference.embedding_backward(dy, index, 5, -1)
    indices = layouts(index, ("contiguous", "fortran", "reversed", "offset", "unaligned"))
    for index_view in indices.values():
        for weight_view in layouts(weight).values():
            with unchanged(weight_view, index_view):
                assert_close(backend.embedding_forward(weight_view, index_view), y, "copy")
        for dy_view in layouts(dy).values():
            with unchanged(dy_view, index_view):
                assert_close(backend.embedding_backward(dy_view, index_view, 5, -1), dweight, "copy")


def test_not_a_number(backend):
    weight = np.array([[np.nan, 1], [np.inf, -0.0]], "float32")
    got = backend.embedding_forward(weight, np.array([1, 0]))
    assert got.tobytes() == weight[::-1].tobytes()


def test_instruction_sets(cpu, reference, isa):
    for rows, width, shape in SHAPES[:-3]:
        weight, index, dy = make(rows, width, shape)
        assert_close(cpu.embedding_forward(weight, index), reference.embedding_forward(weight, index), "copy")
        want = reference.embedding_backward(dy, index, rows, -1)
        assert_close(cpu.embedding_backward(dy, index, rows, -1), want, "copy")


@pytest.mark.parametrize("rows, width, shape", [(100, 300, (40, 50)), (3, 1000, (800,)), (5000, 10, (70_000,))])
def test_threads_do_not_change_bits(cpu, reference, threads, rows, width, shape):
    weight, index, dy = make(rows, width, shape)
    assert cpu.embedding_forward(weight, index).tobytes() == weight[index].tobytes()
    want = reference.embedding_backward(dy, index, rows, -1)
    assert cpu.embedding_backward(dy, index, rows, -1).tobytes() == want.tobytes()


w4, i8, d4 = np.zeros((5, 2), "float32"), np.array([0, 4]), np.zeros((2, 2), "float32")
INVALID = (
    ("embedding_forward", ([[1.0]], i8), TypeError, "weight must be a NumPy array, got list"),
    ("embedding_forward", (w4.astype("int64"), i8), TypeError,
     "weight must be float32 or float64, got int64"),
    ("embedding_forward", (w4[0], i8), ValueError, "weight must have 2 dimensions (R, D), got shape (2,)"),
    ("embedding_forward", (w4, [0, 1]), TypeError, "index must be a NumPy array, got list"),
    ("embedding_forward", (w4, i8.astype("float32")), TypeError, "index must be int32 or int64, got float32"),
    ("embedding_forward", (w4, i8.astype("uint8")), TypeError, "index must be int32 or int64, got uint8"),
    ("embedding_forward", (w4, i8 + 1), IndexError, "index must lie in [0, 5), got 5"),
    ("embedding_forward", (w4, np.array([[0], [-1]], "int32")), IndexError,
     "index must lie in [0, 5), got -1"),
    ("embedding_forward", (w4[:0], i8), IndexError, "index must lie in [0, 0), got 0"),
    ("embedding_backward", (None, i8, 5, -1), TypeError, "dy must be a NumPy array, got NoneType"),
    ("embedding_backward", (d4.astype("int32"), i8, 5, -1), TypeError,
     "dy must be float32 or float64, got int32"),
    ("embedding_backward", (d4, i8 * 1.0, 5, -1), TypeError, "index must be int32 or int64, got float64"),
    ("embedding_backward", (d4[:1], i8, 5, -1), ValueError, "dy must have shape (2,) + (D,), got (1, 2)"),
    ("embedding_backward", (d4[0], i8, 5, -1), ValueError, "dy must have shape (2,) + (D,), got (2,)"),
    ("embedding_backward", (d4, i8, 4, -1), IndexError, "index must lie in [0, 4), got 4"),
    ("embedding_backward", (d4, i8, -1, -1), ValueError,
     "num_embeddings must lie in [0, 4611686018427387904), got -1"),
    ("embedding_backward", (d4, i8, 5.0, -1), TypeError, "num_embeddings must be an int, got float"),
    ("embedding_backward", (d4, i8, 5, -2), ValueError, "padding_idx must lie in [-1, 5), got -2"),
    ("embedding_backward", (d4, i8, 5, 5), ValueError, "padding_idx must lie in [-1, 5), got 5"),
    ("embedding_backward", (d4, i8, 5, None), TypeError, "padding_idx must be an int, got NoneType"),
)  # fmt: skip


@pytest.mark.parametrize("kernel, args, error, message", INVALID)
def test_invalid(backend, kernel, args, error, message):
    skip_where_unseen(backend, error)
    with pytest.raises(error, match="^" + re.escape(f"{kernel}: {message}") + "$"):
        getattr(backend, kernel)(*args)
