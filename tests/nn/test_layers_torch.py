"""Every layer against the layer of the same name in PyTorch: results, gradients, state, repr.

A case is the class name, its arguments, and the shape of the input; both libraries take the same arguments.
"""

import numpy as np
import pytest

import fastdl as fd
from tolerances import assert_close

torch = pytest.importorskip("torch")

LAYERS = [
    ("Linear", (5, 3), {}, (4, 5)),
    ("Linear", (5, 3), {"bias": False}, (2, 4, 5)),
    ("Linear", (1, 1), {}, (1,)),
    ("Linear", (17, 33), {}, (0, 17)),
    ("Identity", (), {}, (2, 3)),
    ("Conv2d", (3, 8, 3), {}, (2, 3, 7, 6)),
    ("Conv2d", (3, 8, (3, 5)), {"stride": (2, 1), "padding": (1, 2), "bias": False}, (2, 3, 9, 8)),
    ("Conv2d", (4, 8, 3), {"groups": 2, "dilation": 2, "padding": 2}, (1, 4, 8, 8)),
    ("Conv2d", (4, 4, 3), {"groups": 4, "padding": "same"}, (2, 4, 5, 5)),
    ("Conv2d", (2, 3, (3, 1)), {"padding": "same", "dilation": (2, 1)}, (2, 2, 6, 5)),
    ("Conv2d", (2, 3, (4, 2)), {"padding": "same"}, (2, 2, 6, 5)),
    ("Conv2d", (2, 3, (3, 2)), {"padding": "same", "dilation": (1, 3)}, (2, 2, 6, 5)),
    ("Conv2d", (2, 3, 5), {"padding": "valid"}, (1, 2, 7, 7)),
    ("Conv2d", (2, 3, 1), {}, (0, 2, 4, 4)),
    ("MaxPool2d", (2,), {}, (2, 3, 6, 8)),
    ("MaxPool2d", ((3, 2),), {"stride": (2, 1), "padding": (1, 1), "ceil_mode": True}, (2, 3, 8, 7)),
    ("MaxPool2d", (2,), {"dilation": 2, "stride": 1}, (1, 2, 7, 7)),
    ("AvgPool2d", (2,), {}, (2, 3, 6, 8)),
    ("AvgPool2d", (3,), {"stride": 2, "padding": 1, "count_include_pad": False}, (2, 3, 8, 7)),
    ("AvgPool2d", (3, 2, 1), {"ceil_mode": True}, (2, 3, 8, 6)),
    ("AvgPool2d", ((2, 3),), {"divisor_override": 5}, (2, 3, 6, 6)),
    ("AdaptiveAvgPool2d", (1,), {}, (2, 3, 5, 7)),
    ("AdaptiveAvgPool2d", ((3, 2),), {}, (2, 3, 7, 5)),
    ("AdaptiveAvgPool2d", ((None, 2),), {}, (2, 3, 4, 5)),
    ("BatchNorm1d", (5,), {}, (6, 5)),
    ("BatchNorm1d", (5,), {"momentum": None}, (4, 5, 3)),
    ("BatchNorm1d", (5,), {"affine": False, "eps": 1e-3}, (6, 5)),
    ("BatchNorm2d", (4,), {"momentum": 0.3}, (3, 4, 5, 2)),
    ("BatchNorm2d", (4,), {"bias": False}, (3, 4, 5, 2)),
    ("BatchNorm2d", (4,), {"track_running_stats": False}, (3, 4, 5, 2)),
    ("Flatten", (), {}, (2, 3, 4, 5)),
    ("Flatten", (2, 3), {}, (2, 3, 4, 5)),
    ("Unflatten", (1, (2, 3)), {}, (4, 6)),
    ("ReLU", (), {}, (3, 7)),
    ("LeakyReLU", (0.2,), {}, (3, 7)),
    ("Sigmoid", (), {}, (3, 7)),
    ("Tanh", (), {}, (3, 7)),
    ("Softplus", (), {"beta": 2.0, "threshold": 3.0}, (3, 7)),
    ("ELU", (1.5,), {}, (3, 7)),
    ("GELU", (), {}, (3, 7)),
    ("GELU", (), {"approximate": "tanh"}, (3, 7)),
    ("Softmax", (1,), {}, (3, 7)),
    ("Softmax", (), {"dim": 0}, (3, 7)),
    ("LogSoftmax", (-1,), {}, (3, 2, 7)),
    ("Dropout", (0.0,), {}, (3, 7)),
]  # fmt: skip


def _name(case):
    return f"{case[0]}-{case[1]}-{case[2]}-{case[3]}".replace(" ", "") if isinstance(case, tuple) else None


def _pair(case, dtype):
    """The layer in both libraries, with the state of PyTorch's."""
    name, args, options, _ = case
    torch.manual_seed(0)
    theirs = getattr(torch.nn, name)(*args, **options)
    theirs = theirs.double() if dtype == "float64" else theirs
    for parameter in theirs.parameters():  # BatchNorm's ones and zeros would hide a mistake
        parameter.data += 0.1 * torch.randn_like(parameter)
    ours = getattr(fd.nn, name)(*args, **options)
    ours = ours.double() if dtype == "float64" else ours
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def _scale(want):
    return float(np.abs(want).max()) if want.size else 1.0


