"""What a Tensor is: data, conversion, operators, printing, and the errors of each."""

import copy

import numpy as np
import pytest

import fastdl as fd

# -- making and looking -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data, dtype",
    [
        (1.5, "float32"),
        ([1.0, 2.0], "float32"),
        ([[1, 2], [3, 4]], "int64"),
        (3, "int64"),
        (True, "bool"),
        ([True, False], "bool"),
        ([1, 2.5], "float32"),
        ([], "float32"),
        (np.ones(2), "float64"),
        (np.float64(2.0), "float64"),
        ([np.float64(2.0)], "float64"),
        (np.ones(2, np.uint8), "uint8"),
        ([np.ones(2, np.float32), np.zeros(2, np.float32)], "float32"),
        (range(3), "int64"),
    ],
    ids=str,
)
def test_tensor_dtypes(data, dtype):
    t = fd.tensor(data)
    assert t.dtype == dtype
    np.testing.assert_array_equal(t.numpy(), np.array(data).astype(dtype))


def test_tensor_copies_and_from_numpy_shares():
    array = np.zeros(3, np.float32)
    copied, shared = fd.tensor(array), fd.from_numpy(array)
    array[0] = 5.0
    assert copied[0].item() == 0.0 and shared[0].item() == 5.0 and shared.data is array
    assert fd.as_tensor(shared) is shared and fd.as_tensor(array).data is array
    assert fd.tensor(shared).data is not array


def test_tensor_keeps_float64_precision_of_python_floats_when_asked():
    assert fd.tensor(0.1, dtype="float64").item() == 0.1
    assert fd.tensor([0.1], dtype=fd.float64)[0].item() == 0.1


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: fd.tensor("text"), TypeError, "tensor: data must be numbers or bools, got <U4"),
        (lambda: fd.tensor(None), TypeError, "tensor: data must be numbers or bools, got NoneType"),
        (lambda: fd.tensor([[1, 2], [3]]), ValueError, "tensor: data must be rectangular"),
        (lambda: fd.tensor([1j]), TypeError, "tensor: data must be numbers or bools, got complex128"),
        (lambda: fd.tensor(np.ones(2, np.float16)), TypeError, "tensor: dtype must be float32.* got float16"),
        (lambda: fd.from_numpy(np.ones(2, np.int8)), TypeError, "from_numpy: dtype must be .*uint8 or bool, got int8"),
        (lambda: fd.tensor([1.0], dtype="nonsense"), TypeError, "tensor: dtype must be a NumPy dtype.*'nonsense'"),
        (lambda: fd.tensor([1], requires_grad=True), TypeError, "only float tensors.*int64"),
        (lambda: fd.tensor([1.0], device="gpu"), ValueError, "device must be 'numpy', 'cpu' or 'cuda', got 'gpu'"),
        (lambda: fd.tensor([1.0], device="cuda"), RuntimeError, "device 'cuda' is not available"),
        (lambda: fd.tensor([1.0], device=0), TypeError, "device must be .* got int"),
        (lambda: fd.Tensor([1.0]), TypeError, "Tensor: data must be a NumPy or CuPy array, got list"),
        (lambda: fd.Tensor(np.array(["a"])), TypeError, "Tensor: dtype must be"),
        (lambda: fd.from_numpy([1.0]), TypeError, "from_numpy: array must be a NumPy array, got list"),
        (
            lambda: fd.tensor([1, 300], dtype="uint8"),
            ValueError,
            "tensor: data must be in the range of uint8, got 1 to 300",
        ),
        (
            lambda: fd.tensor(float("nan"), dtype="int64"),
            ValueError,
            "tensor: data must be in the range of int64, got nan",
        ),
        (
            lambda: fd.full((2,), -1, dtype="uint8"),
            ValueError,
            "full: fill_value must be in the range of uint8, got -1",
        ),
        (
            lambda: fd.zeros(2, dtype="uint8").fill_(256),
            ValueError,
            "fill_: value must be in the range of uint8, got 256",
        ),
        (lambda: fd.zeros(2, -1), ValueError, r"zeros: size must be at least 0, got \(2, -1\)"),
        (lambda: fd.ones(2.5), TypeError, "ones: size must be ints, got float"),
        (lambda: fd.full((2,), "x"), TypeError, "full: fill_value must be a number, got str"),
        (lambda: fd.arange(0, 5, 0), ValueError, "arange: step must lead from start to end"),
        (lambda: fd.arange(float("nan")), ValueError, "arange: end must be finite, got nan"),
        (lambda: fd.randn(3, dtype="int64"), TypeError, "normal: dtype must be float32 or float64, got int64"),
        (lambda: fd.zeros_like([1.0]), TypeError, "full_like: input must be a Tensor, got list"),
    ],
)
def test_making_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_constants():
    np.testing.assert_array_equal(fd.zeros(2, 3).numpy(), np.zeros((2, 3), np.float32))
    np.testing.assert_array_equal(fd.ones((2, 3), dtype="float64").numpy(), np.ones((2, 3)))
    assert fd.full((2,), 3).dtype == "int64" and fd.full((2,), 3.0).dtype == "float32"
    assert fd.full((2,), True).dtype == "bool" and fd.full((), 2.0).shape == ()
    np.testing.assert_array_equal(fd.arange(4).numpy(), np.arange(4))
    np.testing.assert_array_equal(fd.arange(1, 2, 0.25).numpy(), np.arange(1, 2, 0.25, np.float32))
    np.testing.assert_array_equal(fd.eye(2, 3).numpy(), np.eye(2, 3, dtype=np.float32))
    np.testing.assert_array_equal(fd.linspace(0, 1, 5).numpy(), np.linspace(0, 1, 5, dtype=np.float32))
    x = fd.zeros(2, 3, dtype="float64", requires_grad=True)
    for like in (fd.zeros_like, fd.ones_like, fd.empty_like, fd.rand_like, fd.randn_like):
        assert like(x).shape == (2, 3) and like(x).dtype == "float64" and not like(x).requires_grad
        assert like(x, dtype="float32").dtype == "float32"


