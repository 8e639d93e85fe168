"""state_dict and load_state_dict: names, sharing, in-place loading, what is refused and how."""

import numpy as np
import pytest

import fastdl as fd
from fastdl import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.fc = nn.Linear(3, 2)
        self.register_buffer("scratch", fd.tensor(np.zeros(2, np.float32)), persistent=False)
        self.register_buffer("kept", fd.tensor(np.zeros(2, np.float32)))


NAMES = [
    "kept", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var", "norm.num_batches_tracked",
    "fc.weight", "fc.bias",
]  # fmt: skip


def arrays(seed=0):
    rng = np.random.default_rng(seed)
    state = Net().state_dict()
    return {k: np.asarray(rng.integers(0, 9, v.shape), v.dtype) for k, v in state.items()}


def test_names_and_sharing():
    net = Net()
    state = net.state_dict()
    assert list(state) == NAMES
    assert state["fc.weight"].data is net.fc.weight.data
    assert not state["fc.weight"].requires_grad and type(state["fc.weight"]) is fd.Tensor
    assert net.state_dict(keep_vars=True)["fc.weight"] is net.fc.weight
    assert list(net.state_dict(prefix="net.")) == ["net." + name for name in NAMES]
    into = {}
    assert net.fc.state_dict(destination=into, prefix="x.") is into and list(into) == ["x.weight", "x.bias"]


def test_shared_parameters_are_saved_under_every_name():
    net = nn.Sequential(nn.Linear(2, 2))
    net.append(net[0])
    assert list(net.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]


@pytest.mark.parametrize("kind", ["numpy", "fastdl", "torch", "float64", "strided"])
def test_load_copies_in_place(kind):
    net, want = Net(), arrays()
    before = {k: v.data for k, v in net.state_dict().items()}
    state = want
    if kind == "fastdl":
        state = {k: fd.tensor(v) for k, v in want.items()}
    elif kind == "torch":
        torch = pytest.importorskip("torch")
        state = {k: torch.from_numpy(v).requires_grad_(v.dtype.kind == "f") for k, v in want.items()}
        state["fc.weight"] = state["fc.weight"].detach().bfloat16()  # exact for these small integers
    elif kind == "float64":
        state = {k: v.astype(np.float64) if v.dtype.kind == "f" else v for k, v in want.items()}
    elif kind == "strided":
        state = {k: np.repeat(v, 2, axis=0)[::2] if v.ndim else v for k, v in want.items()}
    missing, unexpected = net.load_state_dict(state)
    assert missing == [] and unexpected == []
    for name, tensor in net.state_dict().items():
        assert tensor.data is before[name], name
        np.testing.assert_array_equal(tensor.numpy(), want[name])


def test_load_is_seen_by_autograd():
    net = Net()
    y = (net.fc.weight * net.fc.weight).sum()
    net.load_state_dict(arrays())
    with pytest.raises(RuntimeError, match="modified"):
        y.backward()


def test_round_trip():
    net, other = Net(), Net()
    other.load_state_dict(net.state_dict())
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(other.state_dict()[name].numpy(), value.numpy())


def test_strict_lists_everything_and_copies_nothing():
    net, state = Net(), arrays()
    del state["fc.bias"], state["norm.bias"]
    state["what"] = state["who"] = np.zeros(1)
    state["fc.weight"] = np.zeros((3, 2), np.float32)
    before = {k: v.numpy().copy() for k, v in net.state_dict().items()}
    with pytest.raises(RuntimeError) as caught:
        net.load_state_dict(state)
    assert str(caught.value) == (
        "Error(s) in loading state_dict for Net:\n"
        '\tMissing key(s) in state_dict: "norm.bias", "fc.bias". \n'
        '\tUnexpected key(s) in state_dict: "what", "who". \n'
        "\tsize mismatch for fc.weight: copying a param with shape (3, 2) from checkpoint, "
        "the shape in current model is (2, 3)."
    )
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name])


def test_not_strict():
    net, state = Net(), arrays()
    del state["fc.bias"]
    state["what"] = np.zeros(1)
    result = net.load_state_dict(state, strict=False)
    assert result.missing_keys == ["fc.bias"] and result.unexpected_keys == ["what"]
    np.testing.assert_array_equal(net.fc.weight.detach().numpy(), state["fc.weight"])
    state["fc.weight"] = np.zeros(7, np.float32)
    with pytest.raises(RuntimeError, match="size mismatch for fc.weight"):
        net.load_state_dict(state, strict=False)


BAD = [
    ([1], TypeError, "load_state_dict: state_dict must be a dict, got list"),
    ({"fc.bias": ["a", "b"]}, RuntimeError, "fc.bias must be an array of numbers"),
    ({"fc.bias": None}, RuntimeError, "fc.bias must be an array of numbers"),
    ({"fc.bias": [[1], [2, 3]]}, RuntimeError, "fc.bias must be an array of numbers"),
    ({"fc.bias": np.zeros(2, np.complex64)}, RuntimeError, "fc.bias must be an array of numbers"),
    ({"norm.num_batches_tracked": np.float32(1.5)}, RuntimeError,
     "dtype mismatch for norm.num_batches_tracked: copying float32 into int64 would lose values"),
]  # fmt: skip


@pytest.mark.parametrize("state, error, message", BAD)
def test_bad_values(state, error, message):
    with pytest.raises(error) as caught:
        Net().load_state_dict(arrays() | state if isinstance(state, dict) else state)
    assert message in str(caught.value)