def _check(got, want, family):
    want = want.detach().cpu().numpy()
    assert_close(got.detach().cpu().numpy(), want, family, scale=_scale(want))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")  # PyTorch makes a copy
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", LAYERS, ids=_name)
def test_layer(device, case, dtype):
    ours, theirs = _pair(case, dtype)
    rng = np.random.default_rng(1)
    for step in range(3):  # training, training, evaluation
        ours.train(step < 2)
        theirs.train(step < 2)
        array = rng.standard_normal(case[3]).astype(dtype)
        x, tx = fd.tensor(array, requires_grad=True), torch.tensor(array, requires_grad=True)
        y, ty = ours(x), theirs(tx)
        _check(y, ty, case[0])
        weights = rng.standard_normal(y.shape).astype(dtype)
        if ty.requires_grad:
            y.backward(fd.tensor(weights))
            ty.backward(torch.tensor(weights))
            _check(x.grad, tx.grad, case[0])
        for (name, parameter), their in zip(ours.named_parameters(), theirs.parameters()):
            assert parameter.grad is not None, name
            _check(parameter.grad, their.grad, case[0])
        for (_, buffer), their in zip(ours.named_buffers(), theirs.buffers()):
            _check(buffer, their, case[0])


@pytest.mark.parametrize("case", LAYERS, ids=_name)
def test_state_goes_both_ways(case):
    ours, theirs = _pair(case, "float32")
    state = ours.state_dict()
    assert list(state) == list(theirs.state_dict())
    fresh = getattr(torch.nn, case[0])(*case[1], **case[2])
    fresh.load_state_dict({name: torch.from_numpy(value.cpu().numpy().copy()) for name, value in state.items()})
    for name, value in theirs.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], value), name
        assert state[name].cpu().numpy().dtype == value.cpu().numpy().dtype, name


@pytest.mark.parametrize("case", LAYERS, ids=_name)
def test_repr(case):
    name, args, options, _ = case
    assert repr(getattr(fd.nn, name)(*args, **options)) == repr(getattr(torch.nn, name)(*args, **options))


def test_max_pool_indices():
    array = np.random.default_rng(0).standard_normal((2, 3, 7, 6)).astype(np.float32)
    options = {"stride": 2, "padding": 1, "return_indices": True}
    y, indices = fd.nn.MaxPool2d(3, **options)(fd.tensor(array))
    want, want_indices = torch.nn.MaxPool2d(3, **options)(torch.tensor(array))
    np.testing.assert_array_equal(y.cpu().numpy(), want.cpu().numpy())
    np.testing.assert_array_equal(indices.cpu().numpy(), want_indices.cpu().numpy())


@pytest.mark.parametrize("padding_idx", [None, 2, -1])
def test_embedding(device, padding_idx):
    theirs = torch.nn.Embedding(6, 4, padding_idx=padding_idx)
    ours = fd.nn.Embedding(6, 4, padding_idx=padding_idx)
    assert repr(ours) == repr(theirs)
    ours.load_state_dict(theirs.state_dict())
    index = np.array([[0, 2, 5], [2, 5, 5]])
    y, ty = ours(fd.tensor(index)), theirs(torch.tensor(index))
    _check(y, ty, "embedding")
    weights = np.random.default_rng(0).standard_normal(y.shape).astype(np.float32)
    y.backward(fd.tensor(weights))
    ty.backward(torch.tensor(weights))
    _check(ours.weight.grad, theirs.weight.grad, "embedding")


LOSSES = [
    ("MSELoss", {}), ("L1Loss", {}), ("BCEWithLogitsLoss", {}), ("CrossEntropyLoss", {}),
    ("BCEWithLogitsLoss", {"weight": True}), ("BCEWithLogitsLoss", {"pos_weight": True}),
    ("CrossEntropyLoss", {"weight": True}), ("CrossEntropyLoss", {"label_smoothing": 0.2}),
    ("CrossEntropyLoss", {"ignore_index": 1, "weight": True, "label_smoothing": 0.1}),
]  # fmt: skip


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name, options", LOSSES)
def test_loss(device, name, options, reduction):
    rng = np.random.default_rng(2)
    array = rng.standard_normal((6, 4)).astype(np.float32)
    target = rng.integers(0, 4, 6) if name == "CrossEntropyLoss" else rng.random((6, 4), np.float32)
    weights = {key: rng.random(4, np.float32) for key, value in options.items() if value is True}
    fixed = {key: value for key, value in options.items() if value is not True} | {"reduction": reduction}
    ours = getattr(fd.nn, name)(**fixed, **{k: fd.tensor(v) for k, v in weights.items()})
    theirs = getattr(torch.nn, name)(**fixed, **{k: torch.tensor(v) for k, v in weights.items()})
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    x, tx = fd.tensor(array, requires_grad=True), torch.tensor(array, requires_grad=True)
    loss, want = ours(x, fd.tensor(target)), theirs(tx, torch.tensor(target))
    _check(loss, want, name)
    loss.sum().backward()
    want.sum().backward()
    _check(x.grad, tx.grad, name)