def test_properties():
    x = fd.zeros(2, 3, 4)
    assert x.shape == (2, 3, 4) == x.size() and x.size(-1) == 4 and x.ndim == x.dim() == 3
    assert x.numel() == 24 and len(x) == 2 and x.device in ("numpy", "cpu") and x.is_floating_point()
    assert x.is_leaf and x.grad is None and x.grad_fn is None and x.is_contiguous()
    assert x.T.shape == (4, 3, 2) and x.mT.shape == (2, 4, 3) and not x.T.is_contiguous()
    with pytest.raises(IndexError, match=r"size: dim must lie in \[-3, 3\), got 3"):
        x.size(3)


def test_numbers():
    assert fd.tensor(2.5).item() == 2.5 and float(fd.tensor([2.5])) == 2.5 and int(fd.tensor(3)) == 3
    assert [10, 20, 30][fd.tensor(1)] == 20 and f"{fd.tensor(2.5):.2f}" == "2.50"
    assert fd.tensor([[1, 2]]).tolist() == [[1, 2]]
    with pytest.raises(ValueError, match=r"item: the tensor must have one element, got shape \(2,\)"):
        fd.zeros(2).item()
    with pytest.raises(TypeError, match="can be an index"):
        [1, 2][fd.tensor(1.0)]
    with pytest.raises(TypeError, match="0-d"):
        len(fd.tensor(1.0))
    with pytest.raises(TypeError, match="0-d"):
        iter(fd.tensor(1.0))


def test_truth():
    assert fd.tensor(True) and not fd.tensor([0.0])
    with pytest.raises(ValueError, match=r"shape \(2,\) is ambiguous"):
        bool(fd.zeros(2))


