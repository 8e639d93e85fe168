"""Module: registration, traversal, modes, conversion, repr."""

import copy
import pickle

import numpy as np
import pytest

import fastdl as fd
from fastdl import nn


class Net(nn.Module):
    """A parameter of its own, a buffer, a shared child and a grandchild."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(np.ones(3, np.float32))
        self.first = nn.Linear(3, 3)
        self.again = self.first
        self.rest = nn.Sequential(nn.BatchNorm1d(3), nn.ReLU())
        self.register_buffer("seen", fd.tensor(np.zeros(2, np.float32)))
        self.register_buffer("scratch", fd.tensor(np.zeros(2, np.float32)), persistent=False)
        self.extra = "plain"

    def forward(self, x):
        return self.rest(self.again(self.first(x * self.scale)))


def names(pairs):
    return [name for name, _ in pairs]


def test_traversal():
    net = Net()
    assert names(net.named_parameters()) == [
        "scale",
        "first.weight",
        "first.bias",
        "rest.0.weight",
        "rest.0.bias",
    ]
    assert names(net.named_parameters(recurse=False)) == ["scale"]
    assert names(net.named_parameters(prefix="net", recurse=False)) == ["net.scale"]
    assert names(net.named_parameters(remove_duplicate=False))[3:5] == ["again.weight", "again.bias"]
    assert names(net.named_modules()) == ["", "first", "rest", "rest.0", "rest.1"]
    assert names(net.named_children()) == ["first", "rest"]
    assert list(net.children()) == [net.first, net.rest]
    assert list(net.modules())[0] is net
    buffers = ["seen", "scratch", "rest.0.running_mean", "rest.0.running_var", "rest.0.num_batches_tracked"]
    assert names(net.named_buffers()) == buffers
    assert [id(b) for b in net.buffers()] == [id(b) for _, b in net.named_buffers()]
    assert [id(p) for p in net.parameters()] == [id(p) for _, p in net.named_parameters()]
    assert net.get_submodule("rest.0") is net.rest[0]
    assert net.get_parameter("first.bias") is net.first.bias
    assert net.get_buffer("rest.0.running_mean") is net.rest[0].running_mean
    with pytest.raises(AttributeError, match="no submodule '7'"):
        net.get_submodule("rest.7")
    with pytest.raises(AttributeError, match="no parameter 'x'"):
        net.get_parameter("first.x")
    with pytest.raises(AttributeError, match="no buffer 'weight'"):
        net.get_buffer("first.weight")


def test_assignment_moves_names_between_registries():
    net = Net()
    weight = net.scale
    net.scale = None  # stays a parameter
    assert "scale" not in names(net.named_parameters()) and net.scale is None
    net.scale = weight
    assert names(net.named_parameters())[0] == "scale"
    net.extra = nn.Linear(1, 1)  # a plain attribute becomes a module
    assert "extra" in names(net.named_children())
    net.extra = nn.Parameter(np.ones(1, np.float32))
    assert "extra" not in names(net.named_children()) and "extra" in names(net.named_parameters())
    del net.extra
    assert not hasattr(net, "extra") and "extra" not in names(net.named_parameters())
    net.seen = fd.tensor(np.ones(2, np.float32))
    assert net.state_dict()["seen"].tolist() == [1, 1]


BAD = [
    (lambda net: setattr(net, "scale", 3), TypeError,
     "cannot assign int to parameter 'scale': Parameter or None"),
    (lambda net: setattr(net, "first", 3), TypeError, "cannot assign int to module 'first': Module or None"),
    (lambda net: setattr(net, "seen", 3), TypeError, "cannot assign int to buffer 'seen': Tensor or None"),
    (lambda net: net.register_parameter("p", 3), TypeError, "cannot assign int to parameter 'p'"),
    (lambda net: net.register_buffer("b", np.ones(2)), TypeError, "cannot assign ndarray to buffer 'b'"),
    (lambda net: net.register_module("m", 3), TypeError, "int is not a Module subclass"),
    (lambda net: net.register_buffer("scale", None), KeyError, "attribute 'scale' already exists"),
    (lambda net: net.register_parameter("a.b", None), KeyError, 'can\'t be empty or contain "."'),
    (lambda net: net.register_parameter("", None), KeyError, 'can\'t be empty or contain "."'),
    (lambda net: net.register_parameter(3, None), TypeError, "parameter name should be a string, got int"),
    (lambda net: net.train("yes"), ValueError, "train: mode must be True or False, got 'yes'"),
    (lambda net: net.to("float16"), TypeError, "int32, int64, uint8 or bool, got float16"),
    (lambda net: net.to(np.int64), TypeError, "to: dtype must be float32, float64 or bfloat16, got int64"),
    (lambda net: nn.Module()(1), NotImplementedError, "missing the required \"forward\" function"),
    (lambda net: net.register_forward_hook(3), TypeError, "hook must be callable, got 3"),
    (lambda net: nn.Parameter([1.0]), TypeError, "data must be a NumPy or CuPy array, got list"),
    (lambda net: nn.Parameter(np.ones(2, np.int64)), TypeError, "only float tensors have gradients"),
]  # fmt: skip


@pytest.mark.parametrize("call, error, message", BAD)
def test_bad_input(call, error, message):
    with pytest.raises(error) as caught:
        call(Net())
    assert message in caught.value.args[0]


def test_attributes_before_init():
    class Hasty(nn.Module):
        def __init__(self):
            self.weight = nn.Parameter(np.ones(1, np.float32))

    with pytest.raises(AttributeError, match="before Module.__init__"):
        Hasty()


def test_modes_and_gradients():
    net = Net()
    assert net.training and net.eval() is net
    assert not any(module.training for module in net.modules())
    assert net.train() is net and all(module.training for module in net.modules())
    net(fd.tensor(np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32))).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    net.zero_grad(set_to_none=False)
    assert all((p.grad.numpy() == 0).all() for p in net.parameters())
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())
    assert net.requires_grad_(False) is net
    assert not any(p.requires_grad for p in net.parameters())


def test_apply_goes_from_the_leaves_up():
    seen = []
    net = Net()
    assert net.apply(lambda module: seen.append(type(module).__name__)) is net
    assert seen == ["Linear", "BatchNorm1d", "ReLU", "Sequential", "Net"]


def test_conversion():
    net = Net()
    parameter = net.first.weight
    before = parameter.detach().numpy().copy()
    assert net.double() is net and net.first.weight is parameter
    assert {str(p.dtype) for p in net.parameters()} == {"float64"}
    assert net.rest[0].running_mean.dtype == np.float64 and net.rest[0].num_batches_tracked.dtype == np.int64
    np.testing.assert_array_equal(parameter.detach().numpy(), before.astype(np.float64))
    net(fd.tensor(np.random.default_rng(0).standard_normal((4, 3)))).sum().backward()
    net.to("float32")
    assert parameter.dtype == np.float32 and parameter.grad.dtype == np.float32
    array = parameter.data
    net.to(dtype="float32").to(fd.get_device())
    assert parameter.data is array  # nothing to do, nothing copied


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies(copied):
    net = Net()
    optimizer = fd.optim.SGD(net.parameters(), lr=1.0)  # its buffer holds the parameters now
    other = copied(net)
    assert other.again is other.first and other.first is not net.first
    assert isinstance(other.first.weight, nn.Parameter)
    for name, parameter in other.named_parameters():  # attribute and registry hold the same object
        path, _, leaf = name.rpartition(".")
        assert getattr(other.get_submodule(path), leaf) is parameter
        np.testing.assert_array_equal(parameter.data, net.get_parameter(name).data)
    before = other.first.weight.data.copy()
    net(fd.tensor(np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32))).sum().backward()
    optimizer.step()
    np.testing.assert_array_equal(other.first.weight.data, before)
    assert other.first.weight.grad is None


def test_conversion_under_an_optimizer_is_refused():
    net = Net()
    optimizer = fd.optim.SGD(net.parameters(), lr=1.0)
    net.double()
    net(fd.tensor(np.random.default_rng(0).standard_normal((4, 3)))).sum().backward()
    with pytest.raises(RuntimeError, match="make a new optimizer"):
        optimizer.step()


def test_repr():
    assert repr(Net()) == (
        "Net(\n"
        "  (first): Linear(in_features=3, out_features=3, bias=True)\n"
        "  (again): Linear(in_features=3, out_features=3, bias=True)\n"
        "  (rest): Sequential(\n"
        "    (0): BatchNorm1d(3, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True)\n"
        "    (1): ReLU()\n"
        "  )\n"
        ")"
    )
    assert repr(nn.Parameter(np.ones(1, np.float32))).startswith("Parameter containing:\ntensor([1.]")


def test_short_names_of_moves():
    net = Net()
    assert net.cpu() is net and net.cpu().first.weight.device == fd.get_device()