def test_iteration_and_gradient():
    x = fd.ones(3, 2, requires_grad=True)
    rows = list(x)
    assert len(rows) == 3 and rows[0].shape == (2,)
    rows[1].sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [[0, 0], [1, 1], [0, 0]])


def test_to_numpy():
    x = fd.ones(2, requires_grad=True)
    with pytest.raises(RuntimeError, match=r"requires grad.*t\.detach\(\)\.numpy\(\)"):
        x.numpy()
    with pytest.raises(RuntimeError, match="requires grad"):
        np.asarray(x)
    array = np.asarray(x.detach())
    assert array is x.data and np.asarray(x.detach(), dtype=np.float64).dtype == np.float64


@pytest.mark.parametrize(
    "tensor, text",
    [
        (fd.tensor([1.0, 2.5]), "tensor([1. , 2.5])"),
        (fd.tensor(3), "tensor(3)"),
        (fd.tensor([1.0], dtype="float64"), "tensor([1.], dtype=float64)"),
        (fd.tensor([1.0], requires_grad=True), "tensor([1.], requires_grad=True)"),
        (fd.tensor([1.0], requires_grad=True) * 2, "tensor([2.], grad_fn=<Mul>)"),
        (fd.zeros(0, 3), "tensor([], size=(0, 3))"),
        (fd.tensor([True]), "tensor([ True])"),
    ],
    ids=str,
)
def test_repr(tensor, text):
    assert repr(tensor) == text == str(tensor)


# -- conversion and copies ----------------------------------------------------------------------------------------


def test_to():
    x = fd.ones(2, requires_grad=True)
    assert x.to("float32") is x and x.to("cpu") is x if x.device == "cpu" else True
    assert x.to("float64").dtype == "float64" and x.to(dtype=np.int64).dtype == "int64"
    assert x.to(fd.zeros(1, dtype="float64")).dtype == "float64" and x.to("numpy", "float64").dtype == "float64"
    assert x.float() is x and x.double().dtype == "float64" and x.long().dtype == "int64"
    assert x.to("float32", copy=True).data is not x.data
    (x.double() * 3.0).sum().backward()
    assert x.grad.dtype == "float32" and x.grad.tolist() == [3.0, 3.0]
    with pytest.raises(RuntimeError, match="'cuda' is not available"):
        x.to("cuda")
    with pytest.raises(TypeError, match="dtype must be a NumPy dtype or its name, got 'tpu'"):
        x.to("tpu")
    with pytest.raises(TypeError, match="got complex64"):
        x.to(np.complex64)


def test_clone_detach_deepcopy():
    x = fd.ones(2, requires_grad=True)
    assert x.clone().data is not x.data and x.clone().requires_grad
    assert x.detach().data is x.data and not x.detach().requires_grad
    (x * 2.0).sum().backward()
    y = copy.deepcopy(x)
    assert y.requires_grad and y.grad.tolist() == [2.0, 2.0] and y.data is not x.data
    assert not np.may_share_memory(y.grad.data, x.grad.data)
    with pytest.raises(RuntimeError, match="only leaf tensors can be copied"):
        copy.deepcopy(x * 2.0)


def test_requires_grad_switch():
    x = fd.ones(2)
    assert x.requires_grad_() is x and x.requires_grad
    x.requires_grad = False
    assert not x.requires_grad
    y = fd.ones(2, requires_grad=True) * 2.0
    with pytest.raises(RuntimeError, match="only leaf tensors can be switched off"):
        y.requires_grad_(False)
    assert not y.detach_().requires_grad and y.is_leaf
    with pytest.raises(TypeError, match="only float tensors have gradients, this one is int64"):
        fd.arange(3).requires_grad_()


@pytest.mark.parametrize(
    "grad, error, message",
    [
        (np.ones(2), TypeError, "grad must be a Tensor or None, got ndarray"),
        (fd.ones(2, dtype="float64"), TypeError, "grad must be float32 like the tensor, got float64"),
        (fd.ones(3), ValueError, r"grad must have shape \(2,\), got \(3,\)"),
    ],
    ids=["kind", "dtype", "shape"],
)
def test_bad_grad(grad, error, message):
    with pytest.raises(error, match=message):
        fd.ones(2).grad = grad


# -- operators ----------------------------------------------------------------------------------------------------


def test_operators_with_numbers_keep_the_dtype():
    for dtype in ("float32", "float64"):
        x = fd.tensor([1.0, 2.0], dtype=dtype)
        for y in (x + 1, 1 + x, x - 1.5, 2 - x, x * 3, 3.0 * x, x / 2, 2 / x, x**2, 2**x, x + np.float64(1), x + True):
            assert y.dtype == dtype
    np.testing.assert_array_equal((2 - fd.tensor([1.0, 5.0])).numpy(), [1.0, -3.0])
    np.testing.assert_array_equal((2 / fd.tensor([1.0, 4.0])).numpy(), [2.0, 0.5])
    np.testing.assert_array_equal((2 ** fd.tensor([1.0, 3.0])).numpy(), [2.0, 8.0])


def test_operators_with_arrays_give_tensors():
    x, array = fd.ones(2, requires_grad=True), np.array([2.0, 3.0], np.float32)
    for y in (x * array, array * x, array + x, array - x, array / x, x @ array, array @ x):
        assert isinstance(y, fd.Tensor) and y.requires_grad
    assert (np.float32(3.0) * x).requires_grad
    np.testing.assert_array_equal((array - x).detach().numpy(), [1.0, 2.0])


def test_different_float_dtypes_raise():
    a, b = fd.ones(2), fd.ones(2, dtype="float64")
    for call in (lambda: a + b, lambda: b * a, lambda: a @ b, lambda: fd.maximum(a, b), lambda: a == b):
        with pytest.raises(TypeError, match="float32.*float64|float64.*float32"):
            call()


def test_integers_and_bools_follow_torch():
    i, x = fd.tensor([1, 2]), fd.tensor([1.5, 2.5])
    assert (i + 1).dtype == "int64" and (i + 1.5).dtype == "float32" and (i / 2).dtype == "float32"
    assert (i * x).dtype == "float32" and (x * (x > 2)).tolist() == [0.0, 2.5]
    assert (i // 2).tolist() == [0, 1] and (i % 2).tolist() == [1, 0] and (-i).tolist() == [-1, -2]
    assert (i == 1).tolist() == [True, False] and (i == fd.tensor([1.0, 3.0])).tolist() == [True, False]
    assert (fd.tensor([True]) + 1).dtype == "int64" and (i == fd.tensor([1, 2])).float().mean().item() == 1.0
    with pytest.raises(ZeroDivisionError, match="floor_divide: other must not be 0"):
        i // 0
    with pytest.raises(ValueError, match="add: other must be in the range of uint8, got 300"):
        fd.tensor([1], dtype="uint8") + 300


def test_strange_operands():
    x = fd.ones(2)
    assert (x == None) is False and (x != "text") is True  # noqa: E711
    for call in (lambda: x + "text", lambda: x * None, lambda: [1] - x, lambda: x < None):
        with pytest.raises(TypeError):
            call()
    with pytest.raises(TypeError, match="add: other must be a Tensor or a number, got str"):
        x.add("text")


def test_shapes_that_do_not_broadcast():
    with pytest.raises(ValueError, match=r"add: .*\(2,\).*\(3,\)|add: .*\(3,\).*\(2,\)"):
        fd.ones(2) + fd.ones(3)
    with pytest.raises(ValueError, match="add: .*broadcast"):
        fd.arange(2) + fd.arange(3)
    with pytest.raises(ValueError, match="matmul: other must have 3 rows"):
        fd.ones(2, 3) @ fd.ones(2, 3)


def test_tensors_are_hashable_by_identity():
    x, y = fd.ones(2), fd.ones(2)
    assert len({x, y, x}) == 2


def test_methods_mirror_functions():
    x = fd.tensor([[1.0, -2.0], [3.0, 4.0]])
    assert x.view(4).tolist() == x.reshape(-1).tolist() == [1.0, -2.0, 3.0, 4.0]
    assert x.max().item() == 4.0 and x.max(1).indices.tolist() == [0, 1] and x.argmax(0).tolist() == [1, 1]
    assert x.view_as(fd.zeros(4)).shape == (4,) and x.type_as(fd.zeros(1, dtype="float64")).dtype == "float64"
    assert abs(x).sum().item() == 10.0 and (-x).sum().item() == -6.0 and x.relu().sum().item() == 8.0
    assert x.clamp(0, 3).tolist() == [[1.0, 0.0], [3.0, 3.0]] and x.unsqueeze(0).squeeze(0).shape == (2, 2)


# -- in place -----------------------------------------------------------------------------------------------------


def test_in_place_methods():
    x = fd.tensor([4.0, -9.0])
    alias = x
    x += 1.0
    x *= fd.tensor([2.0, 1.0])
    x -= 1.0
    x /= 3.0
    assert alias is x and x.tolist() == [3.0, -3.0]
    assert x.abs_().add_(1.0).sqrt_().tolist() == [2.0, 2.0]
    assert x.pow_(3).clamp_(max=5.0).neg_().tolist() == [-5.0, -5.0]
    assert x.fill_(2.0).tolist() == [2.0, 2.0] and x.zero_().tolist() == [0.0, 0.0]
    assert x.copy_(fd.tensor([1.0])).tolist() == [1.0, 1.0] and x.copy_(np.array([3, 4])).tolist() == [3.0, 4.0]
    assert x.masked_fill_(x > 3.5, 0.0).tolist() == [3.0, 0.0]
    fd.manual_seed(0)
    assert ((0.0 <= x.uniform_().data) & (x.data < 1.0)).all() and x.normal_(5.0, 0.0).tolist() == [5.0, 5.0]


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: fd.ones(2).add_(fd.ones(3, 2)), ValueError, r"add_: the result must have shape \(2,\).*\(3, 2\)"),
        (lambda: fd.ones(2).add_(fd.ones(2, dtype="float64")), TypeError, "float32.*float64"),
        (lambda: fd.arange(2).add_(0.5), TypeError, "add_: the result must be int64 like the tensor, got float32"),
        (lambda: fd.ones(2).copy_(fd.ones(3)), ValueError, r"copy_: src must broadcast to \(2,\), got shape \(3,\)"),
        (lambda: fd.ones(2).copy_([1.0, 2.0]), TypeError, "copy_: src must be a Tensor, got list"),
        (lambda: fd.ones(2).fill_("x"), TypeError, "fill_: value must be a number, got str"),
        (lambda: fd.ones(1).expand(3).zero_(), ValueError, "assign: out must be writeable"),
        (lambda: fd.ones(2).uniform_(1.0, 0.0), ValueError, "uniform: low must not be above high"),
        (lambda: fd.ones(2).normal_(0.0, -1.0), ValueError, "normal: std must be at least 0, got -1"),
    ],
)
def test_in_place_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_views_share_memory_and_versions():
    x = fd.zeros(2, 3)
    x[0].fill_(1.0)
    x.T[2].add_(5.0)
    x.view(6)[3] = 7.0
    assert x.tolist() == [[1.0, 1.0, 6.0], [7.0, 0.0, 5.0]] and x._version == 3


def test_data_set_to_a_tensor_is_named_where_it_is_used(device):
    layer = fd.nn.Linear(2, 3).to(device)
    x = fd.ones(1, 2, device=device)
    layer.weight.data = layer.weight.detach()
    with pytest.raises(TypeError, match="weight must be .*, got Tensor; .* takes an array, as in p.data = t.data"):
        layer(x)
    layer.weight.data = layer.weight.data.data
    layer(x)
